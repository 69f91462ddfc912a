"""Visual questions: one item, JSONL files of items, and hashes of items."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vlm_bridge.errors import BridgeError


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one image.

    Attributes:
        image: path of the image file.
        question: the text of the prompt.
        answer: the true answer, or None without a label; a blank answer counts as none.
        cluster: the independent unit of every interval and split (default: the image path);
            items about one image share it.

    Example:
        >>> Item(Path("a.png"), "is there a circle?").cluster
        'a.png'
    """

    image: Path
    question: str
    answer: str | None = None
    cluster: str = ""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise BridgeError(f"an item about {self.image} has an empty question")
        if self.answer is not None and not self.answer.strip():
            object.__setattr__(self, "answer", None)
        if not self.cluster:
            object.__setattr__(self, "cluster", str(self.image))

    def open(self) -> Image.Image:
        """The image as RGB pixels; a missing or broken file is a `BridgeError`."""
        try:
            with Image.open(self.image) as handle:
                return handle.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise BridgeError(f"cannot read the image {self.image}: {error}") from None


def read_jsonl(path: str | Path, *, images: str | Path | None = None) -> list[Item]:
    """Read items from a JSONL file with one `{image, question, answer?, cluster?}` a line.

    Blank lines are ignored. Image paths are relative to `images` (default: the file's folder).

    Raises:
        BridgeError: the file is missing or empty, a line is not such an object, or an
            image lies outside `images` or does not exist. The message names the line.

    Example:
        >>> read_jsonl("missing.jsonl")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: no data file at missing.jsonl
    """
    path = Path(path)
    if not path.is_file():
        raise BridgeError(f"no data file at {path}")
    folder = Path(images) if images is not None else path.parent
    items = [
        _parse(line, f"{path}:{number}", folder)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if line.strip()
    ]
    if not items:
        raise BridgeError(f"{path} holds no items; each line is a JSON object with image, question")
    return items


def _parse(line: str, where: str, folder: Path) -> Item:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise BridgeError(f"{where}: not JSON ({error.msg})") from None
    if not isinstance(record, dict):
        raise BridgeError(f"{where}: expected a JSON object, got {type(record).__name__}")
    for key in ("image", "question"):
        if not isinstance(record.get(key), str):
            raise BridgeError(f"{where}: '{key}' is missing or not text")
    if "group" in record:
        raise BridgeError(f"{where}: the field 'group' is now `cluster`; rename it")
    for key in ("answer", "cluster"):
        if record.get(key) is not None and not isinstance(record[key], str):
            raise BridgeError(f"{where}: '{key}' is not text")
    image = folder / record["image"]
    if not image.resolve().is_relative_to(folder.resolve()):
        raise BridgeError(f"{where}: the image {record['image']} lies outside {folder}")
    if not image.is_file():
        raise BridgeError(f"{where}: no image at {image}")
    cluster = record.get("cluster") or record["image"]
    return Item(image, record["question"], record.get("answer"), cluster)


def by_image(items: Iterable[Item]) -> list[list[Item]]:
    """The items of each image, in their order."""
    clusters: dict[str, list[Item]] = {}
    for item in items:
        clusters.setdefault(item.cluster, []).append(item)
    return list(clusters.values())


def image_hashes(items: Iterable[Item]) -> list[str]:
    """Short SHA-256 of every distinct image's bytes, sorted; two sets can be compared by it."""
    paths = {item.image for item in items}
    return sorted({hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths})


def items_hash(items: Iterable[Item]) -> str:
    """SHA-256 of image bytes, question, answer and cluster of every item, in order; no paths."""
    digest = hashlib.sha256()
    pixels: dict[Path, str] = {}
    for item in items:
        if item.image not in pixels:
            pixels[item.image] = hashlib.sha256(item.image.read_bytes()).hexdigest()
        fields = [pixels[item.image], item.question, item.answer, item.cluster]
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
