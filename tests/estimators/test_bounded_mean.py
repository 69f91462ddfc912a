import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv
from scipy.stats import binom

from estimators import betting_interval, betting_p_value, betting_upper_bound
from estimators.bounded_mean import dominated_upper_bound

UNIT = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40)
DELTA = st.sampled_from([0.01, 0.05, 0.2])


def plain_capital(values, delta, m):
    """The definition for one order, one value at a time."""
    n, capital = len(values), 1.0
    seen, mean_sum, square_sum, variance = 0, 0.5, 0.25, 0.25
    for x in values:
        bet = math.sqrt(2 * math.log(1 / delta) / (n * variance))
        capital *= 1 + min(bet, 0.75 / (1 - m)) * (m - x)
        seen += 1
        mean_sum += x
        square_sum += (x - mean_sum / (seen + 1)) ** 2
        variance = square_sum / (seen + 1)
    return capital


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5), DELTA, st.floats(0.01, 0.99))
@settings(max_examples=25, deadline=None)
def test_the_p_value_is_that_of_the_mean_capital_over_all_orders(values, delta, limit):
    capitals = [plain_capital(order, delta, limit) for order in permutations(values)]
    p = float(betting_p_value(values, limit=limit, delta=delta))
    assert p == pytest.approx(min(1.0, 1 / np.mean(capitals)), rel=1e-9)


@given(UNIT, DELTA, st.randoms())
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_values_changes_nothing(values, delta, random):
    shuffled = random.sample(values, len(values))
    assert betting_upper_bound(shuffled, delta=delta) == betting_upper_bound(values, delta=delta)
    assert betting_interval(sorted(values)) == betting_interval(shuffled)
    p, q = (betting_p_value(v, limit=0.3, delta=delta) for v in (sorted(values), shuffled))
    assert p == q


@pytest.mark.parametrize("n", [60, 150])
def test_zeros_and_ones_are_missed_at_most_delta_of_the_time_in_any_file_order(n):
    # Exact: the bound depends on the number of ones only. One fixed order misses up to 56 %.
    ones = range(n // 2)
    bounds = np.array([betting_upper_bound(np.arange(n) < k, delta=0.05) for k in ones])
    rates = np.linspace(0.002, 0.35, 200)
    missed = [binom.pmf(ones, n, rate)[bounds < rate].sum() for rate in rates]
    assert max(missed) <= 0.05
    assert max(missed) >= 0.005  # and not by being useless


def test_a_file_sorted_by_kind_of_question_is_covered():
    # Half the images never change, half with rate 0.2, in file order: the mean is 0.1.
    rate = np.repeat([0.0, 0.2], 100)
    rng = np.random.default_rng(0)
    intervals = [betting_interval(rng.random(200) < rate) for _ in range(150)]
    assert sum(not low <= 0.1 <= high for low, high in intervals) <= 7


@given(UNIT, DELTA)
def test_the_bound_lies_between_the_sample_mean_and_the_range(values, delta):
    assert np.mean(values) <= betting_upper_bound(values, delta=delta) <= 1.0


@given(UNIT, DELTA, st.floats(-50, 50), st.floats(0.01, 100))
def test_affine_equivariance(values, delta, shift, scale):
    moved = np.clip(shift + scale * np.array(values), shift, shift + scale)
    got = betting_upper_bound(moved, delta=delta, lower=shift, upper=shift + scale)
    expected = shift + scale * betting_upper_bound(values, delta=delta)
    assert got == pytest.approx(expected, abs=1e-7 * (scale + abs(shift) + 1))


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=40), DELTA, st.floats(0.0, 0.5))
def test_larger_values_give_a_larger_bound(values, delta, shift):
    higher = betting_upper_bound(np.array(values) + shift, delta=delta)
    assert higher >= betting_upper_bound(values, delta=delta) - 1e-9


@given(UNIT, st.sampled_from([0.5, 0.9, 0.99]))
def test_the_interval_holds_the_mean_and_mirrors(values, level):
    low, high = betting_interval(values, level=level)
    assert 0.0 <= low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= high <= 1.0
    mirrored = betting_interval(1.0 - np.array(values), level=level)
    assert mirrored == pytest.approx((1.0 - high, 1.0 - low), abs=1e-9)


def test_the_interval_splits_its_risk_between_both_sides():
    values = np.random.default_rng(0).random(50)
    low, high = betting_interval(values, level=0.9)
    assert high == betting_upper_bound(values, delta=0.05)
    assert low == -betting_upper_bound(-values, delta=0.05, lower=-1.0, upper=0.0)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_values_shrink_at_the_fast_rate(value):
    # Without variance the width falls like log(1/delta) / n, not like 1 / sqrt(n).
    low, high = betting_interval(np.full(2000, value))
    assert low <= value <= high
    assert high - low < 4 * math.log(40) / 2000


def test_no_failure_among_299():
    # The bet never stakes more than 3/4: ln 20 / (0.75 * 299), and never below Clopper-Pearson.
    bound = betting_upper_bound(np.zeros(299), delta=0.05)
    assert 1 - 0.05 ** (1 / 299) < bound < 0.0136


def test_nine_failures_among_500():
    ones = np.r_[np.ones(9), np.zeros(491)]
    bound = betting_upper_bound(ones, delta=0.05)
    clopper_pearson = betaincinv(10, 491, 0.95)
    assert clopper_pearson < bound < 1.4 * clopper_pearson


