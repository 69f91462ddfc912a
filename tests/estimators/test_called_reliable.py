"""Estimates that call themselves reliable are narrow and right; intervals stay in what can be."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import (
    discrete,
    effective_rank,
    entropy,
    intrinsic_dimension,
    linear_cka,
    matrix_entropy,
    usable_information,
)
from estimators._arrays import as_rows
from estimators._autocorrelation import neighbour_correlation, order_note

LN2 = math.log(2.0)


def half(estimate):
    return (estimate.interval[1] - estimate.interval[0]) / 2


def narrow(estimate):
    return half(estimate) <= max(0.1, 0.1 * abs(estimate.value)) + 1e-12


def wrong(estimate, truth):
    low, high = estimate.interval
    return estimate.reliable and not low - 1e-9 <= truth <= high + 1e-9


@pytest.mark.parametrize("n", range(1, 20))
def test_a_handful_of_rows_is_never_reliable(n):
    for values in ([0] * n, [0, 1] * n):
        estimate = discrete.entropy(values[:n])
        assert not estimate.reliable
        assert f"{n} rows are too few" in estimate.reason
    assert not discrete.mutual_information([0, 1] * n, [0, 1] * n).reliable or n > 9


def test_constant_symbols_do_not_rule_out_a_rare_other_one():
    # 100 draws of a coin of 1 % are all equal in 37 % of samples.
    never = discrete.entropy([0] * 100)
    assert never.interval[1] > 0.056  # h(0.01)
    assert never.interval[0] == 0.0


@pytest.mark.parametrize(("p", "n"), [(0.5, 10), (0.5, 100), (0.1, 10), (0.01, 100), (0.3, 1000)])
def test_reliable_entropies_of_coins_hold_the_truth(p, n):
    truth = -p * math.log(p) - (1 - p) * math.log(1 - p)
    estimates = [
        discrete.entropy((np.random.default_rng(seed).random(n) < p).astype(int))
        for seed in range(100)
    ]
    reliable = [e for e in estimates if e.reliable]
    assert all(narrow(e) for e in reliable)
    assert sum(wrong(e, truth) for e in reliable) <= 0.1 * len(reliable)
    assert len(reliable) >= {10: 0, 100: 30 if p < 0.1 else 100, 1000: 100}[n]
    assert n > 10 or not reliable


SYMBOLS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=60)


@given(SYMBOLS, st.sampled_from(["plugin", "grassberger", "nsb", "chao-shen", "miller-madow"]))
@settings(max_examples=60, deadline=None)
def test_discrete_intervals_never_leave_what_is_possible(rows, method):
    x, y, z = np.array(rows).T
    # A symbol that occurs once says that others may be missing.
    counts = [np.bincount(v) for v in (x, y, z)]
    k = [math.inf if (c == 1).any() else max(2, (c > 0).sum()) for c in counts]
    least = math.log(min(k[:2]))
    for estimate, low, high in (
        (discrete.entropy(x, method=method), 0.0, math.log(k[0])),
        (discrete.mutual_information(x, y, method=method), 0.0, least),
        (discrete.conditional_mutual_information(x, y, z, method=method), 0.0, least),
        (discrete.co_information(x, y, z, method=method), -math.log(min(k)), math.log(min(k))),
        (discrete.total_correlation(x, y, method=method), 0.0, least),
        (discrete.dual_total_correlation(x, y, method=method), 0.0, least),
    ):
        assert low - 1e-12 <= estimate.interval[0] <= estimate.interval[1] <= high + 1e-12
        assert narrow(estimate) or not estimate.reliable


@given(st.integers(4, 60), st.integers(1, 12), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_continuous_intervals_never_leave_what_is_possible(n, d, seed):
    x, y = np.random.default_rng(seed).normal(size=(2, n, d))
    most = min(n, d)
    for estimate, low, high in (
        (linear_cka(x, y), 0.0, 1.0),
        (effective_rank(x), 1.0, most),
        (matrix_entropy(x), 0.0, math.log(most)),
        *([(intrinsic_dimension(x), 0.0, d)] if n >= 20 and d > 1 else []),
        *([(usable_information(x, x[:, 0] > 0, method="linear"), 0.0, LN2)] if n >= 20 else []),
    ):
        assert low - 1e-12 <= estimate.interval[0] <= estimate.interval[1] <= high + 1e-12
        assert narrow(estimate) or not estimate.reliable


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("d", [5, 20])
def test_the_entropy_of_a_cube_is_not_that_of_a_gaussian(d, turned):
    rng = np.random.default_rng(d)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0] if turned else np.eye(d)
    estimate = entropy(rng.random((2000, d)) @ turn)
    assert not estimate.reliable  # a Gaussian reads .18 nat too much in every column
    assert "Gaussian" in estimate.reason


@pytest.mark.parametrize("d", [1, 3, 20])
def test_the_entropy_of_gaussian_columns_stays_reliable(d):
    estimate = entropy(np.random.default_rng(d).normal(size=(2000, d)))
    assert estimate.reliable
    assert abs(estimate.value - d * 0.5 * math.log(2 * math.pi * math.e)) < 0.3


@pytest.mark.parametrize("copies", [2, 5])
def test_near_copies_of_rows_have_no_reliable_entropy_or_dimension(copies):
    rng = np.random.default_rng(copies)
    rows = np.repeat(rng.normal(size=(400, 2)), copies, axis=0)
    rows = rows + 1e-6 * rng.normal(size=rows.shape)
    estimate = entropy(rows, method="knn")
    assert not estimate.reliable
    assert "x has near copies" in estimate.reason
    plane = np.repeat(rng.normal(size=(400, 2)) @ rng.normal(size=(2, 20)), copies, axis=0)
    assert not intrinsic_dimension(plane + 1e-6 * rng.normal(size=plane.shape)).reliable
    # With clusters a unit counts once.
    units = np.repeat(np.arange(400), copies)
    truth = math.log(2 * math.pi * math.e)
    estimate = entropy(rows, method="knn", clusters=units)
    assert estimate.interval[0] < truth < estimate.interval[1]


def logit(seed, n, d):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, (rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(int)


@pytest.mark.parametrize(("n", "d"), [(1000, 5), (1000, 60), (1000, 100), (300, 30)])
def test_probes_are_about_the_best_probe_or_unreliable(n, d):
    estimates = [usable_information(*logit(seed, n, d), method="linear") for seed in range(4)]
    assert sum(wrong(e, 0.230) for e in estimates) <= 1
    assert sum(e.reliable for e in estimates) == (0 if n <= 10 * d else 4)


def test_probes_with_fewer_rows_than_columns_are_unreliable():
    x = np.random.default_rng(0).normal(size=(100, 400))
    estimate = usable_information(x, x[:, 0] > 0, method="linear")
    assert not estimate.reliable
    assert "too few for a probe of" in estimate.reason


def test_a_target_that_x_determines_is_named():
    x = np.random.default_rng(0).normal(size=(400, 3))
    for y in (2.0 * x[:, :1], np.c_[x[:, 0], x[:, 0]]):
        estimate = usable_information(x, y, method="linear")
        assert not estimate.reliable
        assert "the information is infinite" in estimate.reason


def test_an_unbounded_interval_is_unreliable():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    estimate = linear_cka(rows, rows, clusters=[0] * 40)
    assert not estimate.reliable
    assert effective_rank(rows, clusters=[0] * 40).reliable is False


def test_a_few_rows_that_carry_the_value_are_named():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    x[0] = 1e3
    estimate = effective_rank(x)
    assert not estimate.reliable
    assert "a few rows determine the value" in estimate.reason


@pytest.mark.parametrize("seed", range(4))
def test_a_few_rows_that_carry_the_variance_are_named(seed):
    """No jackknife sees what rows of which the sample has two do to the value."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 500, 8))
    labels = rng.integers(0, 2, 500)
    for side in (x, y):
        side[:2, 0] += 100.0
    for estimate in (
        linear_cka(x, y),
        effective_rank(x),
        matrix_entropy(x),
        usable_information(x[:, :1], labels, method="linear"),
    ):
        assert "a few rows carry the variance" in estimate.reason
    x[:50, 0] += 100.0
    assert "carry the variance" not in linear_cka(x, x).reason


