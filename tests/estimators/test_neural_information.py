"""Neural bounds and the flow: held out, below the truth, seeded, and honest about both."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import mutual_information
from estimators.information.critics import KINDS

RHO = 0.8
TRUTH = -0.5 * np.log(1 - RHO**2)


def gaussian(n: int, seed: int, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    x, e = np.random.default_rng(seed).normal(size=(2, n, d))
    y = e.copy()
    y[:, 0] = RHO * x[:, 0] + (1 - RHO**2) ** 0.5 * e[:, 0]
    return x, y


def bound(kind: str, x: np.ndarray, y: np.ndarray, **options: object):
    return mutual_information(x, y, method=kind, width=32, epochs=60, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_come_near_the_truth_and_are_never_called_reliable(kind: str) -> None:
    found = bound(kind, *gaussian(2000, 0))
    assert 0.6 * TRUTH < found.value < TRUTH + 0.1
    assert not found.reliable
    assert "bound" in found.reason
    assert found.diagnostics["held_out_rows"] == 400


@pytest.mark.parametrize("kind", KINDS)
def test_independent_rows_read_about_nothing(kind: str) -> None:
    x, _ = gaussian(1500, 1, d=4)
    y, _ = gaussian(1500, 2, d=4)
    found = bound(kind, x, y)
    assert abs(found.value) < 0.06


def test_training_rows_overfit_where_held_out_rows_do_not() -> None:
    """The value comes from rows the critic never saw; one of 60 columns says something."""
    x, y = gaussian(400, 0, d=60)
    found = mutual_information(x, y, method="mine", width=64, epochs=40)
    assert found.value < 0.1
    assert found.diagnostics["training_value"] > found.value + 0.3


def test_a_seed_fixes_everything() -> None:
    x, y = gaussian(400, 3)
    one, two, other = (bound("infonce", x, y, seed=seed) for seed in (5, 5, 6))
    assert one == two
    assert one.value != other.value


def test_rows_of_a_unit_stay_together() -> None:
    x, y = gaussian(200, 4)
    found = bound("infonce", np.repeat(x, 3, 0), np.repeat(y, 3, 0),
                  clusters=np.repeat(np.arange(200), 3))  # fmt: skip
    assert found.n == 200
    assert found.diagnostics["held_out_rows"] % 3 == 0


def test_infonce_says_when_it_is_full() -> None:
    x = np.random.default_rng(0).normal(size=(110, 20))
    found = mutual_information(x, 2 * x + 1, method="infonce", width=64)
    assert "near the largest value of a block of" in found.reason


def test_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    x, y = gaussian(300, 0)
    bound("nwj", x, y, progress=lambda done, of: seen.append((done, of)))
    assert seen[0] == (1, 60)
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))


def test_what_neural_bounds_refuse() -> None:
    x, y = gaussian(90, 0)
    with pytest.raises(ValueError, match="at least 100 independent clusters, got 90"):
        bound("infonce", x, y)
    x, y = gaussian(200, 0)
    with pytest.raises(ValueError, match="count from 1, got 0"):
        mutual_information(x, y, method="mine", width=0)
    with pytest.raises(ValueError, match="'mine' has no option depth; it has width, epochs"):
        mutual_information(x, y, method="mine", depth=3)


def test_flow_leaves_gaussian_rows_as_good_as_they_were() -> None:
    x, y = gaussian(3000, 0, d=3)
    found = mutual_information(x, y, method="flow", epochs=20)
    assert found.interval[0] < TRUTH < found.interval[1]


def test_flow_undoes_a_bend() -> None:
    """x2 hides behind x1^2: no map of single columns finds it, a coupling does."""
    x, y = gaussian(4000, 0)
    bent = np.c_[x[:, 1], x[:, 0] + 2.0 * x[:, 1] ** 2]
    seen = mutual_information(bent, y, method="copula")
    found = mutual_information(bent, y, method="flow")
    assert found.diagnostics["likelihood_gain_x"] > 0.5
    assert seen.value < 0.5 * TRUTH < 0.8 * TRUTH < found.value < TRUTH + 0.1


def test_flow_invents_no_dependence() -> None:
    x, y = np.random.default_rng(7).normal(size=(2, 800, 4))
    found = mutual_information(np.sinh(x), y, method="flow", epochs=20)
    assert found.interval[0] < 0.02


def test_flow_refuses_sizes_below_one() -> None:
    x, y = gaussian(200, 0)
    with pytest.raises(ValueError, match="layers, width and epochs count from 1, got 0"):
        mutual_information(x, y, method="flow", layers=0)
