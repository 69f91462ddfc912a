"""Certificates for every kind of question at once, at one joint error probability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators.clustered import Labels, cluster_codes
from estimators.record import Record
from theory._validate import check_array, check_fraction, reread
from theory.certificates.certificate import RANGES, Certificate, confidence, counted
from theory.certificates.certify import Sample, certify_mean


@dataclass(frozen=True)
class GroupCertificates(Record):
    """Certificates of several groups, all true together with probability 1 - delta.

    Attributes:
        delta: maximum probability that any of the bounds is below its mean, in (0, 1).
        certificates: the certificate of each group, at delta / number of groups.
        smallest: name of the group with the fewest units.
        reachable: smallest epsilon that this group could certify, if no answer of it changed.

    Raises:
        ValueError: no groups, `smallest` is none of them, or a certificate at another delta.
    """

    delta: float
    certificates: Mapping[str, Certificate]
    smallest: str
    reachable: float

    def __post_init__(self) -> None:
        check_fraction(self.delta, "delta")
        if self.smallest not in self.certificates:
            raise ValueError(f"the smallest group '{self.smallest}' has no certificate")
        share = self.delta / len(self.certificates)
        wrong = [n for n, each in self.certificates.items() if not math.isclose(each.delta, share)]
        if wrong:
            raise ValueError(f"the certificate of {wrong[0]} is not at delta {share:g}")

    @property
    def holds(self) -> bool:
        """Whether every group is certified."""
        return all(each.holds for each in self.certificates.values())

    def sentence(self) -> str:
        """All groups, and what the smallest one could reach, in one sentence."""
        failed = [name for name, each in self.certificates.items() if not each.holds]
        least = self.certificates[self.smallest]
        verdict = f"does NOT hold for {', '.join(failed)}" if failed else "holds for each"
        reach = math.ceil(self.reachable * 1e4 - 1e-9) / 1e4
        return (
            f"{least.quantity.replace('_', ' ')} <= {least.epsilon:g} in each of "
            f"{len(self.certificates)} groups, jointly with probability {confidence(self.delta)}: "
            f"{verdict}; the smallest group, {self.smallest}, has "
            f"{counted(least.n_images, least.unit_word)} and reaches epsilon {reach:g} at best"
        )


def certify_groups(
    values: ArrayLike,
    clusters: Labels,
    groups: Labels,
    *,
    quantity: str,
    epsilon: float,
    delta: float,
    method: str = "auto",
    **options: Any,
) -> GroupCertificates:
    """Certify the mean loss of every group of questions, all at once (Mondrian).

    Group g has its own certificate of `certify_mean` at delta / G, for G groups. The union bound
    makes all G bounds true together with probability 1 - delta, whatever the dependence between
    groups: one image may have questions of several groups. Holm's method would decide more groups,
    but its bounds would not hold together; `certify_risks` uses it where only decisions are wanted.
    A certificate over all questions says nothing of a rare group, so the smallest group is named,
    with the epsilon that it reaches if nothing of it changes.

    Args:
        values: array of shape (n_values,), as in `certify_mean`.
        clusters: the image of each value, n_values hashable labels.
        groups: the group of each value, such as the kind of its question; n_values labels, fixed
            before the answers were seen.
        quantity: as in `certify_mean`.
        epsilon: tolerance for each group, in (0, 1).
        delta: joint error probability, in (0, 1).
        method: as in `certify_mean`.
        **options: further arguments of `certify_mean`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: as `certify_mean`; no values; lengths that differ, or a group without a name.

    Source:
        Vovk, Lindsay, Nouretdinov & Gammerman 2003, Mondrian confidence machine; Bonferroni.

    Example:
        >>> values, images = [0.0] * 400 + [1.0] * 20, range(420)
        >>> kinds = ["shape"] * 400 + ["color"] * 20
        >>> of = {"quantity": "disagreement", "epsilon": 0.02, "delta": 0.05}
        >>> print(certify_groups(values, images, kinds, **of).sentence())
        disagreement <= 0.02 in each of 2 groups, jointly with probability 95 %: does NOT hold for
        color; the smallest group, color, has 20 images and reaches epsilon 0.1685 at best
        >>> round(certify_mean(values, images, **of).bound, 3)  # says nothing of colors alone
        0.068
    """
    x = check_array(values, "values")
    check_fraction(delta, "delta")
    groups, clusters = reread(groups), reread(clusters)
    try:
        codes = cluster_codes(groups)
    except (TypeError, ValueError) as error:
        raise ValueError(f"groups: {error}") from None
    images = cluster_codes(clusters)
    if not x.ndim == 1 or not x.size == codes.size == images.size:
        raise ValueError(
            f"values, clusters and groups must have one length, got {x.size}, {images.size} and "
            f"{codes.size}"
        )
    if not x.size:
        raise ValueError("values must hold one loss for each question, got none")
    names = [str(each) for each in dict.fromkeys(groups)]
    if len(set(names)) < len(names):
        raise ValueError(f"groups must have different names, got {', '.join(names)}")
    made = {
        name: certify_mean(
            x[codes == code],
            images[codes == code],
            quantity=quantity,
            epsilon=epsilon,
            delta=delta / len(names),
            method=method,
            **options,
        )
        for code, name in enumerate(names)
    }
    smallest = min(made, key=lambda name: made[name].n_images)
    return GroupCertificates(delta, made, smallest, _at_best(made[smallest]))


def _at_best(certificate: Certificate) -> float:
    """The bound of as many units of which nothing changes, by the same method and range."""
    unchanged = np.zeros(certificate.n_images)
    low, high = RANGES[certificate.quantity]
    return Sample(unchanged, low, high, certificate.method, ()).upper_bound(certificate.delta)
