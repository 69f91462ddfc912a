"""Information of few rows: an honest interval or a clear refusal, no warning."""

import warnings

import numpy as np
import pytest

from estimators import (
    conditional_mutual_information,
    effective_rank,
    entropy,
    mutual_information,
    usable_information,
)


def _normal(n: int, d: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("n", "seed"), [(n, seed) for n in (3, 6, 7) for seed in range(8)])
def test_more_columns_than_rows_have_a_numeric_interval(n, seed):
    e = mutual_information(_normal(n, 30, seed), _normal(n, 1, seed + 100))
    assert e.interval[0] <= e.value <= e.interval[1]
    assert not e.reliable


@pytest.mark.parametrize("n", [4, 7, 10, 19])
def test_too_few_rows_for_neighbours_leave_an_unreliable_estimate(n):
    x, y, z = (_normal(n, seed=seed) for seed in range(3))
    for e in (mutual_information(x, y), conditional_mutual_information(x, y, z), entropy(x)):
        assert e.interval[0] <= e.value <= e.interval[1]
        assert not e.reliable
        assert f"{n} independent rows are too few" in e.reason


@pytest.mark.parametrize(
    "call",
    [
        lambda x: mutual_information(x, x),
        lambda x: mutual_information(x, x, method="shrinkage"),
        lambda x: conditional_mutual_information(x, x, x),
        entropy,
    ],
)
def test_one_row_is_refused(call):
    with pytest.raises(ValueError, match="1 row is too few"):
        call(_normal(1))


def test_fewer_rows_than_folds_are_refused():
    with pytest.raises(ValueError, match="1 independent clusters cannot fill 5 folds"):
        usable_information(_normal(1), _normal(1))


def test_fewer_rows_than_columns_never_identify_the_information_of_vectors():
    """As README says; ranks of few directions may be reliable."""
    x = _normal(200, 2) @ _normal(2, 300, 1)
    assert not mutual_information(x, x[:, :1] + _normal(200, 1, 2)).reliable
    assert not usable_information(_normal(200, 300), _normal(200) > 0, method="linear").reliable
    assert effective_rank(x).reliable
