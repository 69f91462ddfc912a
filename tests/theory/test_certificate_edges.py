"""Certificates at the edge of what they take: one image, equal values, extreme epsilon, no ids."""

from __future__ import annotations

import math

import numpy as np
import pytest

from theory import certify_mean, learn_then_test
from theory.certificates import METHODS, RANGES

PAIRS = [
    (quantity, method)
    for quantity in RANGES
    for method in METHODS
    if method != {"disagreement": "harm", "accuracy_drop": "clopper-pearson"}.get(quantity)
    and (quantity != "length_change" or method not in ("harm", "clopper-pearson"))
]


def certify(values, clusters, quantity, method="auto", **options):
    options = {"epsilon": 0.5, "delta": 0.05, **options}
    return certify_mean(values, clusters, quantity=quantity, method=method, **options)


@pytest.mark.parametrize(("quantity", "method"), PAIRS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_image_certifies_little(quantity, method, value):
    """One image shows no rate below 1 - delta, so no bound may fall below it."""
    certificate = certify([value], ["a"], quantity, method)
    assert certificate.n_images == 1
    assert certificate.estimate == value
    assert 0.95 - 1e-9 <= certificate.bound <= 1.0
    assert not certificate.holds


@pytest.mark.parametrize(("quantity", "method"), PAIRS)
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 50, 1000])
def test_equal_values_have_a_bound_above_them(quantity, method, value, n):
    low, high = RANGES[quantity]
    if value < low:
        return
    bound = certify([value] * n, range(n), quantity, method).bound
    assert value <= bound <= high
    assert bound == high if value == 1.0 else math.isfinite(bound)


@pytest.mark.parametrize(("quantity", "method"), PAIRS)
def test_a_bound_covers_the_least_rate_that_one_sees_as_zero(quantity, method):
    """P(no failure in n images) is delta at the rate 1 - delta^(1/n): no bound may be smaller."""
    for n in (1, 5, 59, 299):
        bound = certify([0.0] * n, range(n), quantity, method).bound
        assert bound >= -math.expm1(math.log(0.05) / n) - 1e-9


@pytest.mark.parametrize("name", ["epsilon", "delta"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.1, math.nan, math.inf, -math.inf])
def test_extreme_tolerances_are_refused(name, value):
    message = rf"^{name} must lie strictly between 0 and 1, got {value}$"
    with pytest.raises(ValueError, match=message):
        certify([0.0] * 9, range(9), "disagreement", **{name: value})
    with pytest.raises(ValueError, match=message):
        learn_then_test(
            [[0.0] * 9],
            range(9),
            quantity="disagreement",
            **{"epsilon": 0.5, "delta": 0.05, name: value},
        )


@pytest.mark.parametrize("epsilon", [1e-300, 1e-9, 1 - 1e-9])
def test_tolerances_near_the_ends_are_taken(epsilon):
    certificate = certify([0.0] * 9, range(9), "disagreement", epsilon=epsilon)
    assert certificate.holds == (epsilon > 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "empty"),
        ([math.nan], "finite"),
        ([math.inf], "finite"),
        ([1.5], r"lies in \[0, 1\]"),
        ([[0.0]], "one-dimensional"),
    ],
)
def test_values_that_are_none_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        certify(values, range(len(values)), "disagreement")


@pytest.mark.parametrize(
    "missing", [None, math.nan, np.nan, np.float32("nan"), np.datetime64("NaT"), ""]
)
@pytest.mark.parametrize("method", ["auto", "betting"])
def test_missing_images_are_refused(missing, method):
    """Answers about unknown images are no evidence of independent images."""
    clusters = [f"{i}.png" for i in range(299)] + [missing]
    with pytest.raises(ValueError, match="cluster"):
        certify([0.0] * 300, clusters, "disagreement", method)
    with pytest.raises(ValueError, match="cluster"):
        learn_then_test([[0.0] * 300], clusters, quantity="disagreement", epsilon=0.02, delta=0.05)
    with pytest.raises(ValueError, match="cluster"):
        certify([0.0] * 300, [missing] * 300, "disagreement", method)


@pytest.mark.parametrize(("quantity", "method"), PAIRS)
def test_order_of_the_file_changes_no_certificate(quantity, method):
    rng = np.random.default_rng(5)
    values, images = rng.choice([0.0, 1.0], 60, p=[0.7, 0.3]), np.repeat(np.arange(20), 3)
    if quantity == "accuracy_drop":
        values -= rng.choice([0.0, 1.0], 60)
    certificates = []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(60)
        certificates.append(certify(values[order], images[order], quantity, method))
    bounds = [certificate.bound for certificate in certificates]
    assert bounds == pytest.approx([bounds[0]] * 6, abs=1e-12)
    assert {certificate.checked for certificate in certificates} == {certificates[0].checked}


def test_a_value_per_image_is_drawn_uniformly():
    """Images with 1 of 3, 2 of 3 and 3 of 4 ones: over seeds, the mean is that of the images."""
    values = [1, 0, 0, 1, 1, 0, 1, 1, 1, 0]
    images = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    estimates = [
        certify(values, images, "disagreement", "clopper-pearson", seed=seed).estimate
        for seed in range(2000)
    ]
    assert np.mean(estimates) == pytest.approx((1 / 3 + 2 / 3 + 3 / 4) / 3, abs=0.025)


@pytest.mark.parametrize(
    ("delta", "words"), [(0.05, "95 %"), (1e-7, "99.99999 %"), (1e-300, "1 - 1e-300")]
)
def test_a_sentence_never_rounds_to_certainty(delta, words):
    certificate = certify([0.0] * 9 + [1.0], range(10), "disagreement", delta=delta)
    assert f"with probability {words} (" in certificate.sentence()
    assert certificate.bound <= 1.0
