"""Intrinsic dimension from the two nearest neighbours of every row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from estimators._arrays import as_rows, unit_scale
from estimators._autocorrelation import order_note
from estimators._content import canonical_order
from estimators._student import small_sample_reason, wide_reason
from estimators._validate import check_fraction
from estimators.estimate import Estimate

Floats = NDArray[np.float64]
#: Rows per block of the distance matrix.
_BLOCK = 256
#: Fewer rows than e^(d/2) cannot distinguish dimension d from less (Eckmann & Ruelle 1992).
_DIMENSIONS_PER_LOG_ROW = 2.0
#: Tolerated misfit of the law of the ratios: Kolmogorov's 0.1 % point over sqrt(n), and a share.
_MISFIT, _SHAPE = 1.95, 0.01


def intrinsic_dimension(
    x: Any, *, discard: float = 0.1, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Intrinsic dimension of rows by TwoNN: the dimension of the manifold they lie on.

    With r_1 <= r_2 the distances of a row to its two nearest neighbours, mu = r_2 / r_1 is
    Pareto with exponent d on any smooth manifold of dimension d whose density hardly changes
    within r_2. With the n' smallest of n ratios, the largest `discard` censored,

        d = (n' - 1) / (sum_{i <= n'} ln mu_(i) + (n - n') ln mu_(n'))

    and 2 n' d_true / d is chi-square for independent ratios; mutual nearest neighbours
    share r_1, so n' is divided by one plus their share. Edges and curvature bias
    the value by about c n^(-1/d), estimated from two halves of the rows. The interval covers
    the chi-square interval and that of the value extrapolated to n = infinity.

    Args:
        x: array or tensor of shape (n, d), n >= 20, no equal rows.
        discard: share of the largest ratios that is censored, in [0, 1).
        level: confidence of the interval.
        seed: seed of the split into halves.

    Returns:
        Estimate, unit "1". Rows count as independent: pass one row per cluster
        (image). Unreliable where the half width exceeds 0.1 and a tenth of the value, where the
        estimate exceeds 2 ln n, beyond which it grows with n, and where the ratios do not follow
        their law, as with near copies. The value is at most the number of columns. Diagnostics:
        extrapolated, kept, misfit, and the value before it was cut (uncut).

    Raises:
        ValueError: as `as_rows`; fewer than 20 rows, equal rows, discard outside [0, 1).

    Source:
        Facco, d'Errico, Rodriguez & Laio 2017, Scientific Reports 7, 12140, equation 3; for
        hidden states: Ansuini et al. 2019, arXiv 1905.12784.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> plane = rng.normal(size=(1000, 2)) @ rng.normal(size=(2, 50))
        >>> round(intrinsic_dimension(plane).value, 1)
        2.0
    """
    check_fraction(level, "level")
    if not 0.0 <= discard < 1.0:
        raise ValueError(f"discard must lie in [0, 1), got {discard}")
    rows = unit_scale(as_rows(x, "x", constant="keep"))
    n = len(rows)
    if n < 20:
        raise ValueError(f"at least 20 rows are needed, got {n}")
    note = order_note([rows])
    rows = rows[canonical_order(np.arange(n), rows)]
    value, uncensored, shared, misfit = _fit(rows, discard)
    tail = 0.5 * (1.0 - level)
    worth = uncensored / (1.0 + shared)
    ends = value * gammaincinv(worth, [tail, 1.0 - tail]) / worth
    order = np.random.default_rng(seed).permutation(n)
    half = float(np.mean([_fit(rows[order[part::2]], discard)[0] for part in (0, 1)]))
    factor = 1.0 / math.expm1(math.log(2.0) / value)
    extrapolated = value + factor * (value - half)
    reach = float(ndtri(1.0 - tail)) * factor * value / math.sqrt(worth)
    low = max(0.0, min(float(ends[0]), extrapolated - reach))
    uncut, columns = value, float(rows.shape[1])
    value, low = min(value, columns), min(low, columns)
    high = min(max(float(ends[1]), extrapolated + reach), columns)
    most = _DIMENSIONS_PER_LOG_ROW * float(np.log(n))
    reasons = [small_sample_reason(n)]
    if uncut > most:
        reasons.append(
            f"{n} rows cannot distinguish dimensions over {most:.0f}; more rows are needed"
        )
    if misfit > _MISFIT * math.sqrt((1.0 + shared) / n) + _SHAPE:
        reasons.append(
            f"the ratios of distances deviate by {misfit:.2f} from their law: x has near "
            "copies, or its density or dimension changes within the distance of two neighbours"
        )
    reasons.append(wide_reason(value, (low, high)))
    reason = "; ".join(filter(None, reasons))
    return Estimate(
        value=value,
        interval=(low, high),
        level=level,
        n=n,
        d=rows.shape[1],
        method="two-nn",
        reliable=not reason,
        reason=reason,
        diagnostics={
            "extrapolated": extrapolated,
            "kept": uncensored,
            "misfit": misfit,
            **({} if uncut == value else {"uncut": uncut}),
            **note,
        },
    )


def _fit(rows: Floats, discard: float) -> tuple[float, int, float, float]:
    """Dimension, number of uncensored ratios, share of mutual neighbours, misfit of the law.

    The misfit is the largest distance of the distribution of uncensored ratios from 1 - mu^-d.
    """
    n = len(rows)
    nearest, first = _two_nearest(rows)
    same = np.flatnonzero(nearest[:, 0] == 0.0)
    if same.size:
        raise ValueError(
            f"row {same[0]} of x equals another row ({same.size} such rows): distances of zero "
            "have no ratio; drop duplicates"
        )
    logs = np.sort(np.log(nearest[:, 1] / nearest[:, 0]))
    uncensored = max(2, round((1.0 - discard) * n))
    total = float(logs[:uncensored].sum() + (n - uncensored) * logs[uncensored - 1])
    if total == 0.0:
        raise ValueError("the two nearest rows are equally far from every row: x is a lattice")
    shared = float((first[first] == np.arange(n)).mean())
    value = (uncensored - 1) / total
    reached = (np.arange(uncensored) + 0.5) / n
    misfit = float(np.abs(reached + np.expm1(-value * logs[:uncensored])).max())
    return value, uncensored, shared, misfit


def _two_nearest(rows: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Distances to the two nearest neighbours, (n, 2), and index of the nearest, (n,)."""
    n = len(rows)
    centred = rows - rows.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    out, first = np.empty((n, 2)), np.empty(n, dtype=np.intp)
    for start in range(0, n, _BLOCK):
        block = centred[start : start + _BLOCK]
        stop = start + len(block)
        distance = squares[start:stop, None] + squares - 2.0 * (block @ centred.T)
        distance[np.arange(len(block)), np.arange(start, stop)] = np.inf
        near = np.argpartition(distance, 1, axis=1)[:, :2]
        # Recomputed exactly: differences of large squares lose digits.
        exact = np.linalg.norm(block[:, None, :] - centred[near], axis=2)
        out[start:stop] = np.sort(exact, axis=1)
        first[start:stop] = near[np.arange(len(block)), exact.argmin(axis=1)]
    return out, first
