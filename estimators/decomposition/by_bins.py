"""PID of continuous variables at several numbers of bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators.decomposition.result import PID
from estimators.decomposition.samples import pid_from_samples
from estimators.quantization import quantize


def pid_by_bin_count(
    x1: ArrayLike,
    x2: ArrayLike,
    y: ArrayLike,
    *,
    bins: Sequence[int] = (2, 4, 8),
    quantization: str = "equal-frequency",
    target: str = "continuous",
    **options: Any,
) -> dict[int, PID]:
    """PID of continuous sources, binned, for each of several numbers of bins.

    Atoms that change with the number of bins depend on the binning as well as on the variables.
    With too many bins for the sample the results are unreliable (`reliable`).

    Args:
        x1: first source, finite numbers of shape (n,).
        x2: second source, likewise.
        y: target: finite numbers of shape (n,), binned like the sources; or categories as in
            `pid`, with target="categories".
        bins: numbers of bins, each at least 2.
        quantization: "equal-frequency" or "equal-width", see `quantize`.
        target: "continuous" or "categories".
        **options: options of `pid_from_samples`.

    Returns:
        PID by number of bins, in the order of `bins`; diagnostics: bins, quantization.

    Raises:
        ValueError: as `quantize` and `pid_from_samples`; empty `bins`; an unknown `target`.

    Source:
        See `pid_from_counts`.

    Example:
        >>> import numpy as np
        >>> x1, x2 = np.random.default_rng(0).normal(size=(2, 1000))
        >>> results = pid_by_bin_count(x1, x2, x1 + x2, bins=(2, 4), unit="bits")
        >>> results[2].total < results[4].total
        True
    """
    if target not in ("continuous", "categories"):
        raise ValueError(f"unknown target '{target}'; choose from continuous, categories")
    if not len(bins):
        raise ValueError("bins is empty; give at least one number of bins")
    results = {}
    for count in bins:
        first = quantize(x1, count, quantization=quantization, name="x1")
        second = quantize(x2, count, quantization=quantization, name="x2")
        symbols = np.asarray(y)
        if target == "continuous":
            symbols = quantize(symbols, count, quantization=quantization, name="y")
        result = pid_from_samples(first, second, symbols, **options)
        extra: dict[str, float | int | str] = {"bins": count, "quantization": quantization}
        results[count] = replace(result, diagnostics={**result.diagnostics, **extra})
    return results
