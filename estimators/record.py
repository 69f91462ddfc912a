"""`Record`: frozen dataclasses with lossless strict-JSON serialisation, by type hints."""

from __future__ import annotations

import functools
import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self, Union, cast, get_args, get_origin, get_type_hints

import numpy as np


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

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Restore a record; fields of type `Any` or `float | str` keep their JSON value.

        Raises:
            ValueError: another type, another schema version, a field missing or unknown, or
                values that the class rejects.

        Example:
            >>> from estimators import Estimate
            >>> Estimate.from_json({"type": "Estimate", "schema_version": 0})
            Traceback (most recent call last):
            ValueError: Estimate has schema version 0; this code reads version 1
        """
        kind, version = cls.__name__, cls.SCHEMA_VERSION
        if not isinstance(data, Mapping) or data.get("type") != kind:
            raise ValueError(f"this JSON is not of type {kind} (see its 'type' field)")
        if (stored := data.get("schema_version")) != version:
            raise ValueError(
                f"{kind} has schema version {stored}; this code reads version {version}"
            )
        wanted = _fields(cast(Any, cls))
        given = set(data) - {"type", "schema_version", *cls.DERIVED}
        wrong = (("lacks", set(wanted) - given), ("does not know", given - set(wanted)))
        for problem, which in wrong:
            if which:
                raise ValueError(f"{kind} version {version} {problem} {', '.join(sorted(which))}")
        return cls(**{name: _decoded(hint, data[name]) for name, hint in wanted.items()})


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    """Name and type of every field of a dataclass; resolving annotations is slow."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


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


def _decoded(hint: Any, value: Any) -> Any:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        if value is None:
            return None
        options = [option for option in inner if option is not types.NoneType]
        return _decoded(options[0], value) if len(options) == 1 else value
    if kind is tuple:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, got {value!r:.40}")
        of = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(_decoded(item, part) for item, part in zip(of, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"expected an object, got {value!r:.40}")
        return {key: _decoded(inner[1], item) for key, item in value.items()}
    if hasattr(hint, "from_json"):
        return hint.from_json(value)
    if hint is float:
        return math.nan if value is None else float(value)
    return value
