"""Overlap of two rules: exact chance against enumeration, invariances, bad input."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.scoring.coincidence import coincidence


def jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b)


def score_of(chosen: set[int], n: int) -> list[float]:
    return [0.0 if layer in chosen else 1.0 for layer in range(n)]


@st.composite
def two_sets(draw: st.DrawFn) -> tuple[int, set[int], set[int]]:
    n = draw(st.integers(2, 8))
    size = draw(st.integers(1, n - 1))
    sets = [set(draw(st.permutations(range(n)))[:size]) for _ in range(2)]
    return n, sets[0], sets[1]


@given(two_sets())
def test_chance_is_that_of_all_sets_and_all_rotations(case: tuple[int, set[int], set[int]]) -> None:
    n, a, b = case
    found = coincidence(score_of(a, n), score_of(b, n), len(a))
    assert found.jaccard == pytest.approx(jaccard(a, b))
    drawn = [jaccard(a, set(other)) for other in combinations(range(n), len(a))]
    assert found.expected == pytest.approx(np.mean(drawn))
    assert found.p_permutation == pytest.approx(np.mean(np.array(drawn) >= jaccard(a, b) - 1e-12))
    turned = [jaccard(a, {(layer + turn) % n for layer in b}) for turn in range(n)]
    assert found.p_rotation == pytest.approx(np.mean(np.array(turned) >= jaccard(a, b) - 1e-12))


@given(two_sets())
def test_symmetric_in_the_two_rules(case: tuple[int, set[int], set[int]]) -> None:
    n, a, b = case
    one = coincidence(score_of(a, n), score_of(b, n), len(a))
    two = coincidence(score_of(b, n), score_of(a, n), len(a))
    assert (one.jaccard, one.expected, one.p_permutation, one.p_rotation) == (
        two.jaccard,
        two.expected,
        two.p_permutation,
        two.p_rotation,
    )


def test_runs_of_layers_are_no_surprise_to_the_rotation_null() -> None:
    late = score_of({6, 7, 8, 9, 10, 11}, 12)
    found = coincidence(late, score_of({5, 6, 7, 8, 9, 10}, 12), 6)
    assert found.p_permutation < 0.05 < found.p_rotation


def test_what_is_said_of_bad_input() -> None:
    with pytest.raises(BridgeError, match=r"shapes \(2,\) and \(3,\)"):
        coincidence([0, 1], [0, 1, 2], 1)
    with pytest.raises(BridgeError, match="between 1 and 2, got 3"):
        coincidence([0, 1, 2], [0, 1, 2], 3)
    with pytest.raises(BridgeError, match="NaN"):
        coincidence([0, np.nan, 2], [0, 1, 2], 1)
