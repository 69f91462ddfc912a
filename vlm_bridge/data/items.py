"""Visual questions: one item, JSONL files of items, and hashes of items."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_bridge.data.image import image_hash, read_image
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.runtime.strict_json import decode_utf8, parse_json

#: Longest line of a JSONL file, and fields of a line.
MAX_LINE_BYTES = 2**20
_FIELDS = ("image", "question", "answer", "cluster")


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one image.

    Attributes:
        image: path of the image file.
        question: the text of the prompt.
        answer: the true answer, or None without a label; a blank answer counts as none.
        cluster: the independent unit of every interval and split; items about one image share it.
            Default: the start of the SHA-256 of the image file, so that all spellings and copies of
            a picture are one unit; the path, if there is no such file (yet). It is kept in the
            Unicode form NFC, so that one name in two forms is one unit.

    Raises:
        BridgeError: a field of another type, an empty question, or text that is not Unicode.

    Example:
        >>> Item(Path("a.png"), "is there a circle?").cluster
        'a.png'
    """

    image: Path
    question: str
    answer: str | None = None
    cluster: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.image, str | os.PathLike):
            raise BridgeError(f"the image of an item is a path, got {shown(self.image)}")
        object.__setattr__(self, "image", Path(self.image))
        _check_text("question", self.question)
        if self.answer is not None:
            _check_text("answer", self.answer)
        _check_text("cluster", self.cluster)
        if not self.question.strip():
            raise BridgeError(f"an item about {self.image} has an empty question")
        if self.answer is not None and not self.answer.strip():
            object.__setattr__(self, "answer", None)
        cluster = self.cluster
        if not cluster:
            there = os.path.isfile(self.image)
            cluster = image_hash(self.image)[:16] if there else str(self.image)
        object.__setattr__(self, "cluster", unicodedata.normalize("NFC", cluster))

    def open(self) -> Image.Image:
        """The image as RGB pixels, as a viewer shows it; `read_image` says how.

        Raises:
            BridgeError: the file is missing, broken, too large, or has several frames.
        """
        return read_image(self.image)


def read_jsonl(path: str | Path, *, images: str | Path | None = None) -> list[Item]:
    """Read items from a JSONL file with one `{image, question, answer?, cluster?}` a line.

    The file is UTF-8, with or without byte order mark; lines end in LF or CRLF; blank lines are
    ignored. Image paths are relative to `images` (default: the file's folder). Without `cluster`,
    all lines about one picture, however its path is spelt or copied, are one unit.

    Raises:
        BridgeError: the file is missing, empty or not UTF-8; a line is not such an object, has
            another field or is too long; an image lies outside `images` or does not exist; or one
            picture is declared to be in two clusters. The message names the line.

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
        raise BridgeError(f"{path} holds no items; each line is a JSON object with image, question")
    _check_units(items, [f"{path}:{number}" for number in places])
    return items


def check_one_cluster_per_image(items: Sequence[Item]) -> None:
    """Raise a `BridgeError` if a picture, or a copy of it, is in two clusters.

    Two units that share a picture are not independent.
    """
    _check_units(items, [f"item {place}" for place in range(len(items))])


def _check_units(items: Sequence[Item], names: Sequence[str]) -> None:
    """Refuse a picture in two clusters; `names` say where the items are."""
    first: dict[str, int] = {}
    hashes: dict[Path, str] = {}
    for place, item in enumerate(items):
        if item.image not in hashes:
            there = os.path.isfile(item.image)
            hashes[item.image] = image_hash(item.image) if there else str(item.image)
        before = first.setdefault(hashes[item.image], place)
        if items[before].cluster != item.cluster:
            raise BridgeError(
                f"{names[before]} and {names[place]} are about one picture ({items[before].image}, "
                f"{item.image}) in two clusters ({shown(items[before].cluster)}, "
                f"{shown(item.cluster)}); give it one cluster"
            )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers; only LF and CRLF end a line."""
    number = offset = 0
    try:
        with path.open("rb") as handle:
            while data := handle.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(data) > MAX_LINE_BYTES:
                    raise BridgeError(f"{path}:{number}: longer than {MAX_LINE_BYTES} bytes")
                try:
                    text = decode_utf8(data) if number == 1 else data.decode()
                except UnicodeDecodeError as error:
                    raise BridgeError(
                        f"{path}:{number}: not UTF-8 (byte 0x{data[error.start]:02x} at offset "
                        f"{offset + error.start}); save the file as UTF-8"
                    ) from None
                except ValueError as error:
                    raise BridgeError(f"{path}:{number}: {error}") from None
                offset += len(data)
                yield number, text
    except OSError as error:
        raise BridgeError(f"cannot read the data file {path}: {error.strerror}") from None


