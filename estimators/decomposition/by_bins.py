"""`pid_by_bin_count`: what the number of bins does to the PID of continuous variables."""

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
    """The PID of continuous sources at several numbers of bins.

    Atoms that still move from one number of bins to the next are about the binning as much as
    about the variables. Past some number the samples no longer fill the table: the results say
    so themselves (`reliable`).

    Args:
        x1: first source, finite numbers of shape (n,).
        x2: second source, likewise.
        y: target: finite numbers of shape (n,), binned like the sources; or categories as in
            `pid`, with target="categories".
        bins: numbers of bins, each at least 2.
        quantization: "equal-frequency" or "equal-width", see `quantize`.
        target: "continuous" or "categories".
        **options: further keywords of `pid`.

    Returns:
        PID by number of bins, in the order of `bins`; diagnostics name bins and quantization.

    Raises:
        ValueError: as `quantize` and `pid`; no number of bins; an unknown kind of target.

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
        answer = np.asarray(y)
        if target == "continuous":
            answer = quantize(answer, count, quantization=quantization, name="y")
        result = pid_from_samples(first, second, answer, **options)
        said: dict[str, float | int | str] = {"bins": count, "quantization": quantization}
        results[count] = replace(result, diagnostics={**result.diagnostics, **said})
    return results
