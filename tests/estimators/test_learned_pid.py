"""Learned PID of rows about labels: planted gates, sum rules, and when it must not be believed."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import PID, pid
from estimators.decomposition.learned import fit_learned_pid

GATES = {
    "xor": (0.0, 0.0, 0.0, 1.0),
    "and": (0.3113, 0.0, 0.0, 0.5),
    "copy": (0.0, 1.0, 0.0, 0.0),
    "same": (1.0, 0.0, 0.0, 0.0),
}


def planted(kind: str, n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bits shown in an eighth of the columns, three standard deviations apart in all."""
    rng = np.random.default_rng(seed)
    b1, b2 = rng.integers(0, 2, size=(2, n))
    b2 = b1 if kind == "same" else b2
    y = {"xor": b1 ^ b2, "and": b1 & b2, "copy": b1, "same": b1}[kind]
    shown = max(1, d // 8)
    sides = []
    for bit in (b1, b2):
        x = rng.normal(size=(n, d))
        x[:, :shown] += (2 * bit - 1)[:, None] * 3.0 / shown**0.5
        sides.append(x)
    return sides[0], sides[1], y


def worst(found: PID, kind: str) -> float:
    return float(np.abs(np.array(list(found.atoms.values())) - GATES[kind]).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xor", pytest.param("same", marks=pytest.mark.slow)])
def test_planted_gates_are_read(kind: str) -> None:
    found = fit_learned_pid(*planted(kind, 1000, 4, 0), codes=2, unit="bits")
    assert found.reliable
    assert worst(found, kind) <= 0.1
    assert found.n == 1000


@pytest.mark.slow
@pytest.mark.parametrize("d", [4, 64, 4096])
@pytest.mark.parametrize("kind", GATES)
def test_right_within_a_tenth_of_a_bit_or_not_called_reliable(kind: str, d: int) -> None:
    found = fit_learned_pid(*planted(kind, 2000, d, 1), unit="bits")
    assert worst(found, kind) <= 0.1 or not found.reliable
    assert found.redundant + found.unique_1 == pytest.approx(found.information_1)
    assert found.total == pytest.approx(sum(found.atoms.values()))


@pytest.mark.slow
def test_noise_in_the_target_is_not_told_from_what_was_missed() -> None:
    x1, x2, _ = planted("xor", 400, 3, 2)
    y = np.random.default_rng(0).integers(0, 2, size=400)
    found = fit_learned_pid(x1, x2, y, codes=2, unit="bits")
    assert found.total < 0.05
    assert not found.reliable
    assert "entropy unexplained" in found.reason


@pytest.mark.slow
def test_wide_rows_are_not_called_reliable() -> None:
    found = fit_learned_pid(*planted("same", 100, 40, 0), codes=2)
    assert not found.reliable
    assert "100 rows are too few to learn codes of 40 columns" in found.reason


@pytest.mark.slow
def test_exchanging_the_sources_exchanges_the_uniques() -> None:
    x1, x2, y = planted("copy", 500, 4, 3)
    one, two = fit_learned_pid(x1, x2, y, codes=2), fit_learned_pid(x2, x1, y, codes=2)
    assert one.unique_1 == pytest.approx(two.unique_2, abs=0.08)


@pytest.mark.slow
def test_a_seed_fixes_it() -> None:
    data = planted("and", 100, 3, 0)
    assert fit_learned_pid(*data, codes=2, seed=1) == fit_learned_pid(*data, codes=2, seed=1)


@pytest.mark.slow
def test_units_stay_together_and_are_counted() -> None:
    x1, x2, y = planted("copy", 100, 3, 0)
    images = np.repeat(np.arange(100), 2)
    found = fit_learned_pid(
        *(np.repeat(a, 2, axis=0) for a in (x1, x2, y)), codes=2, clusters=images
    )
    assert found.n == 100
    assert "rows share clusters" in found.reason


@pytest.mark.slow
def test_the_verb_chooses_by_the_kind_of_data() -> None:
    x1, x2, y = planted("copy", 100, 3, 0)
    assert "learned" in pid(x1, x2, y, codes=2).method
    noise = np.random.default_rng(0).normal(size=x1.shape)
    assert "gaussian" in pid(x1, x2, x1 + x2 + noise, resamples=10).method
    assert pid((x1[:, 0] > 0).astype(int), (x2[:, 0] > 0).astype(int), y).method.startswith(
        "smooth-bootstrap"
    )


def test_whole_numbers_in_rows_are_categories() -> None:
    bits = np.random.default_rng(0).integers(0, 2, size=(300, 2)).astype(float)
    found = pid(bits[:, :1], bits[:, 1:], bits.sum(axis=1).astype(int))
    assert found.method.startswith("smooth-bootstrap")


def test_bad_input() -> None:
    x1, x2, y = planted("copy", 40, 3, 0)
    with pytest.raises(ValueError, match="at least 2 codes, got 1"):
        fit_learned_pid(x1, x2, y, codes=1)
    with pytest.raises(ValueError, match=r"y must be \(n,\) labels"):
        fit_learned_pid(x1, x2, y[:, None].astype(float))
    with pytest.raises(ValueError, match="unknown method 'magic'; choose from auto"):
        pid(x1, x2, y, method="magic")
    broken = x2.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"x2\[3, 1\] is nan"):
        fit_learned_pid(x1, broken, y)
