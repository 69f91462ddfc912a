"""Bounds and alarms that hold at every time: closed forms, Ville by enumeration, plain loops."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import certify_mean
from theory.certificates import Alarm, alarm_stakes, anytime_p_values, anytime_upper_bound
from theory.certificates.anytime import STAKES, WEIGHTS, anytime_p_value, log_capital

VALUES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30)
BITS = st.lists(st.booleans(), min_size=1, max_size=40)


def capital_by_hand(values, limit):
    bets = [math.prod(1 + s * (limit - x) / (1 - limit) for x in values) for s in STAKES]
    return sum(weight * bet for weight, bet in zip(WEIGHTS, bets, strict=True))


@given(VALUES, st.floats(0.01, 0.99))
def test_the_capital_is_the_product_of_the_bets(values, limit):
    got = np.exp(log_capital(values, limit))
    for t in range(1, len(values) + 1):
        assert got[t - 1] == pytest.approx(capital_by_hand(values[:t], limit), rel=1e-9, abs=1e-12)


def expected(capital, rate, n):
    """Mean of a function of n zeros and ones, exactly."""
    total = Fraction(0)
    for bits in product((0, 1), repeat=n):
        total += rate ** sum(bits) * (1 - rate) ** (n - sum(bits)) * capital(bits)
    return total


@pytest.mark.parametrize("rate", [Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
def test_the_capital_is_fair_at_the_limit_and_falls_above_it(rate):
    limit = Fraction(1, 4)
    stakes = [Fraction(s) for s in STAKES]
    weights = [Fraction(w).limit_denominator(128) for w in WEIGHTS]

    def capital(bits):
        bets = (math.prod(1 + s * (limit - x) / (1 - limit) for x in bits) for s in stakes)
        return sum((w * bet for w, bet in zip(weights, bets, strict=True)), Fraction(0))

    mean = expected(capital, rate, 6)
    assert mean == 1 if rate == limit else mean < 1


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_peeking_at_every_step_is_wrong_at_most_delta_exactly(rate):
    """All 2^14 streams at the limit: the weight of those that are ever below the limit."""
    bits = np.array(list(product((0.0, 1.0), repeat=14)))
    weight = rate ** bits.sum(axis=1) * (1 - rate) ** (14 - bits.sum(axis=1))
    for delta in (0.05, 0.2, 0.5):
        wrong = (anytime_p_values(bits, rate)[:, -1] <= delta) @ weight
        assert wrong <= delta
        assert anytime_p_values(bits, rate).shape == bits.shape
    assert wrong > 0  # the enumeration reaches false promises, so that it could find too many


@given(VALUES, st.sampled_from([0.01, 0.05, 0.3]))
def test_the_bound_is_where_the_p_value_is_delta(values, delta):
    bound = anytime_upper_bound(values, delta)
    assert np.mean(values) <= bound + 1e-9 <= 1.0 + 2e-9
    if bound < 1.0 - 1e-6:
        assert anytime_p_value(values, bound + 1e-9) <= delta * (1 + 1e-5)
    if 1e-6 < bound < 1.0:
        assert anytime_p_value(values, bound - 1e-7) > delta * (1 - 1e-3)


@given(VALUES, st.randoms())
def test_the_bound_knows_no_order(values, random):
    shuffled = random.sample(values, len(values))
    assert anytime_upper_bound(shuffled, 0.05) == pytest.approx(
        anytime_upper_bound(values, 0.05), abs=1e-9
    )


@given(VALUES)
def test_p_values_never_rise(values):
    p = anytime_p_values(values, 0.3)
    assert (np.diff(p) <= 0).all()
    assert ((p > 0) & (p <= 1)).all()


def test_without_a_failure_the_closed_form():
    """K_t = sum of w (1 + s m / (1 - m))^t: 211 images for 2 %, where one look needs 149."""
    p = anytime_p_values(np.zeros(300), 0.02)
    powers = [(1 + s * 0.02 / 0.98) ** np.arange(1, 301) for s in STAKES]
    direct = np.array(WEIGHTS) @ powers
    np.testing.assert_allclose(p, 1 / direct, rtol=1e-9)
    assert int((p > 0.05).sum()) + 1 == 211


@pytest.mark.parametrize("limit", [0.001, 0.02, 0.1, 0.5, 0.9])
def test_every_mean_a_percent_below_the_limit_is_certified_in_the_end(limit):
    """The capital of some bet grows at the rate .992 limit, of none at .995: exact drifts."""

    def drift(rate, stake):
        lost = rate * math.log1p(-stake) if stake < 1 else -math.inf
        return lost + (1 - rate) * math.log1p(stake * limit / (1 - limit))

    assert max(drift(0.992 * limit, stake) for stake in STAKES) > 0
    assert max(drift(0.995 * limit, stake) for stake in STAKES) < 0


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.9])
def test_the_bound_converges_to_within_a_percent(rate):
    n = 10**6
    bound = anytime_upper_bound(np.arange(n) < rate * n, 0.05)
    assert rate < bound < 1.01 * rate


def test_a_range_is_scaled():
    drop = np.r_[np.zeros(500), -np.ones(20)]
    unit = (drop + 1) / 2
    assert anytime_upper_bound(drop, 0.05, low=-1.0) == pytest.approx(
        2 * anytime_upper_bound(unit, 0.05) - 1, abs=1e-9
    )


def test_an_anytime_certificate_does_not_assume_a_fixed_number():
    options = {"quantity": "disagreement", "epsilon": 0.05, "delta": 0.05}
    made = certify_mean(np.zeros(300), range(300), method="anytime", **options)
    assert made.holds
    assert made.method == "anytime"
    assert not any("number of images" in each for each in made.assumed)
    assert any("order in which images are added" in each for each in made.assumed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "needs at least one value"),
        ([0.5, 1.5], r"values must lie in \[0, 1\], got 1.5"),
        ([math.nan], "got nan"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        anytime_p_values(values, 0.1)


# --- the alarm ------------------------------------------------------------------------------


def capital_of_all_starts(bits, epsilon):
    """M by its definition: every start j has its own share of the capital."""
    total, n = 0.0, len(bits)
    stakes = alarm_stakes(epsilon)
    for j in range(1, n + 1):
        for s in stakes:
            factors = (1 + s * (x - epsilon) / epsilon for x in bits[j - 1 :])
            total += math.prod(factors) / (j * (j + 1)) / len(stakes)
    return total + 1 / (n + 1)


@given(BITS, st.sampled_from([0.01, 0.1, 0.5, 0.9]))
def test_the_alarm_is_its_definition(bits, epsilon):
    alarm = Alarm(epsilon, 0.01)
    highest = 1.0
    for t, bit in enumerate(bits, start=1):
        alarm = alarm.after(bit)
        wanted = capital_of_all_starts(bits[:t], epsilon)
        highest = max(highest, wanted)
        assert alarm.capital == pytest.approx(wanted, rel=1e-9)
        assert alarm.highest == pytest.approx(highest, rel=1e-9)
    assert (alarm.n, alarm.n_changed) == (len(bits), sum(bits))
    assert alarm.rings == (alarm.rang_at is not None)


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 0.7])
def test_the_alarm_is_fair_at_epsilon(epsilon):
    """The mean capital after 8 outcomes is 1 at the rate epsilon, and below it at a lower one."""
    for rate, fair in ((epsilon, True), (epsilon / 2, False)):
        mean = 0.0
        for bits in product((False, True), repeat=8):
            alarm = Alarm(epsilon, 0.01)
            for bit in bits:
                alarm = alarm.after(bit)
            mean += rate ** sum(bits) * (1 - rate) ** (8 - sum(bits)) * alarm.capital
        assert mean == pytest.approx(1.0, abs=1e-9) if fair else mean < 1.0 - 1e-6


def test_a_long_quiet_time_delays_the_alarm_little():
    """Without new starts the capital of 5,000 quiet outcomes would be gone: .99^5000 = 1e-22."""
    alarm = Alarm(0.02, 0.01)
    for _ in range(5000):
        alarm = alarm.after(False)
    for _ in range(40):
        alarm = alarm.after(True)
    assert alarm.rings
    assert 5000 < alarm.rang_at <= 5030


def test_an_alarm_is_kept():
    alarm = Alarm(0.1, 0.05)
    for bit in [True] * 30 + [False] * 500:
        alarm = alarm.after(bit)
    assert alarm.rings
    assert alarm.capital < 20 < alarm.highest
    assert alarm.sentence().startswith(f"ALARM after {alarm.rang_at} audited answers")
    assert Alarm.from_json(json.loads(json.dumps(alarm.to_json()))) == alarm


def test_the_capital_stays_a_number():
    alarm = Alarm(1e-6, 0.05)
    for _ in range(200):
        alarm = alarm.after(True)
    assert math.isfinite(alarm.capital)
    assert math.isfinite(alarm.highest)


@pytest.mark.parametrize("epsilon", [1e-6, 0.02, 0.1, 0.5, 0.9])
def test_every_rate_above_1_008_epsilon_rings_in_the_end(epsilon):
    """The capital of some bet grows at that rate, and shrinks at epsilon: exact drifts."""

    def growth(rate):
        """Largest mean of log(factor) over the bets."""
        if rate > 1:
            return math.inf
        return max(
            rate * math.log1p(s * (1 - epsilon) / epsilon) + (1 - rate) * math.log1p(-s)
            for s in alarm_stakes(epsilon)
        )

    assert growth(1.008 * epsilon) > 0
    assert growth(epsilon) < 0


def test_a_rate_of_1_1_epsilon_rings():
    """11 of 20 outcomes change, at epsilon .5, without any chance; 10 of 20 do not ring."""
    alarm = Alarm(0.5, 0.05)
    for t in range(4000):
        alarm = alarm.after(t * 11 % 20 < 11)
    assert alarm.n_changed == 2200
    assert alarm.rings
    quiet = Alarm(0.5, 0.05)
    for t in range(4000):
        quiet = quiet.after(t % 2 == 0)
    assert not quiet.rings


def test_a_state_of_the_earlier_bets_is_refused():
    old = Alarm(0.1, 0.05).after(True).to_json() | {"schema_version": 1}
    with pytest.raises(ValueError, match="Alarm has schema version 1; this code reads version 2"):
        Alarm.from_json(old)


@pytest.mark.parametrize("epsilon", [1e-6, 0.02, 0.3, 0.5, 0.75, 0.99])
def test_stakes_double_from_a_64th_of_epsilon(epsilon):
    stakes = alarm_stakes(epsilon)
    assert stakes[0] == epsilon / 64
    assert all(b == 2 * a for a, b in pairwise(stakes))
    assert max(stakes) <= 0.5 < 2 * max(stakes) + 1e-9 or len(stakes) == 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Alarm(0.0, 0.05), "epsilon must lie strictly between 0 and 1"),
        (lambda: Alarm(0.1, 1.0), "alpha must lie strictly between 0 and 1"),
        (lambda: Alarm(0.1, 0.05, n=1, n_changed=2), "2 of 1 outcomes cannot have changed"),
        (lambda: Alarm(0.1, 0.05, n=3), "working has 0 bets"),
        (lambda: Alarm(0.5, 0.05, n=1, working=(-1.0,) * 7), "working must not be negative"),
        (lambda: Alarm(0.5, 0.05, highest=30.0), "contradicts rang_at None"),
        (lambda: Alarm(0.1, 0.05).after(1), "changed must be True or False, got 1"),
    ],
)
def test_impossible_alarms_are_refused(made, message):
    with pytest.raises((TypeError, ValueError), match=message):
        made()
