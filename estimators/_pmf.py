"""Joint probability mass functions as arrays, one axis per variable: checks and entropies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from estimators._arrays import to_numpy

# Largest deviation of the sum of probabilities from one; smaller deviations are normalised.
SUM_TOLERANCE = 1e-9
# Single and half precision: this many roundings, and the root of the number of symbols.
_ROUNDINGS = 10.0
NATS_PER = {"nats": 1.0, "bits": float(np.log(2.0))}


def as_pmf(
    p: ArrayLike, *, axes: str = "", name: str = "p", counts: str = "the function for counts"
) -> NDArray[np.float64]:
    """`p` as a float64 array of probabilities that sum to one.

    Args:
        p: real array, one axis per variable; the sum may deviate from one by the rounding of its
            precision (float64: 1e-9).
        axes: names of the axes, for example "x1, x2, y"; any number of axes where empty.
        name: name of `p` in messages.
        counts: name of the function that takes counts, for the message.

    Raises:
        ValueError: not real numbers, integer counts, empty, wrong number of axes, a
            probability that is not finite or negative (with its position), a sum other than one.

    Example:
        >>> as_pmf([[2, 1], [0, 1]])
        Traceback (most recent call last):
        ValueError: p holds integers: counts go to the function for counts; probabilities are
        floats that sum to one
    """
    array = to_numpy(p, name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}")
    wanted = len(axes.split(",")) if axes else None
    if (wanted is not None and array.ndim != wanted) or array.ndim == 0:
        shape = f"{wanted} axes {name}[{axes}]" if axes else "at least one axis"
        raise ValueError(f"{name} must have {shape}, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {array.shape}; every axis needs a symbol")
    pmf = array.astype(np.float64)
    for bad, what in ((~np.isfinite(pmf), "is not finite"), (pmf < 0.0, "is negative")):
        if bad.any():
            where = ", ".join(map(str, np.argwhere(bad)[0]))
            raise ValueError(f"{name}[{where}] = {pmf[bad][0]:g} {what}")
    total = float(pmf.sum())
    if total > 1.5 and bool((pmf == np.rint(pmf)).all()):
        raise ValueError(
            f"{name} holds integers: counts go to {counts}; "
            "probabilities are floats that sum to one"
        )
    if abs(total - 1.0) > _sum_tolerance(array):
        raise ValueError(f"{name} must sum to one, its sum is {total:.10g}")
    return pmf / total


def _sum_tolerance(array: NDArray[Any]) -> float:
    """Tolerated deviation of the sum: that of rounding in the precision of the probabilities."""
    if array.dtype.kind != "f" or array.dtype.itemsize > 4:
        return SUM_TOLERANCE
    return float(np.finfo(array.dtype).eps) * (_ROUNDINGS + math.sqrt(array.size))


def check_unit(unit: str) -> float:
    """Number of nats in a unit of information.

    Raises:
        ValueError: neither "nats" nor "bits".

    Example:
        >>> round(check_unit("bits"), 4)
        0.6931
    """
    if unit not in NATS_PER:
        raise ValueError(f"unknown unit '{unit}'; choose from nats, bits")
    return NATS_PER[unit]


def marginal(p: NDArray[np.float64], keep: tuple[int, ...]) -> NDArray[np.float64]:
    """Marginal distribution of the axes in `keep`; the other axes are summed out.

    Example:
        >>> marginal(np.array([[0.5, 0.25], [0.0, 0.25]]), (0,)).tolist()
        [0.75, 0.25]
    """
    drop = tuple(axis for axis in range(p.ndim) if axis not in keep)
    summed: NDArray[np.float64] = p.sum(axis=drop)
    return summed


def entropy_of(p: NDArray[np.float64]) -> float:
    """-sum p log p in nats, with 0 log 0 = 0; `p` is not checked.

    Example:
        >>> round(entropy_of(np.array([0.5, 0.5])), 4)
        0.6931
    """
    return float(entr(p).sum())
