"""Records as a pandas data frame: one row for each, and a column for each number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from estimators.estimate import Estimate
from estimators.extras import require
from estimators.record import Record

if TYPE_CHECKING:
    from pandas import DataFrame


def frame_of(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """A data frame of rows; an `Estimate` becomes its value, and its interval two more columns.

    Args:
        rows: name -> number, text or `Estimate`.

    Raises:
        MissingExtra: pandas is not installed.

    Example:
        >>> frame_of([{"layer": 0, "rate": 0.5}]).columns.tolist()
        ['layer', 'rate']
    """
    require("a data frame", "pandas", "pandas")
    import pandas

    return pandas.DataFrame([dict(_spread(row)) for row in rows])


def to_pandas(records: Iterable[Record]) -> DataFrame:
    """A data frame with a row for each record, such as the comparisons of a sweep.

    A column is a field that holds a number, text or `Estimate`; an estimate `x` has the columns
    `x`, `x_low` and `x_high`. Fields of records are named `outer.inner`, entries of mappings too;
    lists are kept as they are.

    Raises:
        TypeError: something that is no record.
        MissingExtra: pandas is not installed.

    Example:
        >>> from estimators import clustered_mean
        >>> to_pandas([clustered_mean([0.0, 1.0], ["a", "b"])])["value"].tolist()
        [0.5]
    """
    return frame_of(map(_row, records))


def _row(record: Record) -> dict[str, Any]:
    if not isinstance(record, Record):
        raise TypeError(f"a data frame is made of records, got {type(record).__name__}")
    return {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]


def _spread(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of a row: estimates, records and mappings in several."""
    for name, value in row.items():
        if isinstance(value, Estimate):
            yield name, value.value
            yield from zip((f"{name}_low", f"{name}_high"), value.interval, strict=True)
        elif isinstance(value, Record | Mapping):
            inner = _row(value) if isinstance(value, Record) else value
            yield from ((f"{name}.{key}", each) for key, each in _spread(inner))
        else:
            yield name, value
