"""How result objects become strict JSON: a header with type and version, finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def header(kind: str, version: int) -> dict[str, Any]:
    """The two fields every serialised object starts with.

    Example:
        >>> header("Estimate", 1)
        {'type': 'Estimate', 'schema_version': 1}
    """
    return {"type": kind, "schema_version": version}


def body(data: object, kind: str, version: int, fields: set[str]) -> dict[str, Any]:
    """The fields after the header, once the header and the field names are known to fit.

    Raises:
        ValueError: another type, another schema version, a field that is missing or unknown.

    Example:
        >>> body({"type": "T", "schema_version": 2, "a": 1}, "T", 1, {"a"})
        Traceback (most recent call last):
        ValueError: T has schema version 2; this code reads version 1
    """
    if not isinstance(data, Mapping) or data.get("type") != kind:
        raise ValueError(f"this JSON is not of type {kind} (see its 'type' field)")
    if data.get("schema_version") != version:
        found = data.get("schema_version")
        raise ValueError(f"{kind} has schema version {found}; this code reads version {version}")
    rest = {key: value for key, value in data.items() if key not in ("type", "schema_version")}
    for problem, names in (("lacks", fields - set(rest)), ("does not know", set(rest) - fields)):
        if names:
            raise ValueError(f"{kind} version {version} {problem} {', '.join(sorted(names))}")
    return rest


def encode(number: float) -> float | str | None:
    """A float as strict JSON: NaN is None, infinities are the strings 'Infinity', '-Infinity'.

    Example:
        >>> encode(0.5), encode(float("nan")), encode(float("-inf"))
        (0.5, None, '-Infinity')
    """
    if math.isnan(number):
        return None
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return float(number)


def decode(number: float | str | None) -> float:
    """The float that `encode` was given.

    Example:
        >>> decode("-Infinity"), decode(2)
        (-inf, 2.0)
    """
    return math.nan if number is None else float(number)
