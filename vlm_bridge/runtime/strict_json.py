"""Parse JSON so that no value is changed or lost in silence."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

#: Lists and objects inside each other; results of this project have at most ten.
MAX_DEPTH = 100


def decode_utf8(data: bytes) -> str:
    r"""Text of UTF-8 bytes, without a byte order mark.

    Raises:
        ValueError: other bytes; the message names the first of them and its offset.

    Example:
        >>> decode_utf8(b"caf\xe9")
        Traceback (most recent call last):
        ValueError: not UTF-8 (byte 0xe9 at offset 3); save the file as UTF-8
    """
    for mark, name in ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if data.startswith(mark):
            raise ValueError(f"not UTF-8 but {name} (byte 0x{data[0]:02x} at offset 0); convert it")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start}); "
            "save the file as UTF-8"
        ) from None


def parse_json(text: str, *, allow_nan: bool = False) -> Any:
    """Parse JSON text; `allow_nan` accepts the numbers NaN, Infinity and -Infinity.

    Raises:
        ValueError: not JSON, a name twice in an object, NaN or infinity, a number too large for
            its type, text with half a surrogate pair, or nesting deeper than `MAX_DEPTH`.

    Example:
        >>> parse_json('{"exit": 3, "exit": 5}')
        Traceback (most recent call last):
        ValueError: the name 'exit' occurs twice in an object
    """

    def constant(word: str) -> float:
        if not allow_nan:
            raise ValueError(f"{word} is not a JSON number")
        return float(word)

    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"lists or objects are nested deeper than {MAX_DEPTH}") from None
    _check_depth_and_text(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as a dictionary; a repeated name is refused."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {twice!r:.60} occurs twice in an object")
    return values


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:60]} is too large")
    return value


def _int(digits: str) -> int:
    if len(digits) > 400:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def _check_depth_and_text(value: Any) -> None:
    """Walk through all values without recursion."""
    left = [(value, 0)]
    while left:
        part, depth = left.pop()
        if isinstance(part, dict):
            children: list[Any] = [*part, *part.values()]
        elif isinstance(part, list):
            children = part
        else:
            if isinstance(part, str) and not part.isascii() and _has_surrogate(part):
                raise ValueError(f"{part!r:.60} holds half a surrogate pair")
            continue
        if depth >= MAX_DEPTH:
            raise ValueError(f"lists or objects are nested deeper than {MAX_DEPTH}")
        left += [(child, depth + 1) for child in children]


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)
