"""Argument checks of the public functions; each raises `ValueError`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_vector(values: ArrayLike, name: str = "values") -> NDArray[np.float64]:
    """`values` as a one-dimensional float64 array of finite numbers (may be empty)."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}")
    vector = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {vector[bad[0]]}; all {name} must be finite")
    return vector


def as_sample(values: ArrayLike, name: str = "values") -> NDArray[np.float64]:
    """`as_vector` with at least one value."""
    vector = as_vector(values, name)
    if vector.size == 0:
        raise ValueError(f"{name} is empty; give at least one value")
    return vector


def check_within(
    values: NDArray[np.float64], lower: float, upper: float, name: str = "values"
) -> None:
    """Raise ValueError at the first value outside [lower, upper]."""
    bad = np.flatnonzero((values < lower) | (values > upper))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {values[bad[0]]:g}, outside [{lower:g}, {upper:g}]")


def check_fraction(number: float, name: str) -> None:
    """Raise ValueError unless a number lies strictly between 0 and 1."""
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {number}")


def check_range(lower: float, upper: float) -> None:
    """Raise ValueError unless lower < upper are finite."""
    if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
        raise ValueError(f"the range needs finite lower < upper, got [{lower}, {upper}]")
