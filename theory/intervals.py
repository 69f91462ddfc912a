"""Entropies of rational pmfs as intervals with exact ends, for enumerations that must not err.

A pmf is given by whole-number counts; its entropies are sums of n log n over whole numbers.
Every logarithm is enclosed by two fractions, so that "lower end of one > upper end of the
other" is a proof that one quantity is larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

#: Ends are whole multiples of 2^-BITS.
BITS = 96


@dataclass(frozen=True)
class Interval:
    """A real number known to lie between two fractions, ends included.

    Example:
        >>> third = Interval(Fraction(1, 3), Fraction(1, 3))
        >>> (third - third * 2).upper
        Fraction(-1, 3)
    """

    lower: Fraction
    upper: Fraction

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.lower + other.lower, self.upper + other.upper)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.lower - other.upper, self.upper - other.lower)

    def __mul__(self, factor: Fraction | int) -> Interval:
        ends = (self.lower * factor, self.upper * factor)
        return Interval(min(ends), max(ends))


@cache
def log_interval(n: int) -> Interval:
    """The logarithm of n in nats, a whole number >= 1, at most log n 2^-94 wide.

    log n = k log 2 + 2 artanh((m - 1)/(m + 1)) with n = 2^k m and m in [1, 2); the series of
    artanh has positive terms, and what follows a term t x^2 is at most t x^2 / (1 - x^2).

    Raises:
        ValueError: n below 1.

    Example:
        >>> float(log_interval(6).lower)
        1.791759469228055
    """
    if n < 1:
        raise ValueError(f"the logarithm needs a whole number >= 1, got {n}")
    k = n.bit_length() - 1
    within = _log_ratio(Fraction(n, 2**k))
    return within + _log_ratio(Fraction(2)) * k if k else within


@cache
def _log_ratio(m: Fraction) -> Interval:
    """The logarithm of m in [1, 2]."""
    x = (m - 1) / (m + 1)
    total, power, odd = Fraction(0), x, 1
    while power > Fraction(1, 2 ** (BITS + 4)):
        total += power / odd
        power, odd = power * x * x, odd + 2
    rest = power / (odd * (1 - x * x))
    scale = 2**BITS
    lower = (2 * total * scale).__floor__()
    upper = (2 * (total + rest) * scale).__ceil__()
    return Interval(Fraction(lower, scale), Fraction(upper, scale))


def entropy_interval(
    counts: NDArray[np.int64], axes: Sequence[int], given: Sequence[int] = ()
) -> Interval:
    """H(A | B) in nats of the pmf counts / counts.sum(), as an interval.

    Args:
        counts: whole numbers >= 0 with a positive sum, one axis for each variable.
        axes: of the variables A.
        given: axes of the variables B.

    Raises:
        ValueError: counts that are negative or all zero.

    Example:
        >>> h = entropy_interval(np.array([[1, 0], [0, 1]]), [0])
        >>> float(h.lower), h.upper - h.lower < Fraction(1, 2**80)
        (0.6931471805599453, True)
    """
    total = int(counts.sum())
    if total <= 0 or (counts < 0).any():
        raise ValueError("counts must be whole numbers >= 0 that are not all zero")
    joint = _sum_n_log_n(counts, [*axes, *given])
    condition = _sum_n_log_n(counts, given)
    return (condition - joint) * Fraction(1, total)


def information_interval(
    counts: NDArray[np.int64], a: Sequence[int], b: Sequence[int], given: Sequence[int] = ()
) -> Interval:
    """I(A; B | C) in nats of the pmf counts / counts.sum(), as an interval.

    Example:
        >>> xor = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]])
        >>> float(information_interval(xor, [0], [2], given=[1]).lower)
        0.6931471805599453
    """
    return entropy_interval(counts, a, given) - entropy_interval(counts, a, [*b, *given])


def _sum_n_log_n(counts: NDArray[np.int64], axes: Sequence[int]) -> Interval:
    rest = tuple(axis for axis in range(counts.ndim) if axis not in axes)
    total = Interval(Fraction(0), Fraction(0))
    for n in np.ravel(counts.sum(axis=rest)):
        if n > 1:
            total += log_interval(int(n)) * int(n)
    return total
