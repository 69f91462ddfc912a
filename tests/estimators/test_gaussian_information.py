"""Gaussian methods of information: closed forms, invariances, bias, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma

import estimators
from estimators.information._canonical import canonical
from estimators.information._neighbours import standardised
from estimators.information._null import draw_permutations, permutation_p_value
from estimators.information._request import Request
from estimators.information.gaussian import spiked_gaps, unbiased
from estimators.information.shrinkage import shrunk_correlations

AFFINE = ("gaussian", "spiked", "gaussian-pair")
ANY_GAUSSIAN = (*AFFINE, "copula", "shrinkage")


def correlated(n, p, q, rho, seed, pairs=None):
    """x and y whose first columns correlate by rho in pairs."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    pairs = min(p, q) if pairs is None else pairs
    y[:, :pairs] = rho * x[:, :pairs] + math.sqrt(1 - rho**2) * y[:, :pairs]
    return x, y


def truth(rho, pairs):
    return -0.5 * pairs * math.log(1 - rho**2)


def mi(x, y, **options):
    return estimators.mutual_information(x, y, **options)


def plain_unbiased(x, y):
    """Log-determinants of the three covariances, and a sum over dimensions by hand."""
    n, p, q = len(x), x.shape[1], y.shape[1]

    def log_det(rows):
        return np.linalg.slogdet(np.atleast_2d(np.cov(rows.T)))[1]

    raw = 0.5 * (log_det(x) + log_det(y) - log_det(np.hstack([x, y])))
    v = n - 1
    bias = sum(
        digamma((v - i + 1) / 2) - digamma((v - max(p, q) - i + 1) / 2)
        for i in range(1, min(p, q) + 1)
    )
    return raw - 0.5 * bias


@given(st.integers(1, 5), st.integers(1, 5), st.integers(12, 60), st.integers(0, 99))
def test_unbiased_is_its_formula(p, q, n, seed):
    x, y = correlated(n, p, q, 0.6, seed)
    found = mi(x, y, method="gaussian").diagnostics["unbiased"]
    assert found == pytest.approx(plain_unbiased(x, y), abs=1e-10)


@pytest.mark.parametrize(("p", "q", "n"), [(1, 1, 6), (3, 2, 15), (8, 8, 30)])
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_unbiased_has_no_bias_and_the_variance_it_says(p, q, n, rho):
    pairs = [canonical(*correlated(n, p, q, rho, seed)) for seed in range(1500)]
    found = np.array([unbiased(pair) for pair in pairs])
    error = found[:, 0].std() / math.sqrt(len(found))
    assert abs(found[:, 0].mean() - truth(rho, min(p, q))) < 4 * error
    if rho == 0.0:  # the plug-in of the signal is never negative, so small n says too much
        spread = found[:, 0].var()
        assert 0.7 * spread < found[:, 1].mean() < 2.5 * spread


@pytest.mark.parametrize("method", AFFINE)
@given(st.integers(0, 999), st.floats(-3, 3), st.integers(1, 4), st.integers(1, 4))
def test_invertible_affine_maps_change_nothing(method, seed, shift, p, q):
    rng = np.random.default_rng(seed)
    x, y = correlated(80, p, q, 0.7, seed)
    a = np.linalg.qr(rng.normal(size=(p, p)))[0] * rng.uniform(0.1, 10.0, size=p)
    b = np.linalg.qr(rng.normal(size=(q, q)))[0] * rng.uniform(0.1, 10.0, size=q)
    before, after = mi(x, y, method=method), mi(x @ a + shift, y @ b - shift, method=method)
    assert after.value == pytest.approx(before.value, abs=1e-8)
    assert after.interval == pytest.approx(before.interval, abs=1e-8)
    assert after.reliable == before.reliable


@given(st.integers(0, 999))
@pytest.mark.slow
def test_copula_does_not_see_the_marginals(seed):
    x, y = correlated(60, 3, 2, 0.7, seed)
    before = mi(x, y, method="copula")
    after = mi(np.exp(x), np.arctan(y) - y**3 * -1.0, method="copula")
    assert after == before


