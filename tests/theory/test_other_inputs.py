"""Few labels, shifted inputs, exchangeability: identities, plain loops, and what is refused."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from estimators import betting_upper_bound
from theory import certify_mean
from theory.certificates import (
    PoweredBound,
    certify_shifted,
    conformal_p_values,
    exchangeability_capital,
    exchangeability_p_value,
    powered_upper_bound,
    stream_alarm,
)

LABELLED = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=20)

# --- few labels -----------------------------------------------------------------------------


@given(LABELLED, st.lists(st.booleans(), min_size=1, max_size=200), st.sampled_from([0.3, 0.5]))
def test_it_is_never_worse_than_the_labels_at_their_share(labelled, many, share):
    y, f = np.array(labelled, dtype=float).T
    made = powered_upper_bound(y, f, np.array(many, float), delta=0.05, labels_alone=share)
    assert made.labels_alone == betting_upper_bound(y, delta=share * 0.05)
    assert made.bound <= made.labels_alone
    assert made.bound == max(0.0, min(made.labels_alone, made.powered))
    assert made.labels_at_delta <= made.labels_alone + 1e-12
    assert PoweredBound.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_the_three_parts_of_delta_are_all_of_it():
    y, f, many = np.zeros(80), np.zeros(80), np.zeros(900)
    made = powered_upper_bound(y, f, many, delta=0.1, labels_alone=0.4)
    parts = 0.04, 0.006, 0.054
    assert sum(parts) == pytest.approx(0.1)
    assert made.delta_labels == pytest.approx(parts[0])
    wanted = betting_upper_bound(many, delta=parts[1])
    wanted += betting_upper_bound(y - f, delta=parts[2], lower=-1.0)
    assert made.powered == pytest.approx(wanted, abs=1e-9)


def test_good_proxies_are_worth_labels():
    """100 labels at a loss of .3 that the proxy tells in 98 of 100: mean bounds of 10 draws."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(10):
        loss = (rng.random(5100) < 0.3).astype(float)
        proxy = np.where(rng.random(loss.size) < 0.98, loss, 1 - loss)
        made.append(powered_upper_bound(loss[:100], proxy[:100], proxy[100:], delta=0.05))
    assert (
        0.3 < np.mean([m.bound for m in made]) < np.mean([m.labels_at_delta for m in made]) - 0.02
    )
    noise = (rng.random(5100) < 0.5).astype(float)
    worthless = powered_upper_bound(loss[:100], noise[:100], noise[100:], delta=0.05)
    assert worthless.bound == worthless.labels_alone < worthless.powered


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": [2.0]}, r"losses must be numbers in \[0, 1\]"),
        ({"proxies": [0.0, 0.0]}, "losses and proxies must have one length, got 1 and 2"),
        ({"unlabelled": []}, "unlabelled must be numbers"),
        ({"labels_alone": 0.0}, "labels_alone must lie strictly"),
    ],
)
def test_bad_labels_are_named(changes, message):
    given_ = {"losses": [0.0], "proxies": [0.0], "unlabelled": [0.0], "delta": 0.05}
    with pytest.raises(ValueError, match=message):
        powered_upper_bound(**{**given_, **changes})


# --- shifted inputs -------------------------------------------------------------------------

OF = {"epsilon": 0.1, "delta": 0.05}


@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_equal_weights_change_nothing(changed):
    values = np.array(changed, dtype=float)
    made = certify_shifted(values, np.ones_like(values), range(values.size), largest_weight=1, **OF)
    plain = certify_mean(
        values, range(values.size), quantity="disagreement", method="betting", **OF
    )
    assert made.bound == pytest.approx(plain.bound, abs=1e-9)
    assert made.holds == plain.holds
    assert made.estimate == pytest.approx(plain.estimate)


def test_the_weighted_mean_is_bounded():
    rng = np.random.default_rng(1)
    hard = np.arange(400) % 4 == 0
    values = (rng.random(400) < np.where(hard, 0.2, 0.01)).astype(float)
    weights = np.where(hard, 2.5, 0.5)
    made = certify_shifted(values, weights, range(400), largest_weight=2.5, **OF)
    weighted = values * weights
    assert made.estimate == weighted.mean()
    assert made.bound == betting_upper_bound(weighted, delta=0.05, upper=2.5)
    assert made.bound > certify_mean(values, range(400), quantity="disagreement", **OF).bound
    assert "on inputs that the given weights, at most 2.5, describe rightly" in made.sentence()
    twice = certify_shifted(
        np.repeat(values, 2), np.repeat(weights, 2), np.arange(800) // 2, largest_weight=2.5, **OF
    )
    assert (twice.n_images, twice.bound) == (400, made.bound)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0] * 99 + [3.0]}, r"weights\[99\] is 3; it must lie in \[0, 2\]"),
        ({"weights": [-1.0] + [1.0] * 99}, r"weights\[0\] is -1"),
        ({"weights": [1.0]}, "values and weights must have one length, got 100 and 1"),
        ({"weights": [2.0] * 100}, "weights must have mean 1 over certification inputs; theirs"),
        ({"largest_weight": 0.5}, "largest_weight must be a number of at least 1"),
        ({"values": [1.5] * 100}, r"values\[0\] is 1.5"),
        (
            {"clusters": np.arange(100) // 2, "weights": [0.5, 1.5] * 50},
            "weights must be one number for each image",
        ),
    ],
)
def test_bad_weights_are_named(changes, message):
    given_ = {"values": [0.0] * 100, "weights": [1.0] * 100, "clusters": range(100)}
    with pytest.raises(ValueError, match=message):
        certify_shifted(**{**given_, "largest_weight": 2.0, **OF, **changes})


