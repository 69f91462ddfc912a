"""Nearest-neighbour (KSG) estimators of mutual information, for few dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import psi

from estimators._arrays import Rows, duplicates_reason
from estimators.estimate import Estimate
from estimators.information._draws import Indices, atoms_reason, draws, halves
from estimators.information._near import unresolved_reason
from estimators.information._neighbours import counts_within, radii_and_counts, standardised
from estimators.information._null import p_value
from estimators.information._request import Request

#: With more columns the estimate is biased towards zero at any realistic n (measured: at
#: n = 1,000 and a true value of 1 nat it is 0.7 at 5 + 5 and 0.4 at 10 + 10 columns).
MOST_COLUMNS = 4
#: Relative change between few and many neighbours that indicates bias.
_DRIFT = 0.1
K = (3, 5, 9)
#: The variance of the local terms is multiplied by _DEPENDENT, because they depend on each other,
#: and increased by _CURVATURE^2 per column, from two columns on, for the bias from curvature, in
#: squared nats (measured: 90 % intervals cover .90 to .99 for correlated Gaussians of .3 to 2 nats,
#: n = 1,000 to 5,000).
_DEPENDENT = 1.4
_CURVATURE = 0.014
#: Extrapolation beyond n, in multiples of the change from n / 2 to n. Measured on the public
#: tasks of up to 4 columns at n = 2,000 and 10,000, the bias is 0.7 to 3.8 such changes.
_BEYOND = 1.5


def ksg1(
    x: Rows, y: Rows, ask: Request, *, k: int | tuple[int, ...] = K, extrapolate: bool = False
) -> Estimate:
    """Mutual information by the first KSG algorithm; mean over several k.

    `I = psi(k) + psi(n) - mean[psi(n_x + 1) + psi(n_y + 1)]`, with n_x and n_y the numbers of
    rows nearer than the k-th neighbour on each side, in Chebyshev distance on standardised
    columns. Reliable in at most 4 columns, if the value hardly changes with k.

    The value is biased down where neighbourhoods are wide, less so for larger n. The rate is
    estimated from two halves of the rows: the interval is centred at `I + 1.5 (I - I_half)`. Its
    variance includes that of the local terms, the square of `1.5 (I - I_half)` and its variance,
    and the square of half of the change with k. With clusters, the rows of a cluster are drawn
    one at a time and the results averaged: the own cluster has no neighbours of a row.

    Args:
        x: (n, p) rows.
        y: (n, q) rows.
        ask: level, clusters, permutations.
        k: number of neighbours, or several numbers.
        extrapolate: return the centre of the interval as the value instead of I.

    Raises:
        ValueError: k below 1 or not below n / 2.

    Source:
        Kraskov, Stögbauer and Grassberger 2004, Phys. Rev. E 69, 066138, eq. (8). Ties: Gao,
        Kannan, Oh and Viswanath 2017, Estimating mutual information for discrete-continuous
        mixtures, NIPS 30, algorithm 1.
    """
    return _ksg(x, y, ask, k, extrapolate, first=True)


def ksg2(
    x: Rows, y: Rows, ask: Request, *, k: int | tuple[int, ...] = K, extrapolate: bool = False
) -> Estimate:
    """Mutual information by the second KSG algorithm, with a separate radius per side.

    `I = psi(k) - 1/k + psi(n) - mean[psi(n_x) + psi(n_y)]`, n_x and n_y the numbers of rows
    within the distance of the k neighbours on each side.

    Args:
        x: (n, p) rows.
        y: (n, q) rows.
        ask: level, clusters, permutations.
        k: number of neighbours, or several numbers.
        extrapolate: as in `ksg1`.

    Raises:
        ValueError: k below 1 or not below n / 2, or more than 20,000 rows.

    Source:
        Kraskov, Stögbauer and Grassberger 2004, Phys. Rev. E 69, 066138, eq. (9).
    """
    return _ksg(x, y, ask, k, extrapolate, first=False)


def _ksg(
    x: Rows,
    y: Rows,
    ask: Request,
    k: int | tuple[int, ...],
    extrapolate: bool,
    *,
    first: bool,
) -> Estimate:
    rows = draws(ask, len(x))
    ks = neighbours(k, len(rows[0]) // 2)
    a, b = standardised(x), standardised(y)
    local = _first if first else _second
    each = mean_terms(lambda draw: local(a[draw], b[draw], ks), rows)
    terms = each.mean(axis=1)
    value = float(terms.mean())
    by_k = each.mean(axis=0)
    change = np.empty(len(terms))
    for half, drawn in halves(rows, ask.seed):
        of_half = mean_terms(lambda draw: local(a[draw], b[draw], ks), drawn).mean(axis=1)
        change[half] = terms[half] - of_half
    slope = float(change.mean())
    centre = value + _BEYOND * slope
    drift = 0.5 * float(by_k[0] - by_k[-1])
    unknown_bias = _BEYOND**2 * (slope**2 + _DEPENDENT * variance_of_mean(change)) + drift**2
    columns = x.shape[1] + y.shape[1]
    reach = ask.z * (widened(variance_of_mean(terms), columns) + unknown_bias) ** 0.5
    doubts = [
        *too_wide(columns),
        duplicates_reason(x[rows[0]], "x"),
        duplicates_reason(y[rows[0]], "y"),
        "" if first and x.shape[1] == y.shape[1] == 1 else atoms_reason(x, y, rows[0]),
        unresolved_reason(a[rows[0]], b[rows[0]], value),
        *drift_reason(float(by_k[0]), float(by_k[-1]), f"k = {ks[0]} and {ks[-1]}"),
    ]

    def shuffled(order: NDArray[np.int64]) -> float:
        moved = b[order]
        return float(mean_terms(lambda draw: local(a[draw], moved[draw], ks), rows).mean())

    diagnostics: dict[str, Any] = {
        "k": ", ".join(map(str, ks)),
        "raw": value,
        "extrapolated": centre,
    }
    return ask.information(
        centre if extrapolate else value,
        (min(centre - reach, value), max(centre + reach, value)),
        n=len(x),
        d=columns,
        method="ksg1" if first else "ksg2",
        doubts=doubts,
        diagnostics={**diagnostics, **p_value(value, shuffled, ask, len(x))},
    )


def mean_terms(local: Callable[[Indices], Rows], rows: list[Indices]) -> Rows:
    """Local terms of every cluster, averaged over the draws."""
    return np.asarray(sum(local(draw) for draw in rows) / len(rows))


def variance_of_mean(terms: NDArray[np.float64]) -> float:
    """Variance of the mean of the terms of independent clusters."""
    return float(terms.var(ddof=1)) / len(terms) if len(terms) > 1 else float("inf")


def widened(variance: float, columns: int) -> float:
    """Variance of a neighbour estimate, from the variance of the mean of its local terms."""
    return _DEPENDENT * variance + max(columns, 2) * _CURVATURE**2


def neighbours(k: int | tuple[int, ...], n: int) -> tuple[int, ...]:
    """Numbers of neighbours in ascending order.

    Raises:
        ValueError: a number below 1 or not below n.
    """
    ks = tuple(sorted({k} if isinstance(k, int) else set(k)))
    if not ks or ks[0] < 1 or ks[-1] >= n:
        raise ValueError(f"k must lie between 1 and n - 1 = {n - 1}, got {k}")
    return ks


def _first(a: Rows, b: Rows, ks: tuple[int, ...]) -> Rows:
    """(n, len(ks)) local terms of eq. (8), with the counts themselves where distances tie.

    Where more than k rows lie within the radius, as at repeated rows, the row's term is
    `psi(m) + psi(n) - psi(m_x) - psi(m_y)`, with m the rows at most as far, itself included
    (Gao et al. 2017, Mesner and Shalizi 2021).
    """
    radii, (near_a, near_b) = radii_and_counts([a, b], ks)
    head = psi(np.array(ks)) + psi(len(a))
    terms = np.asarray(head - psi(near_a + 1) - psi(near_b + 1))
    if has_ties(a) and has_ties(b):
        within = [
            counts_within(side, radii, strict=False) + 1
            for side in (np.concatenate([a, b], axis=1), a, b)
        ]
        of_ties = psi(within[0]) + psi(len(a)) - psi(within[1]) - psi(within[2])
        terms = np.where(within[0] > np.array(ks) + 1, of_ties, terms)
    return terms


def has_ties(rows: Rows) -> bool:
    """Whether a value occurs twice in a column."""
    ordered = np.sort(rows, axis=0)
    return bool((ordered[1:] == ordered[:-1]).any())


def _second(a: Rows, b: Rows, ks: tuple[int, ...]) -> Rows:
    """(n, len(ks)) local terms of eq. (9), with a separate radius on each side."""
    n = len(a)
    if n > 20_000:
        raise ValueError(f"ksg2 computes all pairs and takes at most 20,000 rows, got {n}")
    out = np.empty((n, len(ks)))
    step = max(1, 2_000_000 // n)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        far_a, far_b = (_chebyshev(side[rows], side) for side in (a, b))
        own = np.arange(rows.start, rows.stop)
        at = np.arange(len(own))
        far_a[at, own] = far_b[at, own] = np.inf
        order = np.argpartition(np.maximum(far_a, far_b), ks[-1] - 1, axis=1)[:, : ks[-1]]
        ranked = np.take_along_axis(
            order,
            np.argsort(np.take_along_axis(np.maximum(far_a, far_b), order, 1), axis=1),
            1,
        )
        for column, k in enumerate(ks):
            counts = [
                (far <= np.take_along_axis(far, ranked[:, :k], 1).max(axis=1)[:, None]).sum(axis=1)
                for far in (far_a, far_b)
            ]
            out[rows, column] = psi(k) - 1 / k + psi(n) - psi(counts[0]) - psi(counts[1])
    return out


def _chebyshev(some: Rows, every: Rows) -> Rows:
    table = np.abs(some[:, None, 0] - every[None, :, 0])
    for column in range(1, every.shape[1]):
        np.maximum(table, np.abs(some[:, None, column] - every[None, :, column]), out=table)
    return table


def too_wide(columns: int) -> list[str]:
    """Message about too many columns for a neighbour estimate; the list may be empty."""
    if columns <= MOST_COLUMNS:
        return []
    return [
        f"{columns} columns: nearest neighbours are biased towards zero beyond "
        f"{MOST_COLUMNS}, and the interval does not include that bias"
    ]


def drift_reason(first: float, second: float, between: str) -> list[str]:
    """Message about a value that depends on the number of neighbours; may be empty."""
    if abs(first - second) <= max(0.05, _DRIFT * abs(first)):
        return []
    return [f"the value changes from {first:.3g} to {second:.3g} nats between {between}"]