@pytest.mark.parametrize("method", ANY_GAUSSIAN)
def test_order_of_rows_and_of_sides_changes_nothing(method):
    x, y = correlated(300, 4, 2, 0.6, 3)
    order = np.random.default_rng(0).permutation(300)
    before = mi(x, y, method=method).value
    assert mi(x[order], y[order], method=method).value == pytest.approx(before, abs=1e-9)
    # Shrinkage draws samples of the model, in the order of the columns.
    near = 0.02 if method == "shrinkage" else 1e-9
    assert mi(y, x, method=method).value == pytest.approx(before, abs=near)


@pytest.mark.parametrize("method", [*ANY_GAUSSIAN, "auto"])
@pytest.mark.parametrize(("rho", "p", "q"), [(0.0, 3, 3), (0.5, 6, 5), (0.9, 8, 8)])
def test_truth_is_found_in_many_rows(method, rho, p, q):
    x, y = correlated(5000, p, q, rho, 1)
    found = mi(x, y, method=method, level=0.999)
    low, high = found.interval
    assert low <= truth(rho, min(p, q)) <= high
    assert found.reliable or found.interval[1] - found.interval[0] > 0.2, found.reason


@pytest.mark.parametrize("method", [*AFFINE, "copula"])
def test_too_few_rows_are_refused_by_name(method):
    x, y = correlated(9, 4, 5, 0.5, 0)
    with pytest.raises(ValueError, match=r"^9 rows are too few for 4 \+ 5 columns: with n - 1 <"):
        mi(x, y, method=method)
    mi(*correlated(10, 4, 5, 0.5, 0), method=method)  # v = p + q is enough


def test_shrinkage_without_enough_rows_is_not_reliable():
    found = mi(*correlated(40, 30, 30, 0.5, 0), method="shrinkage")
    assert not found.reliable
    assert found.interval[1] == math.inf
    assert "the value depends on shrinkage: 40 rows are too few for 30 + 30 columns" in found.reason
    with pytest.raises(ValueError, match="resamples must be at least 10, got 3"):
        mi(*correlated(40, 3, 3, 0.5, 0), method="shrinkage", resamples=3)


def test_shrinkage_weight_is_its_formula():
    rows = standardised(np.random.default_rng(0).normal(size=(40, 5)))
    n, d = rows.shape
    matrix, weight = shrunk_correlations(rows)
    top = bottom = 0.0
    for i in range(d):
        for j in range(d):
            if i != j:
                w = rows[:, i] * rows[:, j]
                top += n / (n - 1) ** 3 * ((w - w.mean()) ** 2).sum()
                bottom += w.mean() ** 2
    # Their r has the n - 1 of unbiased variances, ours n: equal up to this factor of the sums.
    assert weight == pytest.approx(min(1.0, top / bottom), rel=0.1)
    r = np.corrcoef(rows.T)
    np.testing.assert_allclose(matrix, (1 - weight) * r + weight * np.eye(d), atol=1e-12)


def test_collinear_columns_are_named():
    x, y = correlated(100, 3, 2, 0.5, 0)
    x = np.column_stack([x, x[:, 0] + 2 * x[:, 1]])
    message = "column 3 of x is a linear combination of the columns before it"
    with pytest.raises(ValueError, match=message):
        mi(x, y, method="gaussian")


@pytest.mark.parametrize("pairs", [0, 1, 3])
def test_spikes_are_kept_and_debiased(pairs):
    kept, values = [], []
    for seed in range(20):
        pair = canonical(*correlated(600, 60, 40, 0.8, seed, pairs=pairs))
        rho = 1.0 - spiked_gaps(pair)
        kept.append(rho.size)
        values += [*rho]
    assert np.mean(kept) == pytest.approx(pairs, abs=0.15)
    if pairs:
        raw = canonical(*correlated(600, 60, 40, 0.8, 0, pairs=pairs)).squared[0]
        assert np.mean(values) == pytest.approx(0.64, abs=0.02)
        assert raw > 0.68  # what the debiasing is for


def test_spread_information_beside_the_spikes_is_told():
    # 60 pairs of .1 nat each: hardly one stands out.
    x, y = correlated(2000, 60, 60, math.sqrt(1 - math.exp(-0.2)), 0)
    found = mi(x, y, method="spiked")
    assert found.value < 6.0 - 1.0
    assert "pairs miss information" in found.reason


