"""Write items into a JSONL file of our own shape, which `read_jsonl` reads again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm_bridge.data.items import Item, with_images
from vlm_bridge.data.picture import ImageRef, Picture
from vlm_bridge.data.shapes.own import written_parts, written_turns
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import write_bytes


def write_jsonl(path: str | Path, items: Iterable[Item]) -> Path:
    """Write items, one a line, with absolute paths of their files: read them with `images="/"`.

    The unit of each item is written as its cluster, so that a part of the data keeps the units that
    the whole had.

    Raises:
        BridgeError: an image is in memory alone, or the file cannot be written.

    Example:
        >>> write_jsonl("out/part.jsonl", items)  # doctest: +SKIP
        >>> read_jsonl("out/part.jsonl", images="/") == items  # doctest: +SKIP
        True
    """
    lines = [json.dumps(_record(_absolute(item)), ensure_ascii=False) + "\n" for item in items]
    return write_bytes(Path(path), "".join(lines).encode())


def _record(item: Item) -> dict[str, Any]:
    """The fields of a line."""
    record: dict[str, Any] = {"cluster": item.cluster}
    if item.parts:
        record["content"] = written_parts(item.parts)
    else:
        record |= {} if item.image is None else {"image": str(item.image)}
        record["question"] = item.question
    if item.turns:
        record["turns"] = written_turns(item.turns)
    if item.audio is not None:
        record["audio"] = str(item.audio)
    record |= {} if item.answer is None else {"answer": item.answer}
    return record | ({"answers": list(item.answers)} if item.answers else {})


def _absolute(item: Item) -> Item:
    audio = None if item.audio is None else item.audio.absolute()
    moved = with_images(item, [_absolute_path(image) for image in item.images])
    return replace(moved, audio=audio)


def _absolute_path(image: ImageRef) -> Path:
    if isinstance(image, Picture):
        raise BridgeError(
            "an item has an image in memory, which a JSONL file names by its path alone; save the "
            "image and give its path"
        )
    return image.absolute()
