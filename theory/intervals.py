"""Rigorous enclosures of the entropies of rational pmfs, in intervals with exact endpoints.

A pmf is given by integer counts; its entropies are sums of n log n over integers. Each logarithm
lies between two fractions. Hence quantity A exceeds quantity B for certain if the lower endpoint of
A exceeds the upper endpoint of B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

#: Endpoints of logarithms are integer multiples of 2^-BITS.
BITS = 96


@dataclass(frozen=True)
class Interval:
    """A real number in [lower, upper].

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
        endpoints = (self.lower * factor, self.upper * factor)
        return Interval(min(endpoints), max(endpoints))


@cache
def log_interval(n: int) -> Interval:
    """Natural logarithm of an integer n >= 1, in an interval of width at most 2^-94 log n.

    log n = k log 2 + 2 artanh((m - 1)/(m + 1)) with n = 2^k m and m in [1, 2). The series of
    artanh has positive terms; the remainder after a term t is at most t x^2 / (1 - x^2).

    Raises:
        ValueError: n is below 1.

    Example:
        >>> float(log_interval(6).lower)
        1.791759469228055
    """
    if n < 1:
        raise ValueError(f"the logarithm needs a whole number >= 1, got {n}")
    k = n.bit_length() - 1
    mantissa = _log_ratio(Fraction(n, 2**k))
    return mantissa + _log_ratio(Fraction(2)) * k if k else mantissa


@cache
def _log_ratio(m: Fraction) -> Interval:
    """Natural logarithm of m in [1, 2]."""
    x = (m - 1) / (m + 1)
    total, power, odd = Fraction(0), x, 1
    while power > Fraction(1, 2 ** (BITS + 4)):
        total += power / odd
        power, odd = power * x * x, odd + 2
    remainder = power / (odd * (1 - x * x))
    scale = 2**BITS
    lower = (2 * total * scale).__floor__()
    upper = (2 * (total + remainder) * scale).__ceil__()
    return Interval(Fraction(lower, scale), Fraction(upper, scale))


def entropy_interval(
    counts: NDArray[np.int64], axes: Sequence[int], *, given: Sequence[int] = ()
) -> Interval:
    """H(A | B) in nats for the pmf counts / counts.sum(), as an interval.

    Args:
        counts: integers >= 0 with a positive sum, one axis per variable.
        axes: axes of the variables A.
        given: axes of the variables B.

    Raises:
        ValueError: a count is negative, or all counts are zero.

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
    counts: NDArray[np.int64], a: Sequence[int], b: Sequence[int], *, given: Sequence[int] = ()
) -> Interval:
    """I(A; B | C) in nats for the pmf counts / counts.sum(), as an interval.

    Example:
        >>> xor = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]])
        >>> float(information_interval(xor, [0], [2], given=[1]).lower)
        0.6931471805599453
    """
    rest = entropy_interval(counts, a, given=[*b, *given])
    return entropy_interval(counts, a, given=given) - rest


def _sum_n_log_n(counts: NDArray[np.int64], axes: Sequence[int]) -> Interval:
    """Sum of n log n over the marginal counts on `axes`."""
    rest = tuple(axis for axis in range(counts.ndim) if axis not in axes)
    total = Interval(Fraction(0), Fraction(0))
    for n in np.ravel(counts.sum(axis=rest)):
        if n > 1:
            total += log_interval(int(n)) * int(n)
    return total
