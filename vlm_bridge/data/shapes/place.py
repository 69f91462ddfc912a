"""Where a record of a question stands, and how its texts and files are read."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_bridge.data.items import KINDS
from vlm_bridge.data.picture import ImageRef, Picture, image_ref
from vlm_bridge.errors import BridgeError, shown

#: Most bytes of an image in a data: URL.
MAX_DATA_URL_BYTES = 2**24
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_URL = re.compile(r"data:|[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """The name of a record in messages, and the folder in which its files must lie.

    Attributes:
        name: such as `data.jsonl:3`.
        folder: paths are relative to it and stay inside; None takes the paths of the caller's own
            objects as they are.
    """

    name: str
    folder: Path | None

    def refusal(self, text: str) -> BridgeError:
        """The error about this record."""
        return BridgeError(f"{self.name}: {text}")

    def text(self, record: Mapping[str, Any], field: str, how: str = "") -> str | None:
        """The text of a field, None if it is not there; `how` says what to do about another."""
        value = record.get(field)
        if field in record and not isinstance(value, str):
            raise self.refusal(f"'{field}' is not text{how}, got {shown(value)}")
        return value

    def answer(self, record: Mapping[str, Any]) -> str | None:
        """The answer, None without a label; JSON's null is none."""
        return None if record.get("answer") is None else self.text(record, "answer")

    def answers(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """All reference answers: a list of texts, or of objects whose `answer` is the text."""
        answers = record.get("answers", [])
        if not isinstance(answers, list | tuple):
            raise self.refusal(f"'answers' is a list of texts, got {shown(answers)}")
        texts = []
        for number, each in enumerate(answers):
            text = each.get("answer") if isinstance(each, Mapping) else each
            if not isinstance(text, str):
                raise self.refusal(f"'answers[{number}]' is not text, got {shown(each)}")
            texts.append(text)
        return tuple(texts)

    def cluster(self, record: Mapping[str, Any]) -> str:
        """The declared unit, empty if there is none."""
        found = self.text(record, "cluster", "; leave it out, or name the unit")
        if found is not None and not found.strip():
            raise self.refusal("'cluster' is empty; leave it out, or name the unit")
        return found or ""

    def known(self, record: Mapping[str, Any], fields: Collection[str], what: str) -> None:
        """Refuse a field that is not read, so that none is lost in silence."""
        if unknown := sorted(set(record) - set(fields)):
            raise self.refusal(f"no field {shown(unknown[0])}; {what} has {', '.join(fields)}")

    def only(self, given: Mapping[str, Any], fields: Collection[str], field: str) -> None:
        """Refuse a field of the object at `field` that has a value and is not read."""
        extra = sorted(str(name) for name in set(given) - set(fields) if given[name] is not None)
        if extra:
            raise self.refusal(f"'{field}.{extra[0]}' is not read; it has {', '.join(fields)}")

    def image(self, value: Any, field: str) -> ImageRef:
        """The image of a field: a path, a data: URL, or an image in memory.

        Nothing is fetched: any other URL is refused.
        """
        if isinstance(value, Mapping) and set(value) == {"bytes", "path"}:  # undecoded, of datasets
            value = value["path"] if value["bytes"] is None else value["bytes"]
        if isinstance(value, str | os.PathLike):
            name = os.fspath(value)
            if not name.strip():
                raise self.refusal(f"'{field}' is empty; leave it out, or name a file")
            return self._picture(name, field) if _URL.match(name) else self.file(name, "image")
        if value is None or isinstance(value, int | float | list | tuple | Mapping):
            raise self.refusal(
                f"'{field}' is not text; leave it out, or name a file, got {shown(value)}"
            )
        try:
            return image_ref(value)
        except BridgeError as error:
            raise self.refusal(f"'{field}': {error}") from None

    def images(self, value: Any, field: str) -> tuple[ImageRef, ...]:
        """The images of a list."""
        if not isinstance(value, list | tuple):
            raise self.refusal(f"'{field}' is a list of images, got {shown(value)}")
        return tuple(self.image(each, f"{field}[{place}]") for place, each in enumerate(value))

    def file(self, name: str, kind: str) -> Path:
        """The path of an existing file, inside the folder."""
        what = KINDS[kind][0]
        file = Path(name) if self.folder is None else self.folder / name
        try:
            inside = self.folder is None or file.resolve().is_relative_to(self.folder.resolve())
            there = os.path.isfile(file)
        except (OSError, ValueError, RuntimeError):  # a NUL character, a loop of links
            raise self.refusal(f"{shown(name)} is no file name") from None
        if not inside:
            raise self.refusal(f"the {what} {_printed(name)} lies outside {self.folder}")
        if not there:
            raise self.refusal(f"no {what} at {_printed(str(file))}")
        return file

    def _picture(self, url: str, field: str) -> Picture:
        head = _DATA_URL.match(url)
        if head is None:
            raise self.refusal(
                f"'{field}' is the URL {shown(url)}, and nothing is fetched; save the image and "
                "give its path, or give a URL data:image/...;base64,..."
            )
        if (len(url) - head.end()) * 3 // 4 > MAX_DATA_URL_BYTES:
            raise self.refusal(
                f"'{field}' is a data: URL of more than {MAX_DATA_URL_BYTES} bytes; save the image "
                "as a file and give its path"
            )
        try:
            return Picture.of(base64.b64decode(url[head.end() :], validate=True))
        except (binascii.Error, ValueError) as error:
            raise self.refusal(f"'{field}' is a data: URL that is not base64: {error}") from None


def _printed(name: str) -> str:
    return name if name.isprintable() and len(name) < 200 else shown(name)