def test_rows_that_follow_each_other_get_a_hint():
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.normal(size=(40, 3)), 10, axis=0) + 0.3 * rng.normal(size=(400, 3))
    labels = rng.integers(0, 2, 400)
    for estimate in (
        usable_information(alike, labels, method="linear"),
        intrinsic_dimension(alike),
        linear_cka(alike, alike),
        effective_rank(alike),
        matrix_entropy(alike),
    ):
        assert "neighbouring rows correlate" in estimate.diagnostics["note"]
    units = np.repeat(np.arange(40), 10)
    with_clusters = usable_information(alike, labels, method="linear", clusters=units)
    assert "note" not in with_clusters.diagnostics
    shuffled = rng.permutation(alike)
    assert not order_note([shuffled])


def test_neighbour_correlation_of_independent_rows_is_chance():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 50))
    scores = []
    for _ in range(200):
        value, error = neighbour_correlation(rng.normal(size=(200, 5)) @ mix)
        scores.append(value / error)
    assert 0.8 < np.std(scores) < 1.2
    assert abs(np.mean(scores)) < 0.3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1e200], [0.0]], "squares overflow; rescale"),
        ([[1e-300], [2e-300]], "spans less than 1e-140, whose squares vanish; rescale"),
    ],
)
def test_columns_whose_squares_leave_the_numbers_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        as_rows(rows)


@pytest.mark.parametrize(
    ("images", "tokens", "noise"), [(300, 5, 0.1), (50, 20, 0.1), (300, 5, 50)]
)
def test_tokens_of_an_image_do_not_align_independent_sides(images, tokens, noise):
    """Rows of one image are alike on both sides; images are independent."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sides = rng.normal(size=(2, images, 1, 10))
        x, y = (sides + noise * rng.normal(size=(2, images, tokens, 10))).reshape(2, -1, 10)
        found = linear_cka(x, y, clusters=np.repeat(np.arange(images), tokens))
        assert found.interval[0] <= 0.002
        assert abs(found.diagnostics["between_folds"]) < 0.05
        assert found.reliable or tokens == 20
