"""p-values of the protocol: closed truths, plain loops, and their level where nothing is true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t, ttest_1samp

from estimators.rank_correlation import partial_spearman, partial_spearman_rows
from tests.vlm_bridge.claims_worlds import world
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.p_values import (
    pairs_p_values,
    percentile,
    random_gap,
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
    units = np.random.default_rng([4, 0]).integers(9, size=(25, 9))
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


def test_random_plans_against_t() -> None:
    """With endless images the error of the plan vanishes, and it is the one-sample t test."""
    drawn = np.random.default_rng(1).beta(2, 5, size=20)
    many = random_gap(0.2, drawn, 10**12)
    plain = ttest_1samp(drawn, 0.2, alternative="greater")
    assert many.p_fewer == pytest.approx(plain.pvalue, rel=1e-4)
    assert many.p_more == pytest.approx(1 - plain.pvalue, rel=1e-4)
    few = random_gap(0.2, drawn, 100)
    error = math.sqrt(drawn.var(ddof=1) / 20 + 0.2 * 0.8 / 100)
    assert few.p_fewer == pytest.approx(t.sf((drawn.mean() - 0.2) / error, df=19))
    assert few.estimate.value == pytest.approx(drawn.mean() - 0.2)
    assert few.p_fewer > many.p_fewer or drawn.mean() < 0.2


def test_a_plan_that_changes_nothing_has_an_error_too() -> None:
    assert random_gap(0.0, [0.0, 0.0], 50).p_fewer == pytest.approx(0.5)


@pytest.mark.parametrize(("drawn", "images"), [([0.1], 50), ([0.1, 0.2], 0)])
def test_what_random_plans_refuse(drawn, images) -> None:
    with pytest.raises(BridgeError, match="two of them"):
        random_gap(0.1, drawn, images)
