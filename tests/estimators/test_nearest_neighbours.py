"""Nearest-neighbour estimators against plain loops, closed forms and their own warnings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import psi

from estimators import conditional_mutual_information, entropy, mutual_information
from estimators.information._neighbours import (
    counts_within,
    nearest,
    radii_and_counts,
    standardised,
)
from estimators.information.ksg import neighbours


def bivariate(n: int, information: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rho = (1 - np.exp(-2 * information)) ** 0.5
    x, e = np.random.default_rng(seed).normal(size=(2, n, 1))
    return x, rho * x + (1 - rho**2) ** 0.5 * e


def chebyshev(rows: np.ndarray) -> np.ndarray:
    table = np.abs(rows[:, None] - rows[None]).max(axis=-1)
    np.fill_diagonal(table, np.inf)
    return table


@given(
    st.integers(5, 40), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99)
)
def test_neighbours_and_counts_are_those_of_all_pairs(
    n: int, p: int, q: int, k: int, seed: int
) -> None:
    """On a coarse grid, so that distances tie; every route (tree, sorted column, tables)."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-8, 8, size=(n, p)) / 4.0, rng.integers(-8, 8, size=(n, q)) / 4.0
    far_a, far_b = chebyshev(a), chebyshev(b)
    kth = np.sort(np.maximum(far_a, far_b), axis=1)[:, k - 1]
    for strict in (True, False):
        radii, (near_a, near_b) = radii_and_counts([a, b], (k,), strict=strict)
        assert radii[:, 0] == pytest.approx(kth)
        for near, far in ((near_a, far_a), (near_b, far_b)):
            inside = far < kth[:, None] if strict else far <= kth[:, None]
            assert near[:, 0].tolist() == inside.sum(axis=1).tolist()
            assert (
                counts_within(a if near is near_a else b, radii, strict=strict)[:, 0].tolist()
                == near[:, 0].tolist()
            )
    assert nearest(a, (k,))[:, 0] == pytest.approx(np.sort(far_a, axis=1)[:, k - 1])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_nothing_lies_strictly_within_no_distance(p: int) -> None:
    rows = np.repeat(np.random.default_rng(0).normal(size=(6, p)), 3, axis=0)
    none = np.zeros((18, 1))
    assert counts_within(rows, none, strict=True).ravel().tolist() == [0] * 18
    assert counts_within(rows, none, strict=False).ravel().tolist() == [2] * 18


@pytest.mark.parametrize("p", [1, 3])
def test_ksg1_is_its_formula(p: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, p))
    y = x[:, :1] + rng.normal(size=(120, 1))
    a, b = chebyshev(standardised(x)), chebyshev(standardised(y))
    kth = np.sort(np.maximum(a, b), axis=1)[:, 3]
    near_x, near_y = (a < kth[:, None]).sum(1), (b < kth[:, None]).sum(1)
    plain = psi(4) + psi(120) - np.mean(psi(near_x + 1) + psi(near_y + 1))
    found = mutual_information(x, y, method="ksg1", k=4)
    assert found.diagnostics["raw"] == pytest.approx(plain)


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("truth", [0.0, 0.3, 1.0])
def test_ksg_reads_gaussians(method: str, truth: float) -> None:
    found = mutual_information(*bivariate(1500, truth, 0), method=method)
    assert found.interval[0] <= truth <= found.interval[1]
    assert found.reliable


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.3, 1.0])
def test_ksg_intervals_cover(truth: float) -> None:
    found = [
        mutual_information(*bivariate(1000, truth, seed), method="ksg1", level=0.9)
        for seed in range(120)
    ]
    covered = np.mean([e.interval[0] <= truth <= e.interval[1] for e in found])
    assert covered >= 0.82


def test_ksg_does_not_see_scales_and_shifts() -> None:
    x, y = bivariate(400, 0.5, 1)
    one = mutual_information(x, y, method="ksg1").value
    assert mutual_information(100 * x - 7, y / 9, method="ksg1").value == pytest.approx(one)


def test_many_columns_are_not_reliable() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 300, 5))
    found = mutual_information(x, y, method="ksg1")
    assert not found.reliable
    assert "10 columns: nearest neighbours are biased towards zero" in found.reason


def test_repeated_rows_are_told() -> None:
    x, y = bivariate(100, 0.5, 0)
    found = mutual_information(np.repeat(x, 2, 0), np.repeat(y, 2, 0), method="ksg1")
    assert "50% of the rows of x repeat an earlier one" in found.reason


