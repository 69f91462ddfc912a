"""Matrix-based Renyi quantities: definitions, limits, bounds, and what they are not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import entropy, mutual_information
from estimators.information.renyi import gram, gram_entropy, information


def density(n: int, seed: int) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(n, n))
    return a @ a.T / np.trace(a @ a.T)


@given(st.integers(2, 8), st.integers(0, 99), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]))
def test_entropy_is_its_definition_and_lies_between_its_bounds(n, seed, alpha) -> None:
    a = density(n, seed)
    values = np.linalg.eigvalsh(a)
    plain = (
        -(values * np.log(values)).sum()
        if alpha == 1.0
        else np.log((values**alpha).sum()) / (1 - alpha)
    )
    found = gram_entropy(a, alpha)
    assert found == pytest.approx(plain, abs=1e-9)
    assert -1e-9 <= found <= np.log(n) + 1e-9


@given(st.integers(3, 8), st.integers(0, 99))
def test_entropy_falls_with_its_order(n, seed) -> None:
    found = [gram_entropy(density(n, seed), alpha) for alpha in (0.5, 1.0, 2.0, 4.0)]
    assert all(a >= b - 1e-9 for a, b in pairwise(found))


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_a_joint_matrix_has_at_least_the_entropy_of_each(seed) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, 40, 2))
    a, b = gram(x), gram(y)
    joint = a * b / np.trace(a * b)
    assert gram_entropy(joint, 2.0) >= max(gram_entropy(a, 2.0), gram_entropy(b, 2.0)) - 1e-9
    assert information(a, b, 1.01) >= -1e-9


def test_dependence_is_seen_and_never_taken_for_shannons() -> None:
    x, e = np.random.default_rng(0).normal(size=(2, 300, 1))
    near = mutual_information(x, x + 0.3 * e, method="renyi", permutations=39)
    none = mutual_information(x, e, method="renyi", permutations=39)
    assert near.value > none.value
    assert near.diagnostics["p_value"] == pytest.approx(1 / 40)
    assert none.diagnostics["p_value"] > 1 / 40
    assert not near.reliable
    assert "not Shannon's" in near.reason
    assert near.interval[0] < near.value < near.interval[1]


def test_entropy_of_rows_counts_clusters() -> None:
    x = np.repeat(np.array([[0.0], [50.0], [100.0], [150.0]]), 25, axis=0)
    found = entropy(x + 1e-9 * np.arange(100)[:, None], method="renyi", width=0.01)
    assert found.value == pytest.approx(np.log(4.0), abs=1e-6)
    assert not found.reliable


def test_what_is_refused() -> None:
    x = np.random.default_rng(0).normal(size=(20, 1))
    with pytest.raises(ValueError, match=r"alpha must be positive, got 0"):
        mutual_information(x, x + x**2, method="renyi", alpha=0.0)
    with pytest.raises(ValueError, match=r"the width of a kernel must be positive, got -1"):
        mutual_information(x, x + x**2, method="renyi", width=-1.0)
    with pytest.raises(ValueError, match="at least 10 independent clusters, got 9"):
        mutual_information(x[:9], x[:9] ** 2, method="renyi")
    wide = np.random.default_rng(0).normal(size=(5001, 1))
    with pytest.raises(ValueError, match="at most 5,000 rows, got 5,001"):
        mutual_information(wide, wide**2, method="renyi")
