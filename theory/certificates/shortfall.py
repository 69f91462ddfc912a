"""What a failed certificate would take."""

from __future__ import annotations

from theory._validate import check_fraction, check_instance
from theory.certificates.certificate import Certificate
from theory.certificates.power import images_for_power
from theory.certificates.sample_size import images_needed


def what_it_takes(certificate: Certificate, *, power: float = 0.8) -> str:
    """One sentence: how many images would certify epsilon at the observed rate, if any.

    The rate is the certificate's `estimate`, not below 0; the number is that of Clopper-Pearson
    with one question per image (`images_for_power`), so it is a guide for other methods. A rate of
    0 needs the `images_needed` of the best case.

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
    at = f"at the observed rate of {100 * rate:.3g} %"
    if rate == 0.0:
        n = images_needed(epsilon, certificate.delta)
        nothing = (
            "no answer changed" if certificate.quantity == "disagreement" else "nothing was lost"
        )
        return f"{nothing}; {n:,} images would certify epsilon {epsilon:g} if none changes"
    if rate >= epsilon:
        return f"{at}, no number of images certifies epsilon {epsilon:g}"
    try:
        n = images_for_power(epsilon, certificate.delta, power, harmed=rate)
    except ValueError:  # more images than the search tries
        return f"{at}, more than 16 million images would be needed for epsilon {epsilon:g}"
    return f"{at}, about {n:,} images would certify epsilon {epsilon:g} (power {100 * power:g} %)"