def mixture_information(mu: float) -> float:
    def density(t: float) -> float:
        return 0.5 * float(np.exp(-0.5 * (t - mu) ** 2) + np.exp(-0.5 * (t + mu) ** 2)) / 2.5066283

    h = -quad(lambda t: density(t) * np.log(density(t)), -12, 12)[0]
    return max(0.0, float(h - 0.5 * np.log(2 * np.pi * np.e)))


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.5])
def test_mixed_ksg_reads_a_mixture(mu: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=2000)
    x = mu * (2 * y - 1)[:, None] + rng.normal(size=(2000, 1))
    found = mutual_information(x, y, method="mixed-ksg")
    truth = mixture_information(mu)
    assert found.interval[0] <= truth <= found.interval[1]
    names = np.array(["no", "yes"])[y]
    assert mutual_information(x, names, method="mixed-ksg").value == found.value


def test_labels_that_occur_once() -> None:
    x = np.random.default_rng(0).normal(size=(30, 1))
    with pytest.raises(ValueError, match="no label occurs twice"):
        mutual_information(x, np.arange(30), method="mixed-ksg")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        mutual_information(x, np.arange(30) % 2, method="mixed-ksg", k=0)


@pytest.mark.parametrize("d", [1, 3])
def test_entropies_of_known_laws(d: int) -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(3000, d)) * 2.0
    truth = d * 0.5 * np.log(2 * np.pi * np.e * 4.0)
    for method in ("gaussian", "knn"):
        found = entropy(normal, method=method)
        assert found.interval[0] <= truth <= found.interval[1]
    uniform = entropy(rng.uniform(0, 3, size=(3000, 1)), method="knn")
    assert uniform.value == pytest.approx(np.log(3.0), abs=0.06)
    assert not entropy(rng.uniform(0, 3, size=(3000, 1)), method="gaussian").reliable


def test_entropy_scales_with_its_variable() -> None:
    x = np.random.default_rng(1).normal(size=(500, 2))
    for method in ("gaussian", "knn"):
        one, two = entropy(x, method=method).value, entropy(5 * x, method=method).value
        assert two - one == pytest.approx(2 * np.log(5.0))


def test_entropy_of_repeats_is_refused() -> None:
    x = np.repeat(np.arange(10.0), 20)[:, None]
    with pytest.raises(ValueError, match="coincides with its 3 nearest rows"):
        entropy(x, method="knn")


def chain(n: int, seed: int) -> tuple[np.ndarray, ...]:
    """X -> Z -> Y and more: I(X;Y|Z) is that of the shared noise, 1/2 ln 2."""
    z, s, e1, e2 = np.random.default_rng(seed).normal(size=(4, n, 1))
    return z + s + 0.0 * e1, z + s + e2, z


@pytest.mark.parametrize("method", ["gaussian", "copula", "knn", "auto"])
def test_conditional_information_of_a_gaussian(method: str) -> None:
    x, y, z = chain(2500, 0)
    found = conditional_mutual_information(x, y, z, method=method)
    assert found.interval[0] <= 0.5 * np.log(2) <= found.interval[1]


@pytest.mark.parametrize("method", ["gaussian", "copula", "knn"])
def test_a_markov_chain_shares_nothing_given_its_middle(method: str) -> None:
    x, e, f = np.random.default_rng(0).normal(size=(3, 2500, 1))
    z = x + e
    found = conditional_mutual_information(x, z + f, z, method=method)
    assert found.interval[0] <= 0.0 <= found.interval[1]


def test_what_is_projected_out_costs_degrees_of_freedom() -> None:
    """With 40 columns of z and 80 rows the residuals correlate by chance twice as much."""
    found = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        x, y, z = rng.normal(size=(80, 3)), rng.normal(size=(80, 3)), rng.normal(size=(80, 40))
        one = conditional_mutual_information(x + z[:, :3], y + z[:, :3], z, method="gaussian")
        found.append(one.diagnostics["unbiased"])
    assert abs(np.mean(found)) < 4 * np.std(found) / len(found) ** 0.5


def test_a_column_that_z_determines() -> None:
    x, z = np.random.default_rng(0).normal(size=(2, 100, 1))
    with pytest.raises(ValueError, match="a linear function of z"):
        conditional_mutual_information(3 * z, x, z, method="gaussian")


def test_numbers_of_neighbours() -> None:
    assert neighbours((5, 3, 3), 10) == (3, 5)
    with pytest.raises(ValueError, match="between 1 and n - 1 = 9, got 10"):
        neighbours(10, 10)
