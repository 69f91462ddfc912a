"""Which epsilon the images of a certificate can reach, before any answer is seen."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from estimators.record import Record
from theory import certify_mean
from theory.certificates import METHODS as BOUNDS
from theory.certificates.certificate import counted
from theory.certificates.shortfall import MOST_IMAGES, images_at_best
from vlm_bridge.data import Item, unit_word
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.model.given import check_items

QUANTITIES = ("disagreement", "accuracy_drop")
#: Methods that a certificate may ask for.
METHODS = ("auto", "label-free", *BOUNDS)
logger = logging.getLogger("vlm_bridge")


@dataclass(frozen=True)
class Reach(Record):
    """The smallest epsilon that the images can certify: the bound if no answer changes.

    Attributes:
        n_images: number of independent units, images unless `unit_word` says otherwise.
        epsilon: that is asked for.
        delta: error probability of the certificate.
        best: bound if no answer changes; no certificate of disagreement is below it.
        n_needed: images with which epsilon is within reach, one question each; None if more than
            131,072.
        quantity: "disagreement" or "accuracy_drop".
        unit_word: what the units are, in the singular.
    """

    n_images: int
    epsilon: float
    delta: float
    best: float
    n_needed: int | None
    quantity: str = "disagreement"
    unit_word: str = "image"

    @property
    def possible(self) -> bool:
        """Whether a certificate at epsilon can hold."""
        return self.best <= self.epsilon

    def sentence(self) -> str:
        """What the images can certify at best, and what epsilon would need.

        >>> print(Reach(60, 0.02, 0.05, 0.0487, 149).sentence())
        60 images: epsilon 0.0487 is the best within reach (no answer changes, delta 0.05);
        epsilon 0.02 is out of reach, it needs at least 149 images
        """
        best = math.ceil(1e4 * self.best) / 1e4
        text = (
            f"{counted(self.n_images, self.unit_word)}: epsilon {best:g} is the best "
            f"within reach (no answer changes, delta {self.delta:g})"
        )
        if self.possible:
            return text
        needed = (
            f"more than {MOST_IMAGES:,}" if self.n_needed is None else f"at least {self.n_needed:,}"
        )
        unless = " unless skipping mends answers" if self.quantity == "accuracy_drop" else ""
        return (
            f"{text}; epsilon {self.epsilon:g} is out of reach{unless}, it needs {needed} "
            f"{self.unit_word}s"
        )


def reach(
    items: Iterable[Item],
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    quantity: str = "disagreement",
    method: str = "auto",
) -> Reach:
    """What a certificate on `items` can reach, from their number and images alone.

    Arguments are those of `vlm_bridge.certify`; no model is run.

    Raises:
        BridgeError: no items, or bad arguments.

    Example:
        >>> from pathlib import Path
        >>> reach([Item(Path(f"{i}.png"), "is it red?") for i in range(60)]).possible
        False
    """
    check_method(method)
    items = check_items(items)
    clusters = [item.cluster for item in items]
    if not clusters:
        raise BridgeError("there are no items to certify on")
    counted = {"harm": "clopper-pearson", "label-free": "auto"}.get(method, method)

    def best(labels: list[str]) -> tuple[float, str]:
        unchanged = [0.0] * len(labels)
        made = certify_mean(
            unchanged, labels, quantity="disagreement", epsilon=epsilon, delta=delta, method=counted
        )
        return made.bound, made.method

    try:
        bound, resolved = best(clusters)
    except ValueError as error:
        raise BridgeError(str(error)) from None
    n = len(set(clusters))
    needed = n if bound <= epsilon else images_at_best(epsilon, delta, resolved)
    return Reach(n, epsilon, delta, bound, needed, quantity, unit_word(items, 1))


def log_reach(sentence: str, possible: bool) -> None:
    """Log the sentence of a reach, as a warning if what is wanted is out of reach."""
    logger.log(logging.INFO if possible else logging.WARNING, sentence)


def check_method(method: Any) -> None:
    """Raise a `BridgeError` for an unknown method of a certificate."""
    if not isinstance(method, str) or method not in METHODS:
        named = f"'{method}'" if isinstance(method, str) else shown(method)
        raise BridgeError(f"unknown method {named}; choose from {', '.join(METHODS)}")


def check_quantity(quantity: str, method: str) -> None:
    """Raise a `BridgeError` for an unknown quantity, or a method of another one."""
    check_method(method)
    if quantity not in QUANTITIES:
        raise BridgeError(f"unknown quantity '{quantity}'; choose from {', '.join(QUANTITIES)}")
    if method == "label-free" and quantity != "accuracy_drop":
        raise BridgeError(f"label-free bounds an accuracy_drop, not a {quantity}; use auto")
