"""`Certificate`: an upper confidence bound on the loss of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from estimators.record import Record
from theory._validate import check_fraction

RANGES = {"disagreement": (0.0, 1.0), "accuracy_drop": (-1.0, 1.0)}
METHODS = (
    "betting",
    "clopper-pearson",
    "empirical-bernstein",
    "harm",
    "hoeffding",
    "hoeffding-bentkus",
)


@dataclass(frozen=True)
class Certificate(Record):
    """An upper confidence bound on a mean over images, compared with a tolerance epsilon.

    Attributes:
        quantity: "disagreement" (share of answers that change, in [0, 1], label-free) or
            "accuracy_drop" (accuracy of the full model minus accuracy of the skipped model).
        epsilon: tolerance, in (0, 1).
        delta: maximum probability that `bound` is below the true mean, in (0, 1).
        n_images: number of independent images.
        bound: upper confidence bound, dimensionless.
        holds: whether bound <= epsilon.
        estimate: sample mean over images of the bounded quantity.
        method: type of the bound, one of `METHODS`.
        checked: conditions verified on the data.
        assumed: conditions that cannot be verified on the data.
        label_free: whether an accuracy drop was bounded without labels, by the disagreement;
            `estimate` is then the sample disagreement.
        data_hash: hash of the data, for provenance.
        plan_hash: hash of the plan, for provenance.

    Raises:
        ValueError: unknown quantity or method, a method that cannot bound the quantity, epsilon
            or delta outside (0, 1), no images, or `holds` contradicts `bound`.

    Example:
        >>> from theory import certify_mean
        >>> values = [0.0] * 298 + [1.0] + [0.0]
        >>> cert = certify_mean(
        ...     values, range(300), quantity="disagreement", epsilon=0.02, delta=0.05
        ... )
        >>> print(cert)
        disagreement <= 0.0158 with probability 95 % (300 images, clopper-pearson):
        holds at epsilon 0.02
    """

    SCHEMA_VERSION: ClassVar[int] = 2

    quantity: str
    epsilon: float
    delta: float
    n_images: int
    bound: float
    holds: bool
    estimate: float
    method: str
    checked: tuple[str, ...]
    assumed: tuple[str, ...]
    label_free: bool = False
    data_hash: str = ""
    plan_hash: str = ""

    def __post_init__(self) -> None:
        if self.label_free and self.quantity != "accuracy_drop":
            raise ValueError(f"label_free applies to an accuracy_drop, not to a {self.quantity}")
        bounded = "disagreement" if self.label_free else self.quantity
        check_request(bounded, self.epsilon, self.delta, self.method)
        if self.n_images < 1:
            raise ValueError(f"a certificate needs at least one image, got {self.n_images}")
        if self.holds != (self.bound <= self.epsilon):
            raise ValueError(
                f"holds={self.holds} contradicts bound {self.bound} and epsilon {self.epsilon}"
            )

    def sentence(self) -> str:
        """The certificate in one sentence, with the bound rounded up."""
        bound = math.ceil(self.bound * 1e4 - 1e-9) / 1e4
        free = ", label-free" if self.label_free else ""
        verdict = "holds" if self.holds else "does NOT hold"
        return (
            f"{self.quantity.replace('_', ' ')} <= {bound:.4f} with probability "
            f"{100.0 * (1.0 - self.delta):g} % ({self.n_images} images, {self.method}{free}): "
            f"{verdict} at epsilon {self.epsilon:g}"
        )

    def __str__(self) -> str:
        return self.sentence()


def check_request(quantity: str, epsilon: float, delta: float, method: str) -> None:
    """Validate a request for a certificate.

    Raises:
        ValueError: unknown quantity or method, a method that cannot bound the quantity, epsilon
            or delta outside (0, 1).
    """
    for name, given, known in (("quantity", quantity, RANGES), ("method", method, METHODS)):
        if given not in known:
            raise ValueError(f"unknown {name} '{given}'; choose from {', '.join(known)}")
    if method == "clopper-pearson" and quantity != "disagreement":
        raise ValueError(
            f"clopper-pearson counts failures and cannot bound a {quantity}; "
            "use harm (asked once per image), betting or hoeffding"
        )
    if method == "harm" and quantity != "accuracy_drop":
        raise ValueError(f"harm bounds an accuracy_drop, not a {quantity}; use clopper-pearson")
    check_fraction(epsilon, "epsilon")
    check_fraction(delta, "delta")
