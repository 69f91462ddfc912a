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


def _subtract(row: dict[int, Fraction], pivot: dict[int, Fraction], factor: Fraction) -> None:
    """Subtract a multiple of the pivot row in place."""
    for i, value in pivot.items():
        row[i] = row.get(i, Fraction(0)) - factor * value
        if not row[i] and i >= 0:
            del row[i]
