"""Read items from a JSONL file; a refusal names the line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.shapes.recognise import read_record
from vlm_bridge.data.units import check_units, link_units
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.strict_json import decode_utf8, parse_json

#: Longest line of a JSONL file; an image in a line has a limit of its own.
MAX_LINE_BYTES = 2**26


def read_jsonl(path: str | Path, *, images: str | Path | None = None) -> list[Item]:
    """Read items from a JSONL file, one a line.

    A line is `{image?, audio?, question, answer?, answers?, cluster?}`; `answers` is a list of all
    reference answers, `answer` one of them (default: the most frequent).

    Lines may also have the shape of LLaVA's conversations, of chat messages or of documents of
    evaluation harnesses, recognised by their fields; docs/data.md describes all. The file is UTF-8,
    with or without byte order mark; lines end in LF or CRLF; blank lines are ignored. Paths are
    relative to `images` (default: the file's folder). Without `cluster`, all lines that share a
    picture or recording, directly or through others and however its path is spelt or copied, are
    one unit, and so are equal questions without either. The answer to "what is said?" about a
    recording is its transcript, which is scored by its words.

    Raises:
        BridgeError: the file is missing, empty or not UTF-8; a line has none of these shapes, has
            another field or is too long; a file lies outside `images` or does not exist, or an
            image would have to be fetched; or one picture, recording or text is declared to be in
            two clusters. The message names the line, the field, what was found and what is
            accepted.

    Example:
        >>> read_jsonl("missing.jsonl")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: no data file at missing.jsonl
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise BridgeError(f"no data file at {path}")
    folder = Path(images) if images is not None else path.parent
    items: list[Item] = []
    places: list[int] = []
    for number, line in _lines(path):
        if line.strip():
            items.append(_parse(line, f"{path}:{number}", folder))
            places.append(number)
    if not items:
        raise BridgeError(f"{path} holds no items; each line is a JSON object with a question")
    items = link_units(items)
    check_units(items, [f"{path}:{number}" for number in places])
    return items


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers; only LF and CRLF end a line."""
    try:
        with path.open("rb") as handle:
            yield from decoded_lines(handle, path)
    except OSError as error:
        raise BridgeError(f"cannot read the data file {path}: {error.strerror}") from None


def decoded_lines(handle: BinaryIO, name: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of UTF-8 bytes with their numbers; `name` is that of the file, for messages.

    Raises:
        BridgeError: a line is too long or not UTF-8.
    """
    number = offset = 0
    while data := handle.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > MAX_LINE_BYTES:
            raise BridgeError(f"{name}:{number}: longer than {MAX_LINE_BYTES} bytes")
        try:
            text = decode_utf8(data) if number == 1 else data.decode()
        except UnicodeDecodeError as error:
            raise BridgeError(
                f"{name}:{number}: not UTF-8 (byte 0x{data[error.start]:02x} at offset "
                f"{offset + error.start}); save the file as UTF-8"
            ) from None
        except ValueError as error:
            raise BridgeError(f"{name}:{number}: {error}") from None
        offset += len(data)
        yield number, text


def _parse(line: str, where: str, folder: Path) -> Item:
    place = Place(where, folder)
    try:
        record = parse_json(line)
    except ValueError as error:
        raise place.refusal(f"not JSON ({error})") from None
    return read_record(record, place)
