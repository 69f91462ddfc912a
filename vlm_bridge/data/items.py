"""Questions about images, recordings or neither: one item, and hashes of items."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_bridge.data.content import file_hash, text_hash
from vlm_bridge.data.image import read_image
from vlm_bridge.data.references import answer_among, as_answers
from vlm_bridge.data.text_forms import transcript_words
from vlm_bridge.errors import BridgeError, shown

#: What an item is about, by kind: the file or text in messages, and its name in the plural.
KINDS = {
    "image": ("image", "picture", "images"),
    "audio": ("audio file", "recording", "recordings"),
    "text": ("text", "text", "texts"),
}
#: The question about a recording whose answer is its transcript; a speech recogniser, such as
#: Whisper, reads no question and answers this one.
TRANSCRIBE = "what is said?"


@dataclass(frozen=True, slots=True)
class Item:
    """One question: about an image, about a recording, about both, or a text alone.

    Attributes:
        image: path of the image file, or None.
        question: the text of the prompt.
        answer: the true answer, or None without a label; a blank answer counts as none.
        cluster: the independent unit of every interval and split; items about one image share it.
            Default: the start of the SHA-256 of the image file, else of the audio file, so that all
            spellings and copies of a picture are one unit; the path, if there is no such file
            (yet). Of a text alone: the start of its `text_hash`, since equal texts are one unit.
            It is kept in the Unicode form NFC, so that one name in two forms is one unit.
        audio: path of the audio file (WAV), or None.
        answers: all reference answers, such as those of ten people, in any order; empty where
            `answer` is the only one. Without `answer` it is the most frequent of them, the first
            of equals.

    Raises:
        BridgeError: a field of another type, an empty question, text that is not Unicode, a blank
            reference answer, an `answer` that is none of the `answers`, or a transcript with
            several.

    Example:
        >>> Item(Path("a.png"), "is there a circle?").cluster
        'a.png'
        >>> Item(None, "who wrote it?").cluster == Item(None, "Who wrote  it?").cluster
        True
    """

    image: Path | None
    question: str
    answer: str | None = None
    cluster: str = ""
    audio: Path | None = None
    answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("image", "audio"):
            path: Any = getattr(self, name)
            if path is None:
                continue
            if not isinstance(path, str | os.PathLike):
                raise BridgeError(f"the {name} of an item is a path, got {shown(path)}")
            object.__setattr__(self, name, Path(path))
        _check_text("question", self.question)
        if self.answer is not None:
            _check_text("answer", self.answer)
        _check_text("cluster", self.cluster)
        if not self.question.strip():
            about = ", ".join(map(str, self.files)) or "nothing else"
            raise BridgeError(f"an item about {about} has an empty question")
        if self.answer is not None and not self.answer.strip():
            object.__setattr__(self, "answer", None)
        object.__setattr__(self, "answers", as_answers(self.answers))
        for each in self.answers:
            _check_text("answer", each)
        object.__setattr__(self, "answer", answer_among(self.answer, self.answers, self.name))
        if self.is_transcript and len(self.answers) > 1:
            raise BridgeError(f"a transcript has one answer, {self.name} has {len(self.answers)}")
        if self.is_transcript and self.answer is not None and not transcript_words(self.answer):
            raise BridgeError(
                f"the transcript of {self.files[0].name} holds no word: {shown(self.answer)}"
            )
        cluster = self.cluster
        if not cluster:
            first = next(iter(_contents(self, {}).values()))
            missing = self.files and not os.path.isfile(self.files[0])
            cluster = first if missing else first[:16]
        object.__setattr__(self, "cluster", unicodedata.normalize("NFC", cluster))

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and the audio file, as far as it has them."""
        return tuple(path for path in (self.image, self.audio) if path is not None)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it is about: some of `image` and `audio`, or `text` alone."""
        found = {"image": self.image, "audio": self.audio}
        return tuple(kind for kind, path in found.items() if path is not None) or ("text",)

    @property
    def references(self) -> tuple[str, ...]:
        """All reference answers: `answers`, else the one `answer`, else none."""
        return self.answers or (() if self.answer is None else (self.answer,))

    @property
    def is_transcript(self) -> bool:
        """Whether the answer is a transcript: it is about a recording, and asks `TRANSCRIBE`."""
        return self.audio is not None and self.question == TRANSCRIBE

    @property
    def name(self) -> str:
        """Files and question, for messages."""
        return ": ".join([*(path.name for path in self.files), self.question])

    def open(self) -> Image.Image:
        """The image as RGB pixels, as a viewer shows it; `read_image` says how.

        Raises:
            BridgeError: there is none, or the file is missing, broken, too large, or has several
                frames.
        """
        if self.image is None:
            raise BridgeError(f"the item {shown(self.question)} has no image")
        return read_image(self.image)


def check_one_cluster_per_image(items: Sequence[Item]) -> None:
    """Raise a `BridgeError` if a picture or recording, or a copy of it, is in two clusters.

    Two units that share one are not independent; the same holds of equal texts without either.
    """
    check_units(items, [f"item {place}" for place in range(len(items))])


def check_units(items: Sequence[Item], names: Sequence[str]) -> None:
    """Refuse what is in two clusters; `names` say where the items are."""
    first: dict[str, int] = {}
    hashes: dict[Path, str] = {}
    for place, item in enumerate(items):
        for kind, content in _contents(item, hashes).items():
            before = first.setdefault(content, place)
            if items[before].cluster != item.cluster:
                pair = (str(getattr(it, kind, shown(it.question))) for it in (items[before], item))
                raise BridgeError(
                    f"{names[before]} and {names[place]} are about one {KINDS[kind][1]} "
                    f"({', '.join(pair)}) in two clusters ({shown(items[before].cluster)}, "
                    f"{shown(item.cluster)}); give it one cluster"
                )


def _contents(item: Item, hashes: dict[Path, str]) -> dict[str, str]:
    """Kind -> hash of what an item is about; the path of a file that is not there (yet).

    `hashes` has those of files that were read before, and gets the others.
    """
    if not item.files:
        return {"text": text_hash(item.question)}
    for kind, path in zip(item.kinds, item.files, strict=True):
        if path not in hashes:
            there = os.path.isfile(path)
            hashes[path] = file_hash(path, KINDS[kind][0]) if there else str(path)
    return {kind: hashes[path] for kind, path in zip(item.kinds, item.files, strict=True)}


def unit_word(items: Iterable[Item], count: int = 2) -> str:
    """What the units of some items are, in a sentence that counts them.

    A unit of several files, such as all recordings of one sentence, is called that.

    Example:
        >>> unit_word([Item(None, "why?")]), unit_word([Item(Path("a.png"), "why?")], 1)
        ('texts', 'image')
    """
    items = list(items)
    kinds = {item.kinds[0] for item in items}
    files = {item.files[0] for item in items if item.files}
    word = "units"
    if len(kinds) == 1 and len(files) <= len({item.cluster for item in items}):
        word = KINDS[kinds.pop()][2]
    return word.removesuffix("s") if count == 1 else word


def _check_text(name: str, value: Any) -> None:
    """Refuse what is no Unicode text; half a surrogate pair cannot be encoded."""
    try:
        if not isinstance(value, str):
            raise BridgeError(f"the {name} of an item is text, got {shown(value)}")
        value.encode()
    except UnicodeEncodeError:
        raise BridgeError(f"the {name} {shown(value)} holds half a surrogate pair") from None


def by_image(items: Iterable[Item]) -> list[list[Item]]:
    """The items of each unit, in their order."""
    clusters: dict[str, list[Item]] = {}
    for item in items:
        clusters.setdefault(item.cluster, []).append(item)
    return list(clusters.values())


def image_hashes(items: Iterable[Item]) -> list[str]:
    """Short SHA-256 of all that the items are about, sorted; two sets can be compared by it.

    Of the bytes of every distinct image and recording, and the `text_hash` of items without either.
    """
    hashes: dict[Path, str] = {}
    contents = (content for item in items for content in _existing(item, hashes).values())
    return sorted({content[:16] for content in contents})


def items_hash(items: Iterable[Item]) -> str:
    """SHA-256 of the bytes of image and recording, question, answers and cluster of every item.

    In order, and without paths.
    """
    digest = hashlib.sha256()
    hashes: dict[Path, str] = {}
    for item in items:
        found = _existing(item, hashes)
        fields: list[Any] = [found.get("image"), item.question, item.answer, item.cluster]
        if "audio" in found:
            fields.append(found["audio"])
        if item.answers:
            fields.append(item.answers)
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def _existing(item: Item, hashes: dict[Path, str]) -> dict[str, str]:
    """`_contents`; a file that is not there is a `BridgeError`."""
    for kind, path in zip(item.kinds, item.files, strict=False):
        if path not in hashes:
            hashes[path] = file_hash(path, KINDS[kind][0])
    return _contents(item, hashes)


def first_units(items: Sequence[Item], count: int) -> list[Item]:
    """The items about the first `count` units, in their order.

    Example:
        >>> [item.question for item in first_units([Item(None, "a"), Item(None, "b")], 1)]
        ['a']
    """
    first = set(list(dict.fromkeys(item.cluster for item in items))[:count])
    return [item for item in items if item.cluster in first]


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
