"""Write items into a JSONL file, from which `read_jsonl` reads the same items."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlm_bridge.data.items import Item
from vlm_bridge.data.picture import ImageRef
from vlm_bridge.data.shapes.own import written_parts, written_turns
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import write_bytes


def write_jsonl(path: Path, items: Iterable[Item]) -> Path:
    r"""Write items, one a line; `read_jsonl(path, images=folder_of(items))` reads them again.

    Files keep their place and are named by their absolute path. Every line names its cluster, so
    that a part of a data set keeps the units of the whole.

    Raises:
        BridgeError: an image in memory of which only the pixels are known, or a file that cannot
            be written.

    Example:
        >>> import tempfile
        >>> file = write_jsonl(Path(tempfile.mkdtemp()) / "a.jsonl", [Item(None, "why?", "so")])
        >>> file.read_text()
        '{"question": "why?", "answer": "so", "cluster": "f291a178a4eaf5c4"}\n'
    """
    lines = (json.dumps(_line(item), ensure_ascii=False) + "\n" for item in items)
    return write_bytes(path, "".join(lines).encode())


def folder_of(items: Iterable[Item]) -> Path | None:
    """The folder in which all files of some items lie; None of items without files.

    Example:
        >>> folder_of([Item(Path("/a/b/1.png"), "?"), Item(Path("/a/c/2.png"), "?")]).as_posix()
        '/a'
    """
    folders = {
        file.resolve().parent for item in items for file in item.files if isinstance(file, Path)
    }
    return Path(os.path.commonpath(folders)) if folders else None


def _line(item: Item) -> dict[str, Any]:
    """The fields of an item that say something."""
    line: dict[str, Any] = {}
    if item.parts:
        line["content"] = written_parts(item.parts, _reference)
    else:
        line["question"] = item.question
    if item.image is not None:
        line["image"] = _reference(item.image)
    if item.audio is not None:
        line["audio"] = str(item.audio.absolute())
    if item.turns:
        line["turns"] = written_turns(item.turns, _reference)
    if item.answer is not None:
        line["answer"] = item.answer
    if item.answers:
        line["answers"] = list(item.answers)
    return {**line, "cluster": item.cluster}


def _reference(image: ImageRef) -> str:
    """The absolute path of an image, or a data: URL of one in memory."""
    if isinstance(image, Path):
        return str(image.absolute())
    if image.size is not None:
        raise BridgeError(
            f"the {image.name} in memory has pixels and no file; save it and give its path"
        )
    return f"data:image/any;base64,{base64.b64encode(image.data).decode()}"
