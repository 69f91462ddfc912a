"""Binning of continuous samples. Explicit, because every discrete measure depends on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._validate import as_sample

QUANTIZATIONS = ("equal-frequency", "equal-width")


def quantize(
    x: ArrayLike, bins: int, *, quantization: str = "equal-frequency", name: str = "x"
) -> NDArray[np.int64]:
    """Bin a continuous variable: codes 0 to bins - 1 in the order of its values.

        equal-frequency   inner edges at the quantiles 1/bins, 2/bins, ... of x
        equal-width       inner edges at min + (max - min) i / bins

    A value on an edge goes to the upper bin. Information between binned variables is at most
    that between the continuous variables. A PID of binned variables bounds nothing: compare
    several numbers of bins (`decomposition.by_bins.pid_by_bin_count`).

    Args:
        x: finite numbers, array of shape (n,).
        bins: number of bins, at least 2.
        quantization: "equal-frequency" or "equal-width".
        name: name of `x` in messages.

    Returns:
        Integer array of shape (n,).

    Raises:
        ValueError: x empty, not one-dimensional, not finite or constant; fewer than 2 bins;
            an unknown quantization; so many equal values that two edges coincide.

    Source:
        Cover & Thomas 2006, section 8.3 (quantised variables).

    Example:
        >>> quantize([0.1, 0.2, 0.3, 9.0], 2).tolist()
        [0, 0, 1, 1]
        >>> quantize([0.1, 0.2, 0.3, 9.0], 2, quantization="equal-width").tolist()
        [0, 0, 0, 1]
    """
    values = as_sample(x, name)
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"unknown quantization '{quantization}'; choose from {', '.join(QUANTIZATIONS)}"
        )
    if bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}")
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ValueError(f"{name} is constant ({low:g}); there is nothing to bin")
    if quantization == "equal-width":
        edges = np.linspace(low, high, bins + 1)
    else:
        edges = np.quantile(values, np.linspace(0.0, 1.0, bins + 1))
        same = np.flatnonzero(np.diff(edges[:-1]) <= 0.0)
        if same.size or edges[-2] > edges[-1]:
            raise ValueError(
                f"{name} has so many values equal to {edges[same[0]]:g} that {bins} "
                "equal-frequency bins would be empty; use fewer bins, equal-width, or the "
                "values as categories"
            )
    return np.searchsorted(edges[1:-1], values, side="right").astype(np.int64)
