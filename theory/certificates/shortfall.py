"""What a failed certificate would take."""

from __future__ import annotations

import math

import numpy as np

from theory._validate import check_choice, check_fraction, check_instance
from theory.certificates.certificate import METHODS, RANGES, Certificate
from theory.certificates.certify import Sample
from theory.certificates.power import images_for_power
from theory.certificates.sample_size import images_needed

#: Largest number of images that `images_at_best` tries.
MOST_IMAGES = 1 << 17


def images_at_best(
    epsilon: float, delta: float, method: str, quantity: str = "disagreement"
) -> int | None:
    """Smallest number of images with which a bound is at most epsilon if every value is 0.

    By doubling and bisection on the bound of `method` for the range of the quantity, one question
    per image.

    Args:
        epsilon: tolerance, in (0, 1).
        delta: maximum error probability of the certificate, in (0, 1).
        method: a method of `certify_mean` other than "auto".
        quantity: "disagreement", "accuracy_drop" or "length_change".

    Returns:
        Number of images; None if more than `MOST_IMAGES`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: epsilon or delta outside (0, 1), unknown method or quantity.

    Example:
        >>> [images_at_best(0.02, 0.05, method) for method in ("clopper-pearson", "hoeffding")]
        [149, 3745]
        >>> images_at_best(0.02, 0.05, "hoeffding", "accuracy_drop")  # in [-1, 1], not [0, 1]
        14979
    """
    check_fraction(epsilon, "epsilon")
    check_fraction(delta, "delta")
    check_choice(method, "method", METHODS)
    check_choice(quantity, "quantity", RANGES)
    smallest, largest = RANGES[quantity]
    low, high = 0, 1

    def enough(n: int) -> bool:
        return Sample(np.zeros(n), smallest, largest, method, ()).upper_bound(delta) <= epsilon

    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_IMAGES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def what_it_takes(certificate: Certificate, *, power: float = 0.8) -> str:
    """One sentence: how many images would certify epsilon at the observed rate or drop, if any.

    The rate is the certificate's `estimate`, not below 0. The number is that of Clopper-Pearson
    (`images_for_power`), times the ratio of `images_at_best` for a method other than it or harm,
    for which it is a guide. A rate of 0 needs the `images_at_best`.

    Args:
        certificate: that does not hold; for one that holds the sentence is empty.
        power: probability with which it should hold then, in (0, 1).

    Example:
        >>> from theory import certify_mean
        >>> of = dict(quantity="disagreement", epsilon=0.02, delta=0.05)
        >>> what_it_takes(certify_mean([0.0] * 60, range(60), **of))
        'no answer changed; 149 images would certify epsilon 0.02 if none changes'
        >>> what_it_takes(certify_mean([0.0] * 199 + [1.0], range(200), **of))
        'at the observed rate of 0.5 %, about 386 images would certify epsilon 0.02 (power 80 %)'
        >>> what_it_takes(certify_mean([0.0] * 50 + [1.0] * 2, range(52), **of))
        'at the observed rate of 3.85 %, no number of images certifies epsilon 0.02'
    """
    check_instance(certificate, Certificate, "certificate")
    check_fraction(power, "power")
    epsilon, rate = certificate.epsilon, max(0.0, certificate.estimate)
    if certificate.holds:
        return ""
    scale = "disagreement" if certificate.label_free else certificate.quantity
    observed = "drop" if scale == "accuracy_drop" else "rate"
    at, units = f"at the observed {observed} of {100 * rate:.3g} %", f"{certificate.unit_word}s"
    needed = images_at_best(epsilon, certificate.delta, certificate.method, scale)
    if rate == 0.0 and needed is not None:
        n = needed
        nothing = (
            "no answer changed" if certificate.quantity == "disagreement" else "nothing was lost"
        )
        return f"{nothing}; {n:,} {units} would certify epsilon {epsilon:g} if none changes"
    if rate >= epsilon:
        return f"{at}, no number of {units} certifies epsilon {epsilon:g}"
    try:
        n = images_for_power(epsilon, certificate.delta, power, harmed=rate)
    except ValueError:  # more images than the search tries
        needed = None
    if needed is None:
        return f"{at}, more than {MOST_IMAGES:,} {units} would be needed for epsilon {epsilon:g}"
    n = math.ceil(n * needed / images_needed(epsilon, certificate.delta))
    return f"{at}, about {n:,} {units} would certify epsilon {epsilon:g} (power {100 * power:g} %)"
