"""Items of rows in memory: a data set of `datasets`, a frame of pandas, or a list of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes import llava, lmms, messages, own
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.shapes.recognise import read_record
from vlm_bridge.data.units import check_units, link_units
from vlm_bridge.errors import BridgeError, among, got, shown

#: Fields of which one asks the question; all fields of all shapes; lists of numbers or pictures.
_ASKING = ("question", "content", "conversations", "messages")
_FIELDS = {*own.FIELDS, *lmms.FIELDS, *llava.FIELDS, *messages.FIELDS}
_LISTS = ("answers", "images")


def items_from(
    rows: Any, *, columns: Mapping[str, str] | None = None, images: str | Path | None = None
) -> list[Item]:
    """Items of a Hugging Face data set, a pandas frame, or any iterable of mappings.

    Neither package is needed. A row has the fields of one of the shapes that `read_jsonl` reads;
    an image may also be a PIL image, an array, bytes, or `{"bytes": ..., "path": ...}` of an image
    that was not decoded. Arrays of texts or objects, as Parquet files give, are
    lists. Fields without a value (None, NaN, NA) count as not there.

    Args:
        rows: a data set of one split, a frame, or a list of dicts.
        columns: our field -> the column that holds it, as `{"question": "query"}`; then no other
            column is read.
        images: the folder to which paths are relative, and in which they must lie; None takes
            paths as they are.

    Raises:
        BridgeError: not rows, several splits, no rows, an unknown field or column, or a row that
            `read_jsonl` would refuse; the message names the row.

    Example:
        >>> rows = [{"text": "why?", "label": "so"}, {"text": "how?", "label": None}]
        >>> found = items_from(rows, columns={"question": "text", "answer": "label"})
        >>> [(item.question, item.answer) for item in found]
        [('why?', 'so'), ('how?', None)]
    """
    for field in columns or {}:
        if field not in own.FIELDS:
            raise BridgeError(f"an item has no field {shown(field)}; {among(field, own.FIELDS)}")
    folder = None if images is None else Path(images)
    items, places = [], []
    for number, row in enumerate(_rows(rows)):
        place = Place(f"row {number}", folder)
        record = _mapped(row, columns, place)
        try:
            items.append(read_record(record, place))
        except BridgeError as error:
            renamed = not columns and isinstance(row, Mapping) and _other_names(row)
            hint = "; name the columns with columns={'question': ...}" if renamed else ""
            raise BridgeError(f"{error}{hint}") from None
        places.append(place.name)
    if not items:
        raise BridgeError("there are no rows")
    items = link_units(items)
    check_units(items, places)
    return items


def _rows(rows: Any) -> Iterator[Any]:
    named = getattr(rows, "column_names", None)
    if isinstance(named, Mapping):
        raise BridgeError(
            f"a data set of several splits is given ({', '.join(map(str, named))}); choose one, as "
            f"rows[{next(iter(named), 'test')!r}]"
        )
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a frame of pandas
        yield from rows.to_dict("records")
        return
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise BridgeError(
            f"rows are a data set, a frame or a list of dicts, got {got(rows)}; read a file with "
            "vlm_bridge.data.read_jsonl(PATH)"
        )
    yield from rows


def _mapped(row: Any, columns: Mapping[str, str] | None, place: Place) -> Any:
    """The fields of a row that have a value, under our names."""
    if not isinstance(row, Mapping):
        return row
    for column in (columns or {}).values():
        if column not in row:
            raise place.refusal(f"no column {shown(column)}; {among(column, map(str, row))}")
    found = row if columns is None else {ours: row[column] for ours, column in columns.items()}
    return {
        name: list(value) if name in _LISTS and isinstance(value, np.ndarray) else _plain(value)
        for name, value in found.items()
        if not _missing(value)
    }


def _other_names(row: Mapping[Any, Any]) -> bool:
    """Whether a row has no column of ours that asks, or one that no shape has."""
    return not any(name in row for name in _ASKING) or not _FIELDS.issuperset(row)


def _plain(value: Any) -> Any:
    """The value with lists in place of arrays of texts or objects, at any depth."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _missing(value: Any) -> bool:
    """Whether a cell is empty: None, a NaN of any width, or the NA and NaT of pandas."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")
