"""`Bound`: an inequality evaluated at measured values, with its hypotheses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.record import Record
from theory._validate import check_array, check_choice, check_number

UNITS = ("1", "nats", "logit", "state", "loss")
KINDS = ("at most", "at least", "exactly")


@dataclass(frozen=True, kw_only=True)
class Bound(Record):
    """A bound on a quantity, evaluated at measured values.

    Attributes:
        quantity: bounded quantity, in words.
        kind: "at most", "at least" or "exactly".
        value: the bound.
        unit: "1" (probabilities, distances, ratios), "nats", "logit", "state" (length in the
            residual stream), "loss" (unit of the loss or of the function bounded).
        statement: id of the statement that proves the bound; see `theory.statements.get`.
        checked: hypotheses checked on the arguments.
        assumed: hypotheses not checked.

    Raises:
        ValueError: unknown kind or unit, or the value is NaN.

    Example:
        >>> from theory.conditions import tail_from_mean
        >>> bound = tail_from_mean(0.02, threshold=0.1)
        >>> print(bound)
        P(cosine distance > 0.1) at most 0.2 (G-P)
        >>> Bound.from_json(bound.to_json()) == bound
        True
    """

    quantity: str
    kind: str = "at most"
    value: float
    unit: str
    statement: str
    checked: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, given, known in (("kind", self.kind, KINDS), ("unit", self.unit, UNITS)):
            check_choice(given, name, known)
        if math.isnan(check_number(self.value, "value")):
            raise ValueError(f"the bound on {self.quantity} is not a number")
        object.__setattr__(self, "value", float(self.value))

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.quantity} {self.kind} {self.value:.4g}{unit} ({self.statement})"


def within(number: float, low: float, high: float, name: str) -> float:
    """Validate that a number lies in [low, high].

    Raises:
        TypeError: not a real number.
        ValueError: the number is NaN or out of range.
    """
    if not low <= check_number(number, name) <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {number}")
    return float(number)


def count(number: int, least: int, name: str) -> int:
    """Validate that a number is a whole number and at least `least`.

    Raises:
        TypeError: not a real number.
        ValueError: the number is not whole or below `least`.
    """
    value = check_number(number, name)
    if not least <= value < math.inf or value != int(value):
        raise ValueError(f"{name} must be a whole number >= {least}, got {number}")
    return int(value)


def numbers(
    values: ArrayLike, name: str, *, low: float = -np.inf, high: float = np.inf, ndim: int = 1
) -> NDArray[np.float64]:
    """Validate a non-empty array of `ndim` axes with entries in [low, high]; return it as float64.

    Raises:
        TypeError: not an array of numbers.
        ValueError: wrong rank, no entries, or an entry that is not finite or out of range.
    """
    array = check_array(values, name)
    if array.ndim != ndim or not array.size:
        raise ValueError(f"{name} must be a non-empty array of rank {ndim}, got {array.shape}")
    bad = np.argwhere(~(np.isfinite(array) & (array >= low) & (array <= high)))
    if bad.size:
        where = ", ".join(map(str, bad[0]))
        entry = array[tuple(bad[0])]
        raise ValueError(f"{name}[{where}] is {entry:g}, not a number in [{low:g}, {high:g}]")
    return array
