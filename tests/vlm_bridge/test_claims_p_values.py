"""p-values of the protocol: closed truths, plain loops, and their level where nothing is true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from estimators.rank_correlation import partial_spearman, partial_spearman_rows
from tests.vlm_bridge.claims_worlds import world
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.p_values import (
    pairs_p_values,
    percentile,
    rank_among,
    rank_test,
    share_p_values,
)

RNG = np.random.default_rng(0)


@given(st.integers(0, 10_000), st.integers(2, 12), st.booleans())
def test_rows_are_the_single_correlations(seed: int, n: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y, z = rng.integers(3, size=(3, 4, n)) if tied else rng.normal(size=(3, 4, n))
    rows = partial_spearman_rows(x, y, z)
    for row, a, b, c in zip(rows, x, y, z, strict=True):
        assert row == pytest.approx(partial_spearman(a, b, c), nan_ok=True)


def test_a_partial_correlation_against_residuals_of_ranks() -> None:
    """Pearson of the ranks that a line in the ranks of the third leaves."""
    for seed in range(20):
        x, y, z = np.random.default_rng(seed).permuted(np.tile(np.arange(9.0), (3, 1)), axis=1)
        left = [side - np.polyval(np.polyfit(z, side, 1), z) for side in (x, y)]
        assert partial_spearman(x, y, z) == pytest.approx(np.corrcoef(*left)[0, 1])


def test_samples_are_those_of_a_plain_loop() -> None:
    scores, changed, depth = world(9, 12, 1, coupled=0.5)
    found = rank_test(scores, changed, depth, samples=25, seed=4)
    starts = np.random.default_rng([4, 0]).integers(9, size=(25, 3, 1))
    units = [[(int(at) + k) % 9 for (at,) in row for k in range(3)] for row in starts]
    counts = np.random.default_rng([4, 1]).multinomial(12, np.full(12, 1 / 12), size=25)
    for sample, drawn, count in zip(found.samples, units, counts, strict=True):
        rows = np.repeat(np.arange(12), count)
        harm = changed[np.ix_(rows, drawn)].mean(axis=0).round(9)
        plain = partial_spearman(scores[drawn], harm, depth[drawn])
        assert sample == pytest.approx(plain, nan_ok=True)
    assert found.value == pytest.approx(partial_spearman(scores, changed.mean(axis=0), depth))
    b = sum(not sample > 0 for sample in found.samples)
    assert found.p == (1 + b) / 26


def test_a_score_that_is_harm_and_one_that_is_its_opposite() -> None:
    depth = np.arange(20.0)
    harm = np.random.default_rng(3).permutation(20).astype(float)
    same = rank_test(harm, harm, depth, samples=499)
    assert same.p == 1 / 500
    assert same.p_opposite > 0.99
    turned = rank_test(-harm, harm, depth, samples=499)
    assert (turned.p, turned.p_opposite) == (same.p_opposite, same.p)
    assert turned.value == pytest.approx(-same.value)


def test_depth_alone_is_no_evidence() -> None:
    """A score that is depth has no rank given depth: both p-values are 1, not small."""
    depth = np.arange(12.0)
    found = rank_test(-depth, -depth, depth, samples=99)
    assert math.isnan(found.value)
    assert (found.p, found.p_opposite, found.rotation_p) == (1.0, 1.0, 1.0)
    assert not found.estimate.reliable
    constant = rank_test(np.zeros(12), RNG.normal(size=12), depth, samples=99)
    assert (constant.p, constant.p_opposite) == (1.0, 1.0)


def test_rotations_against_a_plain_loop() -> None:
    scores, changed, depth = world(11, 30, 5, coupled=0.6)
    harm = changed.mean(axis=0)
    found = rank_test(scores, changed, depth, samples=9)
    turned = [partial_spearman(np.roll(scores, k), harm, depth) for k in range(11)]
    assert found.rotation_p == np.mean([one >= found.value - 1e-12 for one in turned])
    assert found.rotation_p >= 1 / 11


@pytest.mark.parametrize("units", [8, 30])
def test_the_level_where_harm_is_depth_and_noise(units: int) -> None:
    """Neither direction rejects more often than its level, by three standard errors."""
    runs, level = 300, 0.05
    found = [
        rank_test(*world(units, 60, seed, coupled=0.0), samples=199, seed=seed)
        for seed in range(runs)
    ]
    most = level + 3 * math.sqrt(level * (1 - level) / runs)
    assert np.mean([one.p <= level for one in found]) <= most
    assert np.mean([one.p_opposite <= level for one in found]) <= most


def test_power_where_the_score_is_harm() -> None:
    found = [
        rank_test(*world(30, 60, seed, coupled=1.0), samples=199, seed=seed) for seed in range(40)
    ]
    assert np.mean([one.p <= 0.05 for one in found]) > 0.9


def test_a_null_that_equals_the_model_differs_by_nothing() -> None:
    scores, changed, depth = world(20, 50, 2, coupled=1.0)
    own = rank_test(scores, changed, depth, samples=199)
    assert own.minus(own).interval == (0.0, 0.0)
    none = rank_test(-scores, changed, depth, samples=199)
    assert own.minus(none).interval[0] > 0


@pytest.mark.parametrize(
    ("scores", "measured", "samples", "says"),
    [
        (np.arange(5.0), np.zeros((3, 4)), 9, "about the same units"),
        (np.zeros((2, 4)), np.zeros((3, 4)), 9, "about the same units"),
        (np.arange(4.0), np.zeros((3, 4)), 0, "at least one sample"),
    ],
)
def test_what_a_test_of_ranks_refuses(scores, measured, samples, says) -> None:
    with pytest.raises(BridgeError, match=says):
        rank_test(scores, measured, np.arange(4.0), samples=samples)


def test_samples_that_are_undefined_widen_the_interval() -> None:
    samples = np.array([0.5] * 98 + [math.nan] * 2)
    assert percentile("m", 0.5, samples, 3, 1.0).interval == (0.5, 0.5)
    often = np.array([0.5] * 80 + [math.nan] * 20)
    found = percentile("m", 0.5, often, 3, 1.0)
    assert found.interval == (-1.0, 1.0)
    assert not found.reliable
    assert "20 of 100" in found.reason


def test_five_units_decide_nothing() -> None:
    """Most bootstrap samples of five units have too few different ones."""
    scores, changed, depth = world(5, 60, 3, coupled=1.0)
    found = rank_test(scores, changed, depth, samples=199)
    assert min(found.p, found.p_opposite) > 0.05
    if not math.isnan(found.value):
        assert found.estimate.interval == (-1.0, 1.0)


@given(st.integers(1, 60), st.floats(0.01, 0.9), st.data())
def test_shares_against_the_exact_binomial_test(n: int, epsilon: float, data) -> None:
    changed = data.draw(st.integers(0, n))
    values = [1.0] * changed + [0.0] * (n - changed)
    safe, harmful = share_p_values(values, epsilon)
    assert safe == pytest.approx(binomtest(changed, n, epsilon, alternative="less").pvalue)
    assert harmful == pytest.approx(binomtest(changed, n, epsilon, alternative="greater").pvalue)


@pytest.mark.parametrize(
    ("values", "epsilon"), [([], 0.1), ([0.5], 0.1), ([0.0], 0.0), ([0.0], 1.0)]
)
def test_what_a_share_refuses(values, epsilon) -> None:
    with pytest.raises(BridgeError):
        share_p_values(values, epsilon)


@given(st.lists(st.sampled_from([0.8, 1.0, 1.2]), min_size=1, max_size=40))
def test_pairs_against_the_sign_test(ratios: list[float]) -> None:
    faster, slower = pairs_p_values(ratios)
    below, above = sum(r < 1 for r in ratios), sum(r > 1 for r in ratios)
    n = len(ratios)
    assert faster == pytest.approx(binomtest(below, n, 0.5, alternative="greater").pvalue)
    assert slower == pytest.approx(binomtest(above, n, 0.5, alternative="greater").pvalue)


def test_no_pairs() -> None:
    with pytest.raises(BridgeError, match="at least one pair"):
        pairs_p_values([])


@given(st.integers(0, 1000), st.integers(1, 30))
def test_one_of_equal_plans_has_every_rank_alike(seed: int, m: int) -> None:
    """Of m + 1 exchangeable plans without ties each rank is as likely: the p-value is exact."""
    shares = np.random.default_rng(seed).permutation(m + 1) / (m + 1)
    ranks = [rank_among(shares[i], np.delete(shares, i)) for i in range(m + 1)]
    each = pytest.approx(np.arange(1, m + 2) / (m + 1))
    assert sorted(p for p, _ in ranks) == each
    assert sorted(p for _, p in ranks) == each


def test_ties_count_against_both_directions() -> None:
    assert rank_among(0.2, [0.2] * 19) == (1.0, 1.0)
    assert rank_among(0.0, [0.1] * 19) == (0.05, 1.0)
    assert rank_among(0.5, [0.1] * 19) == (1.0, 0.05)


@pytest.mark.parametrize(("plan", "drawn"), [(0.1, []), (1.5, [0.1]), (float("nan"), [0.1])])
def test_what_a_rank_refuses(plan, drawn) -> None:
    with pytest.raises(BridgeError, match="a rank needs a share"):
        rank_among(plan, drawn)


def test_neighbours_that_are_alike_do_not_make_evidence() -> None:
    """Scores and harm of independent, slowly changing series: far in the tail the level holds."""
    runs, small = 200, 0.01
    found = []
    for seed in range(runs):
        steps = np.random.default_rng(seed).normal(size=(2, 77))
        series = np.zeros((2, 77))
        for at in range(1, 77):
            series[:, at] = 0.9 * series[:, at - 1] + steps[:, at]
        scores, harm = series[:, 50:]
        found.append(rank_test(scores, harm, np.arange(27.0), samples=399, seed=seed).p)
    assert np.mean(np.array(found) <= small) <= small + 3 * math.sqrt(small * (1 - small) / runs)