def _parse(line: str, where: str, folder: Path) -> Item:
    try:
        record = parse_json(line)
    except ValueError as error:
        raise BridgeError(f"{where}: not JSON ({error})") from None
    if not isinstance(record, dict):
        raise BridgeError(f"{where}: expected a JSON object, got {type(record).__name__}")
    for key in ("image", "question"):
        if not isinstance(record.get(key), str):
            raise BridgeError(f"{where}: '{key}' is missing or not text")
    if "group" in record:
        raise BridgeError(f"{where}: the field 'group' is now `cluster`; rename it")
    if unknown := sorted(set(record) - set(_FIELDS)):
        raise BridgeError(f"{where}: no field {shown(unknown[0])}; a line has {', '.join(_FIELDS)}")
    if not isinstance(record.get("answer"), str | None):
        raise BridgeError(f"{where}: 'answer' is not text")
    if not isinstance(record.get("cluster", "-"), str):
        raise BridgeError(f"{where}: 'cluster' is not text; leave it out, or name the unit")
    if not record.get("cluster", "-").strip():
        raise BridgeError(f"{where}: 'cluster' is empty; leave it out, or name the unit")
    image = _inside(folder, record["image"], where)
    try:
        return Item(image, record["question"], record.get("answer"), record.get("cluster", ""))
    except BridgeError as error:
        raise BridgeError(f"{where}: {error}") from None


def _inside(folder: Path, name: str, where: str) -> Path:
    """The path of an existing image inside `folder`."""
    image = folder / name
    try:
        outside = not image.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL character, a loop of links
        raise BridgeError(f"{where}: {shown(name)} is no file name") from None
    if outside:
        raise BridgeError(f"{where}: the image {_printed(name)} lies outside {folder}")
    if not os.path.isfile(image):
        raise BridgeError(f"{where}: no image at {_printed(str(image))}")
    return image


def _printed(name: str) -> str:
    return name if name.isprintable() and len(name) < 200 else shown(name)


def _check_text(name: str, value: Any) -> None:
    """Refuse what is no Unicode text; half a surrogate pair cannot be encoded."""
    try:
        if not isinstance(value, str):
            raise BridgeError(f"the {name} of an item is text, got {shown(value)}")
        value.encode()
    except UnicodeEncodeError:
        raise BridgeError(f"the {name} {shown(value)} holds half a surrogate pair") from None


def by_image(items: Iterable[Item]) -> list[list[Item]]:
    """The items of each image, in their order."""
    clusters: dict[str, list[Item]] = {}
    for item in items:
        clusters.setdefault(item.cluster, []).append(item)
    return list(clusters.values())


def image_hashes(items: Iterable[Item]) -> list[str]:
    """Short SHA-256 of every distinct image's bytes, sorted; two sets can be compared by it."""
    return sorted({image_hash(path)[:16] for path in {item.image for item in items}})


def items_hash(items: Iterable[Item]) -> str:
    """SHA-256 of image bytes, question, answer and cluster of every item, in order; no paths."""
    digest = hashlib.sha256()
    hashes: dict[Path, str] = {}
    for item in items:
        if item.image not in hashes:
            hashes[item.image] = image_hash(item.image)
        fields = [hashes[item.image], item.question, item.answer, item.cluster]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def limit_per_image(items: Sequence[Item], count: int, *, seed: int = 0) -> list[Item]:
    """At most `count` questions about every image, in the order of `items`.

    They are chosen by a hash of seed, cluster and question, independently of other items.

    Raises:
        BridgeError: `count` is below 1.
    """
    if count < 1:
        raise BridgeError(f"questions per image must be at least 1, got {count}")

    def rank(item: Item) -> str:
        return hashlib.sha256(f"{seed}\0{item.cluster}\0{item.question}".encode()).hexdigest()

    chosen = {id(i) for cluster in by_image(items) for i in sorted(cluster, key=rank)[:count]}
    return [item for item in items if id(item) in chosen]