DISTRIBUTIONS = {
    "rare and large": (lambda rng, n: (rng.random(n) < 0.03).astype(float), 0.03),
    "rarer than 1/n": (lambda rng, n: (rng.random(n) < 0.008).astype(float), 0.008),
    "two humps": (lambda rng, n: np.where(rng.random(n) < 0.5, 0.02, 0.98), 0.5),
    "uniform": (lambda rng, n: rng.random(n), 0.5),
    "mostly ones": (lambda rng, n: (rng.random(n) < 0.95).astype(float), 0.95),
    "skewed": (lambda rng, n: rng.beta(0.1, 1.9, n), 0.05),
    # Independent with a common mean, but not identically distributed.
    "quiet, then loud": (
        lambda rng, n: np.r_[np.full(n // 2, 0.1), rng.random(n - n // 2) < 0.1].astype(float),
        0.1,
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_coverage(name):
    draw, mean = DISTRIBUTIONS[name]
    rng = np.random.default_rng(7)
    delta, trials = 0.1, 200
    misses = sum(betting_upper_bound(draw(rng, 80), delta=delta) < mean for _ in range(trials))
    assert misses <= binom.ppf(0.999, trials, delta)


@pytest.mark.parametrize("name", ["uniform", "skewed", "two humps"])
def test_interval_coverage(name):
    draw, mean = DISTRIBUTIONS[name]
    rng = np.random.default_rng(8)
    intervals = [betting_interval(draw(rng, 60), level=0.8) for _ in range(200)]
    misses = sum(not low <= mean <= high for low, high in intervals)
    assert misses <= binom.ppf(0.999, 200, 0.2)


@given(UNIT, DELTA)
@settings(max_examples=60)
def test_the_p_value_crosses_delta_at_the_bound(values, delta):
    bound = betting_upper_bound(values, delta=delta)
    for limit in (bound - 1e-6, bound + 1e-6):
        if np.mean(values) < limit < 1.0:
            p = float(betting_p_value(values, limit=limit, delta=delta))
            assert (p < delta * (1 + 1e-9)) == (limit > bound)


def test_p_values_of_many_samples_in_another_unit():
    batch = np.random.default_rng(0).random((2, 3, 30)) * 0.4
    table = betting_p_value(batch, limit=0.35, delta=0.05)
    assert table.shape == (2, 3)
    one = float(betting_p_value(batch[1, 2], limit=0.35, delta=0.05))
    assert table[1, 2] == pytest.approx(one, rel=1e-12)
    moved = betting_p_value(4.0 * batch - 2.0, limit=-0.6, delta=0.05, lower=-2.0, upper=2.0)
    np.testing.assert_allclose(moved, table, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 1.0}, r"limit must lie inside \(0, 1\), got 1.0"),
        ({"limit": 0.5, "delta": 1.0}, "delta must lie strictly between 0 and 1, got 1.0"),
        ({"limit": 0.5, "upper": 0.1}, r"values\[0\] is 0.2, outside \[0, 0.1\]"),
    ],
)
def test_bad_p_value_requests_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        betting_p_value([0.2], **{"delta": 0.05, **options})


def test_an_early_run_of_failures_cannot_pull_the_bound_below_the_mean():
    values = np.r_[np.zeros(200), np.ones(800)]
    assert betting_upper_bound(values, delta=0.05) >= 0.8


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "values is empty"),
        ([0.5, math.nan], {}, r"values\[1\] is nan; all values must be finite"),
        ([0.5, 0.2, 1.5], {}, r"values\[2\] is 1.5, outside \[0, 1\]"),
        ([[0.5]], {}, r"one-dimensional, got shape \(1, 1\)"),
        (["a"], {}, "real numbers, got dtype <U1"),
        ([0.5], {"delta": 0.0}, "delta must lie strictly between 0 and 1, got 0.0"),
        ([0.5], {"lower": 1.0}, r"finite lower < upper, got \[1.0, 1.0\]"),
        ([0.5], {"upper": math.inf}, r"finite lower < upper, got \[0.0, inf\]"),
    ],
)
def test_bad_input_is_named(values, options, message):
    with pytest.raises(ValueError, match=message):
        betting_upper_bound(values, **{"delta": 0.05, **options})


def test_interval_refuses_a_level_outside_the_unit_interval():
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1, got 95"):
        betting_interval([0.5], level=95)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_a_dominated_mean_is_bounded_by_the_larger_one_in_any_order(pairs):
    larger, values = np.array([(a, a * (2 * b - 1)) for a, b in pairs]).T
    bound = dominated_upper_bound(values, larger, delta=0.05)
    assert values.mean() - 1e-12 <= bound <= betting_upper_bound(larger, delta=0.05)
    turned = dominated_upper_bound(values[::-1], larger[::-1], delta=0.05)
    assert turned == pytest.approx(bound, abs=1e-11)
    same = dominated_upper_bound(larger, larger, delta=0.05)
    assert same == pytest.approx(betting_upper_bound(larger, delta=0.05), abs=1e-11)


def test_dominated_means_are_covered_in_a_file_sorted_by_its_values():
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(200):
        changed = np.sort((rng.random(80) < 0.2).astype(float))
        drop = changed * rng.choice([1.0, 0.0, -1.0], 80, p=[0.6, 0.2, 0.2])
        misses += dominated_upper_bound(drop, changed, delta=0.1) < 0.08
    assert misses <= binom.ppf(0.999, 200, 0.1)


@pytest.mark.parametrize(
    ("values", "larger", "message"),
    [
        ([0.5], [0.2], r"values\[0\] is 0.5, above larger, 0.2"),
        ([0.0], [0.2, 0.3], "1 values but 2 larger ones"),
        ([0.0], [1.5], r"larger\[0\] is 1.5, outside \[0, 1\]"),
    ],
)
def test_bad_dominated_values_are_named(values, larger, message):
    with pytest.raises(ValueError, match=message):
        dominated_upper_bound(values, larger, delta=0.05)
