"""Permutation p-values are uniform where nothing is shared, for each method that has one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from estimators import mutual_information, usable_information

RUNS = 500
CONTINUOUS = ("gaussian", "spiked", "gaussian-pair", "copula", "ksg1", "ksg2")


def p_values(ask) -> list[float]:
    return [ask(np.random.default_rng(run), run) for run in range(RUNS)]


def uniform(found: list[float], permutations: int) -> None:
    """Kolmogorov-Smirnov; the ties of (1 + k) / (1 + N) are spread by a seeded draw."""
    spread = np.array(found) - np.random.default_rng(0).random(len(found)) / (permutations + 1)
    assert kstest(spread, "uniform").pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("method", CONTINUOUS)
def test_uniform_for_continuous_variables(method: str) -> None:
    def ask(rng: np.random.Generator, run: int) -> float:
        x, y = rng.normal(size=(60, 2)), rng.exponential(size=(60, 1))
        found = mutual_information(x, y, method=method, permutations=39, seed=run)
        return float(found.diagnostics["p_value"])

    uniform(p_values(ask), 39)


@pytest.mark.slow
def test_uniform_for_labels() -> None:
    def ask(rng: np.random.Generator, run: int) -> float:
        x, y = rng.normal(size=(60, 1)), rng.integers(0, 3, size=60)
        found = mutual_information(x, y, method="mixed-ksg", permutations=39, seed=run)
        return float(found.diagnostics["p_value"])

    uniform(p_values(ask), 39)


@pytest.mark.slow
def test_uniform_for_whole_clusters() -> None:
    """Rows of a cluster repeat each other, and clusters are what is permuted."""

    def ask(rng: np.random.Generator, run: int) -> float:
        x, y = (np.repeat(rng.normal(size=(30, 2)), 3, axis=0) for _ in range(2))
        found = mutual_information(
            x, y, method="gaussian", permutations=39, seed=run, clusters=np.repeat(np.arange(30), 3)
        )
        return float(found.diagnostics["p_value"])

    uniform(p_values(ask), 39)


@pytest.mark.slow
def test_uniform_for_usable_information() -> None:
    def ask(rng: np.random.Generator, run: int) -> float:
        x, y = rng.normal(size=(40, 2)), rng.integers(0, 2, size=40)
        y[:2] = 0, 1
        found = usable_information(x, y, method="linear", folds=2, permutations=9, seed=run)
        return float(found.diagnostics["p_value"])

    uniform(p_values(ask), 9)


@pytest.mark.parametrize("method", CONTINUOUS)
def test_signal_has_the_least_p_value(method: str) -> None:
    x, e = np.random.default_rng(0).normal(size=(2, 200, 2))
    found = mutual_information(x, x + e, method=method, permutations=99)
    assert found.diagnostics["p_value"] == pytest.approx(0.01)


@pytest.mark.parametrize("method", CONTINUOUS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_tensors_are_arrays(method: str, dtype: torch.dtype, tolerance: float) -> None:
    x, e = np.random.default_rng(0).normal(size=(2, 300, 2))
    kind = np.float64 if dtype == torch.float64 else np.float32
    arrays = [x.astype(kind), (x + e).astype(kind)]
    one = mutual_information(*arrays, method=method)
    two = mutual_information(*(torch.tensor(a) for a in arrays), method=method)
    assert two.value == pytest.approx(one.value, abs=tolerance)
    full = mutual_information(x, x + e, method=method)
    # Single precision moves a neighbour estimate by whole ranks, a smooth one by its rounding.
    loose = 0.01 if method.startswith("ksg") else 1e-5
    assert one.value == pytest.approx(full.value, abs=tolerance if kind is np.float64 else loose)
