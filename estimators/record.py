"""`Record`: frozen dataclasses with lossless strict-JSON serialisation, by type hints."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from typing import Any, ClassVar, Self, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

#: JSON of the infinities, which have no number of their own there.
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}


#: Name of the checksum in the JSON of a record.
CHECKSUM = "checksum"
#: Name of what a writer may add to the JSON of a record: lines that name whose models and data the
#: result used. They are not read.
SOURCES = "sources"


def checksum(data: object) -> str:
    """SHA-256 of JSON-ready data, whatever the order of names.

    >>> checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


class Record:
    """Base of dataclasses of numbers, strings, records, and tuples and mappings of them.

    The JSON starts with `type` and `schema_version`. NaN becomes null and infinities the strings
    "Infinity" and "-Infinity", so that `json.dumps(..., allow_nan=False)` accepts it and no
    value is lost. Properties named in `DERIVED` are written, too, and ignored when read.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Depth(Record):
        ...     exits: tuple[int, ...]
        ...     score: float
        >>> Depth((3, 4), float("-inf")).to_json()
        {'type': 'Depth', 'schema_version': 1, 'exits': [3, 4], 'score': '-Infinity'}
        >>> Depth.from_json(_)
        Depth(exits=(3, 4), score=-inf)
    """

    SCHEMA_VERSION: ClassVar[int] = 1
    DERIVED: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """Strict JSON data, with type and schema version."""
        names = (*_fields(cast(Any, type(self))), *self.DERIVED)
        head = {"type": type(self).__name__, "schema_version": self.SCHEMA_VERSION}
        return head | {name: _encoded(getattr(self, name)) for name in names}

    def dumps(self) -> str:
        """Strict JSON text in one line."""
        return json.dumps(self.to_json(), allow_nan=False)

    def to_checked_json(self) -> dict[str, Any]:
        """`to_json` with the checksum of it, which `from_json` verifies: for files."""
        data = self.to_json()
        return {**data, CHECKSUM: checksum(data)}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Restore a record; fields of type `Any` keep their JSON value.

        Whole numbers are no truth values, and text is no number, except "Infinity" and "-Infinity".

        Raises:
            ValueError: another type, another schema version, a field missing or unknown, a value
                of another type (the message names the field), values that the class rejects, or
                data that do not have the checksum they carry.

        Example:
            >>> from estimators import Estimate
            >>> Estimate.from_json({"type": "Estimate", "schema_version": 0})
            Traceback (most recent call last):
            ValueError: Estimate has schema version 0; this code reads version 1
        """
        kind, version = cls.__name__, cls.SCHEMA_VERSION
        if isinstance(data, str | bytes | PathLike):
            raise ValueError(f"{kind}.from_json takes a dict, got {_brief(data)}; {_reader(cls)}")
        if not isinstance(data, Mapping) or data.get("type") != kind:
            raise ValueError(f"this JSON is not of type {kind} (see its 'type' field)")
        if CHECKSUM in data:
            body = {name: value for name, value in data.items() if name != CHECKSUM}
            if data[CHECKSUM] != checksum(body):
                raise ValueError(f"this {kind} was changed since it was written (its checksum)")
            data = body
        stored = data.get("schema_version")
        if type(stored) is not int or stored != version:
            raise ValueError(
                f"{kind} has schema version {_brief(stored)}; this code reads version {version}"
            )
        wanted = _fields(cast(Any, cls))
        unread = {"type", "schema_version", SOURCES, *cls.DERIVED} - set(wanted)
        given = set(data) - unread
        wrong = (("lacks", set(wanted) - given), ("does not know", given - set(wanted)))
        for problem, which in wrong:
            if which:
                names = " ".join(", ".join(sorted(map(str, which))).split())
                raise ValueError(f"{kind} version {version} {problem} {names:.200}")
        return cls(
            **{name: _decoded(hint, data[name], f"{kind}.{name}") for name, hint in wanted.items()}
        )


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    """Name and type of every field of a dataclass; resolving annotations is slow."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _reader(kind: type[Record]) -> str:
    """What reads a record from a file or text, for a message."""
    if hasattr(kind, "read"):
        return f"{kind.__name__}.read(path) reads a file"
    return "json.loads makes one of text"


def _encoded(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_encoded(item) for item in value]
    if isinstance(value, np.generic):
        return _encoded(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _decoded(hint: Any, value: Any, where: str) -> Any:
    """The value of a field of type `hint` from its JSON; `where` names it in messages."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return _of_union(inner, value, where)
    if kind is tuple:
        if not isinstance(value, list):
            raise _refusal(where, "a list", value)
        of = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(value) != len(of):
            raise _refusal(where, f"a list of {len(of)} values", value)
        pairs = enumerate(zip(of, value, strict=True))
        return tuple(_decoded(item, part, f"{where}[{at}]") for at, (item, part) in pairs)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        if not isinstance(value, Mapping):
            raise _refusal(where, "an object", value)
        return {
            key: _decoded(inner[1], part, f"{where}.{' '.join(str(key).split()):.40}")
            for key, part in value.items()
        }
    if hasattr(hint, "from_json"):
        try:
            return hint.from_json(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if hint is float:
        return _number(value, where)
    if hint in (int, bool, str) and type(value) is not hint:
        names = {int: "a whole number", bool: "true or false", str: "text"}
        raise _refusal(where, names[hint], value)
    return value


def _of_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """The value of a field of several types: null, one other type, or several plain ones."""
    if value is None and types.NoneType in options:
        return None
    others = [option for option in options if option is not types.NoneType]
    if len(others) == 1:
        return _decoded(others[0], value, where)
    if float in others and (value is None or (isinstance(value, str) and value in _INFINITE)):
        return _number(value, where)
    if type(value) not in others and not (float in others and type(value) is int):
        raise _refusal(where, " or ".join(getattr(o, "__name__", str(o)) for o in others), value)
    return value


def _number(value: Any, where: str) -> float:
    """A number from its JSON: null is NaN, the names of infinities are these."""
    if value is None:
        return math.nan
    if isinstance(value, str) and value in _INFINITE:
        return _INFINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(where, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        raise _refusal(where, "a number below 1.8e308", value) from None
    if number != value and number == number:  # a whole number beyond 2**53
        raise _refusal(where, "a number of at most 53 bits", value)
    return number


def _refusal(where: str, wanted: str, value: Any) -> ValueError:
    return ValueError(f"{where}: expected {wanted}, got {_brief(value)}")


def _brief(value: Any) -> str:
    return f"{value!r:.40}"
