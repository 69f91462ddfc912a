"""The bounds behind the certificates: duality with p-values, exact error rates, families."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from theory import (
    Selection,
    certification_power,
    certify_mean,
    images_for_power,
    label_free_drop,
    learn_then_test,
    reachable_epsilon,
)
from theory.certificates import METHODS, rejected, tango_upper_bound
from theory.certificates.bentkus import bentkus_p_value, bentkus_upper_bound
from theory.certificates.bernstein import bernstein_p_value, bernstein_upper_bound
from theory.certificates.betting import betting_p_value, betting_upper_bound
from theory.certificates.clopper_pearson import (
    clopper_pearson_p_value,
    clopper_pearson_upper_bound,
)
from theory.certificates.hoeffding import hoeffding_p_value, hoeffding_upper_bound
from theory.certificates.tango import tango_score

PAIRS = {
    "hoeffding": (hoeffding_upper_bound, hoeffding_p_value),
    "empirical-bernstein": (bernstein_upper_bound, bernstein_p_value),
    "hoeffding-bentkus": (bentkus_upper_bound, bentkus_p_value),
    "betting": (betting_upper_bound, betting_p_value),
}
SAMPLES = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=40)
DELTAS = st.sampled_from([0.01, 0.05, 0.1, 0.3])

each_pair = pytest.mark.parametrize("name", PAIRS)


@each_pair
@given(sample=SAMPLES, delta=DELTAS)
@settings(max_examples=60)
def test_the_bound_is_where_the_p_value_reaches_delta(name, sample, delta):
    bound, p_value = PAIRS[name]
    options = {"delta": delta} if name == "betting" else {}
    found = bound(np.array(sample), delta)
    assert np.mean(sample) <= found <= 1.0
    for limit in (found + 1e-6, 0.5 * (found + 1.0)):
        if found + 1e-6 < limit < 1.0:
            assert p_value(sample, limit, **options) <= delta * (1 + 1e-6)
    # Between the sample mean and the bound nothing is refuted.
    for share in (0.0, 0.5, 0.99):
        limit = np.mean(sample) + share * (found - np.mean(sample))
        if 0.0 < limit < found - 1e-6:
            assert p_value(sample, limit, **options) >= delta * (1 - 1e-6)


@each_pair
@given(sample=SAMPLES, limit=st.floats(0.05, 0.95))
@settings(max_examples=40)
def test_a_range_is_a_change_of_units(name, sample, limit):
    _, p_value = PAIRS[name]
    x = np.array(sample)
    moved = p_value(3.0 * x - 1.0, 3.0 * limit - 1.0, low=-1.0, high=2.0)
    np.testing.assert_allclose(moved, p_value(x, limit), rtol=1e-6, atol=1e-12)


@each_pair
def test_p_values_of_many_samples_at_once(name):
    rng = np.random.default_rng(0)
    batch = rng.random((3, 4, 25)) * 0.3
    _, p_value = PAIRS[name]
    table = p_value(batch, 0.25)
    assert table.shape == (3, 4)
    for i, j in product(range(3), range(4)):
        assert table[i, j] == pytest.approx(float(p_value(batch[i, j], 0.25)), rel=1e-12)


@each_pair
@pytest.mark.parametrize("rate", [0.1, 0.37, 0.5, 0.8])
@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_exact_error_on_every_sequence_of_ten_coins(name, rate, delta):
    rows = np.array(list(product((0.0, 1.0), repeat=10)))
    chance = rate ** rows.sum(axis=1) * (1 - rate) ** (1 - rows).sum(axis=1)
    options = {"delta": delta} if name == "betting" else {}
    refuted = PAIRS[name][1](rows, rate, **options) <= delta * (1 - 1e-9)
    assert chance[refuted].sum() <= delta


@given(st.integers(1, 200), st.integers(0, 200), DELTAS)
def test_clopper_pearson_is_the_inverse_of_the_binomial(n, k, delta):
    k = min(k, n)
    bound = clopper_pearson_upper_bound(k, n, delta)
    if k < n:
        assert stats.binom.cdf(k, n, bound) == pytest.approx(delta, rel=1e-7)
    values = np.r_[np.ones(k), np.zeros(n - k)]
    assert clopper_pearson_p_value(values, 0.3) == pytest.approx(stats.binom.cdf(k, n, 0.3))


def test_bernstein_adapts_to_the_variance_and_hoeffding_does_not():
    quiet = np.full(1000, 0.1)
    assert bernstein_upper_bound(quiet, 0.05) < hoeffding_upper_bound(quiet, 0.05)
    assert bernstein_upper_bound(np.array([0.3]), 0.05) == 1.0
    assert bernstein_p_value([0.3], 0.9) == 1.0


def test_bernstein_formula():
    x = np.array([0.0, 0.1, 0.0, 0.3])
    log_risk = math.log(2 / 0.9)
    variance = sum((x - 0.1) ** 2) / 3
    expected = 0.1 + math.sqrt(2 * variance * log_risk / 4) + 7 * log_risk / 9
    assert bernstein_upper_bound(x, 0.9) == pytest.approx(expected, rel=1e-12)
    assert bernstein_p_value(x, expected) == pytest.approx(0.9, rel=1e-9)


def test_bentkus_formula_rounds_the_count_up():
    x = np.array([0.5, 0.3, 0.4])  # 1.2 failures count as 2
    kl = 0.4 * math.log(0.4 / 0.9) + 0.6 * math.log(0.6 / 0.1)
    tail = math.e * stats.binom.cdf(2, 3, 0.9)
    assert bentkus_p_value(x, 0.9) == pytest.approx(min(math.exp(-3 * kl), tail))
    ones = np.r_[np.ones(3), np.zeros(197)]  # here the binomial tail is the smaller one
    assert bentkus_p_value(ones, 0.05) == pytest.approx(math.e * stats.binom.cdf(3, 200, 0.05))


def test_reference_of_nine_among_500():
    x = np.r_[np.ones(9), np.zeros(491)]
    assert bentkus_upper_bound(x, 0.05) == pytest.approx(0.0350, abs=1e-4)
    assert bernstein_upper_bound(x, 0.05) == pytest.approx(0.0514, abs=1e-4)
    assert hoeffding_upper_bound(x, 0.05) == pytest.approx(0.0727, abs=1e-4)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 400))
def test_tango_bound_is_where_the_score_is_minus_z(harmed, helped, n):
    bound = tango_upper_bound(harmed, helped, n, 0.05)
    assert (harmed - helped) / n <= bound <= 1.0
    if bound < 1.0 - 1e-9:
        assert tango_score(harmed, helped, n, bound) == pytest.approx(-1.6449, abs=1e-3)


def test_tango_of_no_change_is_the_wilson_bound():
    # Without discordant pairs the score is z^2 = n d^2 / (d (1 - d) ...) ; published: n=100.
    z2 = stats.norm.isf(0.05) ** 2
    assert tango_upper_bound(0, 0, 100, 0.05) == pytest.approx(z2 / (100 + z2), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_certificate_that_survives_json(method):
    quantity = "accuracy_drop" if method == "harm" else "disagreement"
    values = np.r_[np.ones(2), np.zeros(498)]
    made = certify_mean(
        values, range(500), quantity=quantity, epsilon=0.2, delta=0.05, method=method
    )
    assert made.holds
    assert type(made).from_json(json.loads(json.dumps(made.to_json()))) == made


def test_harm_counts_what_went_wrong_and_nothing_else():
    drop = np.r_[np.ones(5), -np.ones(40), np.zeros(955)]
    harm = certify_mean(
        drop, range(1000), quantity="accuracy_drop", epsilon=0.02, delta=0.05, method="harm"
    )
    assert harm.bound == clopper_pearson_upper_bound(5, 1000, 0.05)
    assert harm.holds
    with pytest.raises(ValueError, match="harm needs -1, 0 or 1"):
        certify_mean([0.5], [0], quantity="accuracy_drop", epsilon=0.02, delta=0.05, method="harm")
    with pytest.raises(ValueError, match="harm bounds an accuracy_drop, not a disagreement"):
        certify_mean([0.0], [0], quantity="disagreement", epsilon=0.02, delta=0.05, method="harm")


def test_a_label_free_drop_says_so():
    first = certify_mean(
        np.zeros(200), range(200), quantity="disagreement", epsilon=0.02, delta=0.05
    )
    drop = label_free_drop(first)
    assert (drop.quantity, drop.label_free, drop.bound) == ("accuracy_drop", True, first.bound)
    assert "equal answers are scored equally" in drop.assumed
    assert "label-free" in drop.sentence()
    with pytest.raises(ValueError, match="needs a certificate of disagreement, got accuracy_drop"):
        label_free_drop(drop)


# --- families -------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8), DELTAS)
def test_holm_refutes_what_bonferroni_does_and_more(p, delta):
    single = set(rejected(p, delta))
    assert single <= set(rejected(p, delta, control="holm"))
    assert single == {j for j, one in enumerate(p) if one <= delta / len(p)}


@given(st.lists(st.floats(0.0, 0.1), min_size=1, max_size=8))
def test_a_fixed_sequence_stops_at_the_first_failure(p):
    found = rejected(p, 0.05, control="fixed-sequence")
    assert found == tuple(range(len(found)))
    assert len(found) == len(p) or p[len(found)] > 0.05


def test_several_starts_share_delta():
    p = [0.04, 0.01, 0.9, 0.02, 0.02]
    assert rejected(p, 0.05, control="fixed-sequence") == (0, 1)
    assert rejected(p, 0.05, control="fixed-sequence", starts=(0, 3)) == (3, 4)


def test_holm_by_hand():
    assert rejected([0.01, 0.02, 0.04, 0.9], 0.05, control="holm") == (0,)
    assert rejected([0.01, 0.016, 0.02, 0.04], 0.05, control="holm") == (0, 1, 2, 3)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "harm"])
def test_learn_then_test_promises_the_good_plans(method):
    rng = np.random.default_rng(0)
    losses = (rng.random((4, 3000)) < np.array([[0.0], [0.001], [0.05], [0.3]])).astype(float)
    made = learn_then_test(
        losses, np.arange(3000), quantity="disagreement", epsilon=0.04, delta=0.05, method=method
    )
    assert made.certified == (0, 1)
    assert Selection.from_json(json.loads(json.dumps(made.to_json()))) == made


# --- sample sizes ---------------------------------------------------------------------------


def test_reference_powers():
    at = {"epsilon": 0.02, "delta": 0.05, "harmed": 0.005, "helped": 0.005}
    assert certification_power(1000, **at) == pytest.approx(0.79, abs=5e-3)
    assert certification_power(2000, **at) == pytest.approx(0.98, abs=5e-3)
    assert certification_power(1000, **at, method="harm") == pytest.approx(0.998, abs=1e-3)
    assert certification_power(1000, **at, method="tango") > 0.998
    assert certification_power(1000, **at, method="hoeffding") == 0.0


RATES = st.just(0.0) | st.floats(1e-6, 0.2)


@given(st.integers(1, 600), st.floats(0.005, 0.3), RATES, RATES)
@settings(max_examples=60)
def test_power_counts_the_outcomes_that_certify(n, epsilon, harmed, helped):
    def holds(k):
        return clopper_pearson_upper_bound(k, n, 0.05) <= epsilon

    k = np.arange(n + 1)
    good = np.array([holds(int(i)) for i in k])
    for method, rate in (("clopper-pearson", harmed + helped), ("harm", harmed)):
        found = certification_power(n, epsilon, 0.05, harmed=harmed, helped=helped, method=method)
        assert found == pytest.approx(float(stats.binom.pmf(k, n, rate)[good].sum()), abs=1e-7)


@pytest.mark.parametrize("method", ["hoeffding", "tango"])
def test_power_of_paired_methods_by_enumeration(method):
    n, epsilon, harmed, helped = 40, 0.35, 0.1, 0.15
    total = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            if method == "hoeffding":
                drop = np.r_[np.ones(b), -np.ones(c), np.zeros(n - b - c)]
                holds = hoeffding_upper_bound(drop, 0.05, low=-1.0, high=1.0) <= epsilon
            else:
                holds = tango_upper_bound(b, c, n, 0.05) <= epsilon
            p = [harmed, helped, 1 - harmed - helped]
            total += holds * stats.multinomial.pmf([b, c, n - b - c], n, p)
    found = certification_power(n, epsilon, 0.05, harmed=harmed, helped=helped, method=method)
    assert found == pytest.approx(total, abs=1e-9)


def test_images_for_power_reach_it():
    for method in ("clopper-pearson", "harm", "tango"):
        n = images_for_power(0.03, 0.05, 0.8, harmed=0.005, helped=0.005, method=method)
        at = {"epsilon": 0.03, "delta": 0.05, "harmed": 0.005, "helped": 0.005, "method": method}
        assert certification_power(n, **at) >= 0.8
        assert certification_power(n - 1, **at) < 0.8


@given(st.integers(10, 3000), RATES)
@settings(max_examples=40)
def test_reachable_epsilon_is_reached_with_that_power(n, rate):
    epsilon = reachable_epsilon(n, 0.05, rate=rate)
    if epsilon < 1.0:
        found = certification_power(n, epsilon * (1 + 1e-9), 0.05, harmed=rate)
        assert found >= 0.8 - 1e-9
    assert reachable_epsilon(n, 0.05, rate=rate, method="hoeffding") <= 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson_upper_bound(3, 2, 0.05), "failures must lie in 0..n"),
        (lambda: tango_upper_bound(3, 2, 4, 0.05), "3 harmed and 2 helped of 4"),
        (lambda: rejected([0.5], 0.05, control="bh"), "unknown control 'bh'; choose from bonf"),
        (lambda: rejected([], 0.05), "must be a list of numbers"),
        (lambda: rejected([1.5], 0.05), "must be a list of numbers"),
        (
            lambda: rejected([0.5], 0.05, control="fixed-sequence", starts=(1,)),
            "starts must be indices from 0 to 0",
        ),
        (
            lambda: learn_then_test([0.0], [0], quantity="disagreement", epsilon=0.1, delta=0.1),
            r"shape \(plans, n_values\), got \(1,\)",
        ),
        (lambda: Selection("d", 0.1, 0.1, 9, "m", "c", (0.1,), (1,), ()), "certified \\[1\\]"),
        (lambda: certification_power(0, 0.1, 0.1, harmed=0), "n must be at least 1, got 0"),
        (lambda: certification_power(9, 0.1, 0.1, harmed=0.9, helped=0.2), "sum to at most 1"),
        (lambda: certification_power(9, 0.1, 0.1, harmed=0, method="t"), "unknown method 't'"),
        (lambda: images_for_power(0.01, 0.05, 0.8, harmed=0.02), "0.02 cannot be certified at"),
        (lambda: images_for_power(0.01, 0.05, 1.0, harmed=0), "power must lie strictly"),
        (lambda: reachable_epsilon(9, 0.05, rate=1.0), r"rate must lie in \[0, 1\), got 1.0"),
        (lambda: reachable_epsilon(9, 0.05, method="t"), "unknown method 't'"),
        (lambda: reachable_epsilon(9, 0.05, plans=0), "plans must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_hoeffding_p_value_formula():
    assert hoeffding_p_value([0.0] * 50, 0.2) == pytest.approx(math.exp(-2 * 50 * 0.04))
