"""Nearest neighbours under the maximum norm, and neighbour counts within a radius.

Distances are Chebyshev. A k-d tree is used in few dimensions, otherwise all pairs of rows in
chunks, column by column, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows

#: Largest number of columns for which a k-d tree finds neighbours faster than all pairs.
TREE_COLUMNS = 6
#: The same limit for neighbour counts.
COUNT_COLUMNS = 2
_CHUNK = 16
#: Relative rounding error of distances: closer to the radius than this is equal to it.
_SAME = 1e-12

Counts = NDArray[np.int64]
Radii = NDArray[np.float64]
Table = NDArray[np.float32]


def standardised(rows: Rows) -> Rows:
    """(n, d) columns of mean 0 and standard deviation 1."""
    centred = rows / np.abs(rows).max(axis=0)  # so that no square overflows
    centred = centred - centred.mean(axis=0)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=0)))


def radii_and_counts(
    sides: list[Rows], ks: tuple[int, ...], *, strict: bool = True
) -> tuple[Radii, list[Counts]]:
    """Distances to the k-th nearest other row, and numbers of rows within them on each side.

    Args:
        sides: (n, d_s) rows of every side.
        ks: numbers of neighbours, ascending.
        strict: count rows strictly nearer than the radius, otherwise also rows at the radius.

    Returns:
        (n, len(ks)) radii, the largest distance over the sides, and for each side (n, len(ks))
        counts of other rows.
    """
    joint = np.concatenate(sides, axis=1)
    if max(side.shape[1] for side in sides) <= COUNT_COLUMNS and joint.shape[1] <= TREE_COLUMNS:
        radii = nearest(joint, ks)
        return radii, [counts_within(side, radii, strict=strict) for side in sides]
    radii = np.empty((len(joint), len(ks)))
    counts = [np.empty(radii.shape, dtype=np.int64) for _ in sides]
    for tables in zip(*(_tables(side) for side in sides), strict=True):
        rows = tables[0][0]
        far = tables[0][1].copy()
        for _, table in tables[1:]:
            np.maximum(far, table, out=far)
        # Index 0 is the row itself, at distance 0.
        kth = np.partition(far, list(ks), axis=1)[:, list(ks)]
        radii[rows] = kth
        for count, (_, table) in zip(counts, tables, strict=True):
            count[rows] = _inside(table, kth, strict=strict)
    return radii, counts


def nearest(rows: Rows, ks: tuple[int, ...], some: slice = slice(None)) -> Radii:
    """(n, len(ks)) distance of every row, or of some, to the k-th nearest other row."""
    if rows.shape[1] <= TREE_COLUMNS:
        from scipy.spatial import cKDTree  # slow to import

        distances = cKDTree(rows).query(rows[some], k=[k + 1 for k in ks], p=np.inf)[0]
        return np.asarray(distances, dtype=np.float64)
    out = np.empty((len(rows), len(ks)))
    for taken, table in _tables(rows):
        out[taken] = np.partition(table, list(ks), axis=1)[:, list(ks)]
    return out[some]


def counts_within(side: Rows, radii: Radii, *, strict: bool) -> Counts:
    """(n, r) numbers of other rows nearer than each radius (n, r), or at most as far."""
    if side.shape[1] == 1:
        return _counts_sorted(side[:, 0], radii, strict=strict)
    if side.shape[1] <= COUNT_COLUMNS:
        from scipy.spatial import cKDTree  # slow to import

        tree = cKDTree(side)
        reach = _reach(radii, strict=strict)
        counts = [tree.query_ball_point(side, r, p=np.inf, return_length=True) for r in reach.T]
        return np.asarray(np.stack(counts, axis=1) - (reach >= 0), dtype=np.int64)
    # The radii have more digits than the tables: a row at the radius must not slip across it.
    rounding = 4.0 * float(np.finfo(np.float32).eps) * float(np.abs(side).max())
    moved = np.where(radii > 0.0, radii + (-rounding if strict else rounding), radii)
    limits = np.asarray(np.maximum(moved, 0.0), dtype=np.float32)
    out = np.empty(radii.shape, dtype=np.int64)
    for taken, table in _tables(side):
        out[taken] = _inside(table, limits[taken], strict=strict)
    return out


def _inside(table: Table, radii: NDArray[np.float32], *, strict: bool) -> Counts:
    """(c, r) entries of each row of `table` within each radius, less the row itself."""
    within = [
        np.count_nonzero(table < r[:, None] if strict else table <= r[:, None], axis=1)
        for r in radii.T
    ]
    itself = radii > 0 if strict else np.ones(radii.shape, dtype=bool)
    return np.asarray(np.stack(within, axis=1) - itself, dtype=np.int64)


def _counts_sorted(values: NDArray[np.float64], radii: Radii, *, strict: bool) -> Counts:
    ordered, reach = np.sort(values), _reach(radii, strict=strict)
    above = np.searchsorted(ordered, values[:, None] + reach, "right")
    below = np.searchsorted(ordered, values[:, None] - reach, "left")
    return np.asarray(np.maximum(above - below - (reach >= 0), 0), dtype=np.int64)


def _reach(radii: Radii, *, strict: bool) -> Radii:
    """Radii adjusted so that rounding does not move a row across them."""
    if strict:
        return np.where(radii > 0, radii * (1 - _SAME), -1.0)
    return radii * (1 + _SAME)


def _tables(rows: Rows) -> Iterator[tuple[slice, Table]]:
    """Slices of rows and their distances (c, n) to all rows; the table is reused."""
    columns = np.ascontiguousarray(rows.T, dtype=np.float32)
    n = columns.shape[1]
    table, gap = np.empty((_CHUNK, n), np.float32), np.empty((_CHUNK, n), np.float32)
    for start in range(0, n, _CHUNK):
        taken = slice(start, min(start + _CHUNK, n))
        size = taken.stop - taken.start
        for number, column in enumerate(columns):
            into = gap if number else table
            np.subtract(column[taken, None], column[None, :], out=into[:size])
            np.abs(into[:size], out=into[:size])
            if number:
                np.maximum(table[:size], gap[:size], out=table[:size])
        yield taken, table[:size]
