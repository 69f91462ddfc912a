"""Read the `model.bin` of CTranslate2: names, shapes and numbers, nothing else."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.runtime.files import read_bytes

#: Version of the file format that is read.
_VERSION = 6
#: Number of a type in the file -> the type, little-endian.
_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_MAX_BYTES = 2**31
_MAX_RANK = 8


class _Broken(Exception):
    """The file ends early or states what cannot be."""


class _Reader:
    """A place in the bytes of a file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise _Broken(f"it ends at byte {len(self.data)}, inside what begins at {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind: str) -> int:
        size = struct.calcsize(f"<{kind}")
        (value,) = struct.unpack(f"<{kind}", self.take(size))
        return int(value)

    def text(self) -> str:
        """Text of a stated length, whose last byte is zero."""
        raw = self.take(self.number("H"))
        if not raw.endswith(b"\0") or not raw[:-1].decode("ascii", "replace").isprintable():
            raise _Broken(f"no name at byte {self.at - len(raw)}")
        return raw[:-1].decode("ascii", "replace")


def read_ctranslate2(paths: Sequence[Path], spec: str) -> dict[str, NDArray[Any]]:
    """The variables of a model by name; an alias has the array of what it stands for.

    Format (version 6, little-endian): 32-bit version, name of the spec, 32-bit revision; 32-bit
    count of variables, each a name, its rank in 8 bits, 32-bit lengths, its type in 8 bits, and a
    32-bit count of bytes before them; 32-bit count of aliases, each a name and the name it stands
    for. A name is a 16-bit length, its bytes, and a zero that the length counts. Source: the
    converter of CTranslate2, `ModelSpec._serialize`.

    Args:
        paths: the file, or its parts in order.
        spec: name of the spec that the file must have.

    Raises:
        BridgeError: another version or spec; the file is truncated, has bytes left over, or states
            a shape, a type or a name that does not fit.
    """
    reader = _Reader(b"".join(read_bytes(path, "weights file", limit=_MAX_BYTES) for path in paths))
    where = " and ".join(path.name for path in paths)
    try:
        if (version := reader.number("I")) != _VERSION:
            raise _Broken(f"its version is {version}, this code reads {_VERSION}")
        if (found := reader.text()) != spec:
            raise _Broken(f"it holds {shown(found)}, expected '{spec}'")
        reader.number("I")
        variables: dict[str, NDArray[Any]] = {}
        for _ in range(reader.number("I")):
            name, array = _variable(reader)
            if name in variables:
                raise _Broken(f"the name '{name}' occurs twice")
            variables[name] = array
        for _ in range(reader.number("I")):
            alias, target = reader.text(), reader.text()
            if alias in variables or target not in variables:
                raise _Broken(f"the alias '{alias}' of '{target}' does not fit")
            variables[alias] = variables[target]
        if reader.at != len(reader.data):
            raise _Broken(f"{len(reader.data) - reader.at} bytes follow its end")
    except _Broken as error:
        raise BridgeError(f"{where} is no weights file of CTranslate2: {error}") from None
    return variables


def _variable(reader: _Reader) -> tuple[str, NDArray[Any]]:
    name, rank = reader.text(), reader.number("B")
    if rank > _MAX_RANK:
        raise _Broken(f"'{name}' has {rank} axes")
    shape = tuple(reader.number("I") for _ in range(rank))
    kind, count = reader.number("B"), reader.number("I")
    if kind not in _TYPES:
        raise _Broken(f"'{name}' has the unknown type {kind}")
    dtype = np.dtype(_TYPES[kind])
    if math.prod(shape) * dtype.itemsize != count:
        raise _Broken(f"'{name}' of shape {shape} has {count} bytes")
    return name, np.frombuffer(reader.take(count), dtype).reshape(shape)
