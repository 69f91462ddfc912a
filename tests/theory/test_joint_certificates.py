"""Certificates of several groups, several risks, and quantiles: exact errors and set relations."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theory import certify_groups, certify_mean, certify_quantile, certify_risks
from theory.certificates import (
    RISK_CONTROLS,
    GroupCertificates,
    QuantileCertificate,
    RiskCertificates,
    images_for_quantile,
    quantile_upper_bound,
)

OF = {"quantity": "disagreement", "epsilon": 0.1, "delta": 0.06}
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 15), st.booleans()), min_size=1, max_size=60
)


def back(record):
    return type(record).from_json(json.loads(json.dumps(record.to_json())))


# --- groups ---------------------------------------------------------------------------------


@given(ROWS)
def test_each_group_has_the_certificate_of_its_rows_at_its_share_of_delta(rows):
    groups, images, changed = zip(*rows, strict=True)
    made = certify_groups(np.array(changed, dtype=float), images, groups, **OF)
    assert set(made.certificates) == set(groups)
    for name, certificate in made.certificates.items():
        mine = [row for row in rows if row[0] == name]
        options = {**OF, "delta": 0.06 / len(set(groups))}
        alone = certify_mean([float(c) for *_, c in mine], [i for _, i, _ in mine], **options)
        assert certificate == alone
    sizes = {name: each.n_images for name, each in made.certificates.items()}
    assert sizes[made.smallest] == min(sizes.values())
    assert made.holds == all(each.holds for each in made.certificates.values())
    assert back(made) == made


def test_the_smallest_group_is_named_with_what_it_can_reach():
    values, groups = np.zeros(340), ["shape"] * 300 + ["count"] * 40
    made = certify_groups(values, range(340), groups, **OF)
    assert made.smallest == "count"
    assert made.reachable == pytest.approx(1 - 0.03 ** (1 / 40), abs=1e-9)
    assert made.reachable == made.certificates["count"].bound
    assert "the smallest group, count, has 40 images and reaches epsilon" in made.sentence()
    values[-3:] = 1.0
    worse = certify_groups(values, range(340), groups, **OF)
    assert worse.reachable == made.reachable
    assert not worse.holds
    assert "does NOT hold for count" in worse.sentence()


@pytest.mark.parametrize(
    ("quantity", "method"),
    [
        ("accuracy_drop", "betting"),
        ("accuracy_drop", "hoeffding"),
        ("accuracy_drop", "harm"),
        ("length_change", "betting"),
        ("disagreement", "anytime"),
    ],
)
def test_what_the_smallest_group_can_reach_is_its_bound_without_a_change(quantity, method):
    of = {**OF, "quantity": quantity, "method": method}
    made = certify_groups(np.zeros(90), range(90), ["a"] * 60 + ["b"] * 30, **of)
    assert made.reachable == pytest.approx(made.certificates["b"].bound, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ["a"]}, "values, clusters and groups must have one length, got 2, 2 and 1"),
        ({"groups": ["a", None]}, "groups: "),
        ({"groups": [1, "1"]}, "groups must have different names"),
        ({"clusters": ["x"]}, "must have one length"),
        ({"delta": 1.0}, "delta must lie strictly"),
        ({"values": [], "clusters": [], "groups": []}, "one loss for each question, got none"),
        ({"values": (v for v in [0.0])}, "values must be an array of numbers, got <generator"),
    ],
)
def test_bad_groups_are_named(changes, message):
    given_ = {"values": [0.0, 1.0], "clusters": ["x", "y"], "groups": ["a", "b"], **OF}
    with pytest.raises((TypeError, ValueError), match=message):
        certify_groups(**{**given_, **changes})


def test_labels_of_a_generator_are_read_as_those_of_a_list():
    groups, images, changed = ["a", "b", "a", "b"], ["x", "y", "z", "x"], [0.0, 1.0, 0.0, 0.0]
    wanted = certify_groups(changed, images, groups, **OF)
    assert certify_groups(changed, iter(images), (each for each in groups), **OF) == wanted
    assert certify_mean(changed, iter(images), **OF) == certify_mean(changed, images, **OF)
    risks = {"disagreement": changed, "accuracy_drop": changed}
    limits = {"limits": {"disagreement": 0.1, "accuracy_drop": 0.1}, "delta": 0.05}
    assert certify_risks(risks, iter(images), **limits) == certify_risks(risks, images, **limits)


def test_group_records_are_consistent():
    made = certify_groups([0.0] * 9, range(9), ["a"] * 5 + ["b"] * 4, **OF)
    with pytest.raises(ValueError, match="the smallest group 'c' has no certificate"):
        replace(made, smallest="c")
    with pytest.raises(ValueError, match=r"is not at delta 0\.1"):
        GroupCertificates(0.2, made.certificates, "a", 0.1)


# --- risks ----------------------------------------------------------------------------------

N = 400


def some_risks(changed, lost, longer):
    def ones(k, value=1.0):
        return np.r_[np.full(k, value), np.zeros(N - k)]

    return {
        "disagreement": ones(changed),
        "accuracy_drop": ones(lost),
        "length_change": ones(longer, 0.5),
    }


LIMITS = {"disagreement": 0.05, "accuracy_drop": 0.03, "length_change": 0.04}


@given(st.integers(0, 30), st.integers(0, 20), st.integers(0, 40), st.sampled_from([0.01, 0.05]))
def test_controls_certify_subsets_of_each_other(changed, lost, longer, delta):
    values = some_risks(changed, min(lost, changed), longer)
    made = {
        control: certify_risks(values, range(N), limits=LIMITS, delta=delta, control=control)
        for control in RISK_CONTROLS
    }
    sets = {control: set(each.certified) for control, each in made.items()}
    assert sets["bonferroni"] <= sets["holm"]
    passed = {name for name, p in made["holm"].p_values.items() if p <= delta}
    assert sets["all"] == (set(LIMITS) if passed == set(LIMITS) else set())
    assert sets["holm"] <= passed
    assert sets["fixed-sequence"] <= passed
    assert all(back(each) == each for each in made.values())
    assert made["all"].holds == (passed == set(LIMITS))


def test_p_values_are_those_of_the_binomial():
    made = certify_risks(some_risks(8, 3, 0), range(N), limits=LIMITS, delta=0.05)
    assert made.methods["disagreement"] == "clopper-pearson"
    assert made.methods["accuracy_drop"] == "harm"
    assert made.p_values["disagreement"] == pytest.approx(stats.binom.cdf(8, N, 0.05))
    assert made.p_values["accuracy_drop"] == pytest.approx(stats.binom.cdf(3, N, 0.03))
    assert made.estimates["disagreement"] == 8 / N
    several = certify_risks(some_risks(8, 3, 0), np.arange(N) // 2, limits=LIMITS, delta=0.05)
    assert several.n_images == N // 2
    assert set(several.methods.values()) == {"betting"}


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_losses_between_0_and_1_have_the_p_value_of_the_mean(losses):
    """Duality: a bound at the p-value as delta lies at the limit."""
    limits = {"disagreement": 0.3, "accuracy_drop": 0.3}
    made = certify_risks(
        dict.fromkeys(limits, losses),
        range(len(losses)),
        limits=limits,
        delta=0.05,
        method="hoeffding",
    )
    assert set(made.methods.values()) == {"hoeffding"}
    assert made.estimates["disagreement"] == pytest.approx(np.mean(losses))
    gap = max(0.0, 0.3 - np.mean(losses))
    for name, width in (("disagreement", 1.0), ("accuracy_drop", 2.0)):
        wanted = math.exp(-2 * len(losses) * (gap / width) ** 2)
        assert made.p_values[name] == pytest.approx(wanted, abs=1e-9)
    betting = certify_risks(
        {"disagreement": losses},
        range(len(losses)),
        limits={"disagreement": 0.3},
        delta=0.05,
        method="betting",
    )
    assert betting.methods == {"disagreement": "betting"}


def test_the_order_of_a_fixed_sequence_is_that_of_the_risks():
    values = some_risks(40, 0, 0)  # the first fails
    made = certify_risks(values, range(N), limits=LIMITS, delta=0.05, control="fixed-sequence")
    assert made.certified == ()
    turned = dict(reversed(values.items()))
    made = certify_risks(turned, range(N), limits=LIMITS, delta=0.05, control="fixed-sequence")
    assert made.certified == ("length_change", "accuracy_drop")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"risks": {}}, "risks must map quantities"),
        ({"limits": {"accuracy_drop": 0.1}}, "limits must be of the risks disagreement"),
        ({"limits": {"disagreement": 1.5}}, r"limits: disagreement lies in \[0, 1\]"),
        ({"risks": {"pain": [0.0]}, "limits": {"pain": 0.1}}, "unknown risks 'pain'"),
        ({"method": "hope"}, "unknown method 'hope'"),
        ({"method": "harm"}, "risks of disagreement: harm bounds an accuracy_drop"),
        (
            {"risks": {"disagreement": [0.5]}},
            r'risks of disagreement: values\[0\] is 0.5; .* 0 or 1; pass method="betting"',
        ),
        ({"control": "hope"}, "unknown control 'hope'; choose from all, bonferroni, holm"),
    ],
)
def test_bad_risks_are_named(changes, message):
    given_ = {"risks": {"disagreement": [0.0]}, "clusters": ["a"], "limits": {"disagreement": 0.1}}
    with pytest.raises((TypeError, ValueError), match=message):
        certify_risks(**{**given_, "delta": 0.05, **changes})
    with pytest.raises(ValueError, match="certified pain, which has no limit"):
        RiskCertificates(0.05, "holm", 1, {}, {}, {}, {}, ("pain",), ())


# --- quantiles ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [29, 60, 200])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_error_of_the_order_statistic_is_exact(n, share):
    """On ranks 1..n of a uniform loss: P(X_(k) < q) = P(Binomial(n, share) >= k) <= delta < k-1."""
    bound = quantile_upper_bound(np.arange(1, n + 1), share, 0.05)
    assert math.isfinite(bound)
    assert stats.binom.sf(bound - 1, n, share) <= 0.05
    assert stats.binom.sf(bound - 2, n, share) > 0.05


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=80), st.floats(0.05, 0.95))
def test_the_bound_is_a_value_above_the_sample_quantile(values, share):
    bound = quantile_upper_bound(values, share, 0.05)
    if math.isfinite(bound):
        assert bound in values
        assert np.mean(np.array(values) <= bound) >= share
        assert len(values) >= images_for_quantile(share, 0.05)
    else:
        assert len(values) < images_for_quantile(share, 0.05)


@given(st.floats(0.05, 0.99), st.floats(0.001, 0.5))
def test_images_for_a_quantile(share, delta):
    n = images_for_quantile(share, delta)
    assert share**n <= delta
    assert n == 1 or share ** (n - 1) > delta


@given(st.lists(st.floats(0, 1), min_size=30, max_size=80), st.floats(0.1, 5), st.floats(-3, 3))
def test_a_quantile_moves_with_the_unit(values, scale, shift):
    moved = quantile_upper_bound(scale * np.array(values) + shift, 0.5, 0.05)
    assert moved == pytest.approx(scale * quantile_upper_bound(values, 0.5, 0.05) + shift)


def test_a_certificate_counts_images():
    values = np.r_[np.zeros(570), np.ones(30)]
    one = certify_quantile(values, range(600), share=0.9, limit=0.0, delta=0.05)
    assert one.holds
    assert one.bound == 0.0
    assert one.share_within == 0.95
    assert back(one) == one
    few = certify_quantile(values, np.arange(600) // 30, share=0.9, limit=0.0, delta=0.05)
    assert few.n_images == 20
    assert few.bound == math.inf
    assert not few.holds
    assert "nothing finite" in few.sentence()
    assert back(few) == few


def test_bad_quantiles_are_named():
    with pytest.raises(ValueError, match="values must be numbers, at least one"):
        quantile_upper_bound([], 0.5, 0.05)
    with pytest.raises(ValueError, match="values must be numbers"):
        quantile_upper_bound([0.0, math.nan], 0.5, 0.05)
    with pytest.raises(ValueError, match="share must lie strictly between"):
        quantile_upper_bound([0.0], 1.0, 0.05)
    with pytest.raises(ValueError, match="contradicts bound"):
        QuantileCertificate(0.9, 0.1, 0.05, 10, 0.5, True, 0.9, ())
