"""Exact rational solutions of linear systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from theory.shannon.expression import Combination, Subset

#: Largest denominator in rounding; multipliers of most proofs are simple fractions.
MAX_DENOMINATOR = 720


def rounded(values: Sequence[float]) -> list[Fraction]:
    """Round each value to the nearest fraction of denominator at most `MAX_DENOMINATOR`.

    Example:
        >>> rounded([0.3333333333, -2.0])
        [Fraction(1, 3), Fraction(-2, 1)]
    """
    return [Fraction(float(value)).limit_denominator(MAX_DENOMINATOR) for value in values]


def solve(
    columns: Sequence[Combination], target: Mapping[Subset, Fraction]
) -> list[Fraction] | None:
    """Exact solution x of sum_i x_i columns_i = target, or None if there is none.

    Gauss-Jordan elimination on fractions. Free unknowns are set to 0.

    Example:
        >>> x, y = frozenset("X"), frozenset("Y")
        >>> solve([{x: Fraction(1), y: Fraction(1)}, {y: Fraction(2)}], {x: Fraction(1)})
        [Fraction(1, 1), Fraction(-1, 2)]
    """
    subsets = set(target).union(*columns)
    rows = [
        {
            **{i: column[subset] for i, column in enumerate(columns) if subset in column},
            -1: target.get(subset, Fraction(0)),
        }
        for subset in subsets
    ]
    pivots: dict[int, dict[int, Fraction]] = {}
    for row in rows:
        for i, pivot in pivots.items():
            if row.get(i):
                _subtract(row, pivot, row[i])
        lead = next((i for i in sorted(row) if i >= 0 and row[i]), None)
        if lead is None:
            if row.get(-1):
                return None
            continue
        scaled = {i: value / row[lead] for i, value in row.items() if value}
        for pivot in pivots.values():
            if pivot.get(lead):
                _subtract(pivot, scaled, pivot[lead])
        pivots[lead] = scaled
    return [
        pivots[i].get(-1, Fraction(0)) if i in pivots else Fraction(0) for i in range(len(columns))
    ]


def separate(
    columns: Sequence[Combination], target: Mapping[Subset, Fraction]
) -> tuple[list[Fraction], None] | tuple[None, dict[Subset, Fraction]]:
    """Multipliers x >= 0 with sum_i x_i columns_i = target, or a point that excludes them.

    The point is at least 0 on every column and below 0 on the target: by Farkas' lemma one of the
    two exists. Phase 1 of the simplex method on fractions, with Bland's rule.

    Example:
        >>> x, y = frozenset("X"), frozenset("Y")
        >>> columns = [{x: Fraction(1)}, {x: Fraction(-1), y: Fraction(1)}]
        >>> separate(columns, {y: Fraction(2)})
        ([Fraction(2, 1), Fraction(2, 1)], None)
        >>> separate(columns, {x: Fraction(-1)})[1][x]
        Fraction(1, 1)
    """
    subsets = sorted(set(target).union(*columns), key=sorted)
    count, rows, signs = len(columns), [], []
    for k, subset in enumerate(subsets):  # the basis of slack k, then the right side at -1
        signs.append(Fraction(-1 if target.get(subset, 0) < 0 else 1))
        row = {i: signs[k] * column[subset] for i, column in enumerate(columns) if subset in column}
        rows.append({**row, count + k: Fraction(1), -1: signs[k] * target.get(subset, Fraction(0))})
    basis = list(range(count, count + len(subsets)))
    cost = {i: Fraction(1) for i in basis}  # what is left to reduce: the sum of the slacks
    for row in rows:
        _subtract(cost, row, Fraction(1))
    while (enter := next((i for i in range(count) if cost.get(i, 0) < 0), None)) is not None:
        _, _, leave = min(
            (row[-1] / row[enter], basis[k], k)
            for k, row in enumerate(rows)
            if row.get(enter, 0) > 0
        )
        pivot = {i: value / rows[leave][enter] for i, value in rows[leave].items()}
        for row in (*rows[:leave], *rows[leave + 1 :], cost):
            if row.get(enter):
                _subtract(row, pivot, row[enter])
        rows[leave], basis[leave] = pivot, enter
    if cost.get(-1):
        dual = [1 - cost.get(count + k, Fraction(0)) for k in range(len(subsets))]
        return None, {s: -signs[k] * dual[k] for k, s in enumerate(subsets)}
    found = {i: row[-1] for i, row in zip(basis, rows, strict=True)}
    return [found.get(i, Fraction(0)) for i in range(count)], None


def _subtract(row: dict[int, Fraction], pivot: dict[int, Fraction], factor: Fraction) -> None:
    """Subtract a multiple of the pivot row in place."""
    for i, value in pivot.items():
        row[i] = row.get(i, Fraction(0)) - factor * value
        if not row[i] and i >= 0:
            del row[i]