# --- exchangeability ------------------------------------------------------------------------


def p_by_hand(x, y, permutations, seed):
    """The statistic by SciPy, for the same permutations."""
    pooled = np.sort(np.concatenate((x, y)))
    order = np.argsort(np.concatenate((x, y)), kind="stable")
    first = (np.arange(pooled.size) < len(x)).astype(bool)
    rng = np.random.default_rng(seed)
    ours = stats.ks_2samp(x, y).statistic
    others = []
    for _ in range(permutations):
        mine = rng.permutation(first)
        others.append(stats.ks_2samp(pooled[mine], pooled[~mine]).statistic)
    assert order.size == pooled.size
    return (1 + sum(other >= ours - 1e-9 for other in others)) / (permutations + 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [0, 6])
def test_the_permutation_test_by_hand(seed, digits):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=13).round(digits), rng.normal(0.8, size=9).round(digits)
    got = exchangeability_p_value(x, y, permutations=60, seed=seed)
    assert got == p_by_hand(x, y, 60, seed)


@given(SCORES, SCORES, st.floats(0.1, 10), st.floats(-5, 5))
def test_only_the_order_of_scores_matters(x, y, scale, shift):
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    p = exchangeability_p_value(x, y, permutations=40)
    assert 1 / 41 <= p <= 1
    assert exchangeability_p_value(scale * x + shift, scale * y + shift, permutations=40) == p
    if set(x) == set(y) == {x[0]}:
        assert p == 1


def test_separated_samples_have_the_smallest_p_value():
    assert exchangeability_p_value(np.zeros(30), np.ones(30), permutations=199) == 1 / 200


@given(SCORES, SCORES, st.integers(0, 5))
def test_conformal_p_values_by_hand(calibration, stream, seed):
    uniform = np.random.default_rng(seed).random(len(stream))
    seen, wanted = list(calibration), []
    for score, u in zip(stream, uniform, strict=True):
        seen.append(score)
        above, equal = sum(s > score for s in seen), sum(s == score for s in seen)
        wanted.append((above + u * equal) / len(seen))
    np.testing.assert_allclose(conformal_p_values(calibration, stream, seed=seed), wanted)


def test_infinite_scores_are_the_largest_and_smallest():
    """Ranks alone count; warnings of arithmetic with infinity would be errors here."""
    x, y = [-np.inf, -np.inf, 0.0, np.inf, 1.0], [np.inf, np.inf, 2.0, np.inf]
    p = exchangeability_p_value(x, y, permutations=60)
    finite = [np.clip(scores, -9.0, 9.0) for scores in (x, y)]
    assert p == exchangeability_p_value(*finite, permutations=60) < 1.0
    infinite = np.full(30, np.inf)
    assert exchangeability_p_value(infinite, infinite, permutations=60) == 1.0
    assert exchangeability_p_value(-infinite, infinite, permutations=199) == 1 / 200


@pytest.mark.parametrize("digits", [9, 0])
def test_conformal_p_values_are_uniform_and_independent(digits):
    scores = np.random.default_rng(2).normal(size=3000).round(digits)
    p = conformal_p_values(scores[:500], scores[500:], seed=3)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(p[1:], p[:-1])[0, 1]) < 0.08


def test_the_capital_is_a_martingale():
    """Bets are linear in p, so a grid of mean 1/2 stands for the uniform distribution."""
    grid = (np.arange(4) + 0.5) / 4
    paths = [exchangeability_capital(path) for path in product(grid, repeat=4)]
    np.testing.assert_allclose(np.mean(paths, axis=0), 1.0, rtol=1e-12)
    assert (np.array(paths) > 0).all()
    low = [exchangeability_capital(path)[-1] for path in product(grid / 2, repeat=4)]
    assert np.mean(low) > 1.0


def test_one_step_by_hand():
    assert exchangeability_capital([0.1])[0] == pytest.approx((1.4 + 1.0 + 0.6) / 3)
    first = np.array([1.4, 1.0, 0.6]) / 3
    moved = 0.99 * first + 0.01 / 3
    assert exchangeability_capital([0.1, 0.9])[1] == pytest.approx(moved @ [0.6, 1.0, 1.4])


def test_a_stream_that_drifts_is_found_soon_after_it_does():
    rng = np.random.default_rng(4)
    stream = np.concatenate((rng.normal(size=200), rng.normal(2.0, size=100)))
    found = stream_alarm(rng.normal(size=400), stream, 0.01, seed=5)
    assert 200 < found < 260
    assert stream_alarm(rng.normal(size=400), rng.normal(size=300), 0.01) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exchangeability_p_value([], [1.0]), "certification must be numbers, at least one"),
        (lambda: exchangeability_p_value([1.0], [np.nan]), "deployment must be numbers"),
        (lambda: exchangeability_p_value([1.0], [1.0], permutations=0), "permutations must be at"),
        (lambda: conformal_p_values([np.nan], [1.0]), "calibration must be numbers"),
        (lambda: exchangeability_capital([1.1]), r"p_values must be numbers in \[0, 1\]"),
        (lambda: stream_alarm([1.0], [1.0], 1.0), "alpha must lie strictly between"),
    ],
)
def test_bad_scores_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