def test_pair_interval_has_both_sides():
    x, y = correlated(600, 100, 100, 0.9, 0, pairs=1)
    alone, strong = (mi(x, y, method=m) for m in ("gaussian", "spiked"))
    both = mi(x, y, method="gaussian-pair")
    assert both.interval[1] == pytest.approx(alone.interval[1], abs=1e-12)
    assert both.interval[0] == pytest.approx(max(alone.interval[0], strong.interval[0]), abs=1e-9)
    assert both.interval[0] <= both.value <= both.interval[1]


# --- what is not Gaussian -------------------------------------------------------------------


@pytest.mark.parametrize("method", [*ANY_GAUSSIAN, "auto"])
def test_a_scale_that_both_sides_share_is_told(method):
    rng = np.random.default_rng(0)
    scale = np.exp(0.3 * rng.normal(size=(2000, 1)))
    x, y = rng.normal(size=(2, 2000, 30)) * scale
    found = mi(x, y, method=method)
    assert not found.reliable
    assert "share a scale: their norms correlate by" in found.reason


@pytest.mark.parametrize("id", [t.id for t in estimators.tasks.TASKS if "spiral" in t.id])
def test_spirals_are_told(id):
    found = mi(*estimators.tasks.task(id).sample(10_000, seed=40))
    assert not found.reliable, found


def test_heavy_tails_are_told():
    rng = np.random.default_rng(0)
    x = rng.standard_t(4, size=(3000, 5))
    found = mi(x, x + rng.standard_t(4, size=(3000, 5)), method="gaussian")
    assert "x is not Gaussian: its kurtosis is" in found.reason


@pytest.mark.parametrize("d", [1, 2, 10, pytest.param(30, marks=pytest.mark.slow)])
def test_gaussian_rows_pass_their_checks(d):
    failed = [
        mi(*correlated(50 * d, d, d, 0.6, seed), method="gaussian-pair").diagnostics[
            "failed_checks"
        ]
        for seed in range(15)
    ]
    assert sum(failed) <= 1


# --- groups ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*AFFINE, "copula", "shrinkage"])
def test_repeated_rows_are_worth_one_each(method):
    x, y = correlated(600, 3, 3, 0.7, 0)
    groups = np.repeat(np.arange(600), 5)
    once = mi(x, y, method=method)
    five = mi(np.repeat(x, 5, 0), np.repeat(y, 5, 0), method=method, clusters=groups)
    naive = mi(np.repeat(x, 5, 0), np.repeat(y, 5, 0), method=method)
    width, wide = (e.interval[1] - e.interval[0] for e in (once, five))
    assert five.n == 600
    assert naive.n == 3000
    assert wide == pytest.approx(width, rel=0.25)
    assert naive.interval[1] - naive.interval[0] < 0.6 * width
    assert five.value == pytest.approx(once.value, abs=0.02)


def test_groups_worth_too_few_rows_are_refused():
    x, y = correlated(20, 12, 12, 0.5, 0)
    rows = [np.repeat(side, 5, axis=0) for side in (x, y)]
    with pytest.raises(ValueError, match=r"100 rows in 20 clusters are worth 20 independent rows"):
        mi(*rows, method="gaussian", clusters=np.repeat(np.arange(20), 5))


# --- permutations ---------------------------------------------------------------------------


def test_permutation_test_is_its_definition():
    x, y = correlated(40, 3, 4, 0.4, 0)
    ask = Request(permutations=199)
    pair = canonical(x, y)
    seen = plain_unbiased(x, y)
    above = sum(plain_unbiased(x, y[order]) >= seen - 1e-9 for order in draw_permutations(ask, 40))
    assert permutation_p_value(pair, ask) == {"p_value": (1 + above) / 200, "permutations": 199}


def test_whole_groups_move_among_groups_of_their_size():
    codes = np.array([0, 0, 1, 1, 2, 3, 2, 3, 4, 4, 4])
    for order in draw_permutations(Request(codes=codes, permutations=50), len(codes)):
        assert sorted(order) == list(range(11))
        for group in range(5):
            came = codes[order[codes == group]]
            assert len(set(came)) == 1
            assert (codes == came[0]).sum() == (codes == group).sum()
    with pytest.raises(ValueError, match="no two clusters have equally many rows"):
        draw_permutations(Request(codes=np.array([0, 0, 1]), permutations=5), 3)


def test_every_order_of_few_rows_is_drawn_alike():
    drawn = draw_permutations(Request(permutations=6000), 3)
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.max() - counts.min() < 6 * math.sqrt(1000)
