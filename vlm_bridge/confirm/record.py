"""Frozen dataclasses that become strict JSON and come back, from their type hints."""

from __future__ import annotations

import json
import types
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from estimators import serial


class Record:
    """A dataclass of numbers, words, results with `to_json` and `from_json`, and tuples of them.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Depth(Record):
        ...     exits: tuple[int, ...]
        >>> Depth.from_json(Depth((3, 4)).to_json())
        Depth(exits=(3, 4))
    """

    SCHEMA_VERSION: ClassVar[int] = 1
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data with type and schema version."""
        body = {name: _encoded(getattr(self, name)) for name in self.__dataclass_fields__}
        return {**serial.header(type(self).__name__, self.SCHEMA_VERSION), **body}

    def dumps(self) -> str:
        """Strict JSON in one line."""
        return json.dumps(self.to_json(), allow_nan=False)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Back from `to_json`.

        Raises:
            ValueError: another type, another schema version, a field missing or unknown.
        """
        body = serial.body(data, cls.__name__, cls.SCHEMA_VERSION, set(cls.__dataclass_fields__))
        hints = get_type_hints(cls)
        return cls(**{name: _decoded(hints[name], value) for name, value in body.items()})


def _encoded(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_encoded(one) for one in value]
    return serial.encode(value) if isinstance(value, float) else value


def _decoded(hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        hint = next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is tuple:
        return tuple(_decoded(get_args(hint)[0], one) for one in value)
    if hasattr(hint, "from_json"):
        return hint.from_json(value)
    return serial.decode(value) if hint is float else value
