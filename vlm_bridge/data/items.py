"""Questions about images, recordings or neither: one item, and what it is about."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_bridge.data.content import file_hash, text_hash
from vlm_bridge.data.picture import ImageRef, Picture, image_ref, open_image
from vlm_bridge.data.references import answer_among, as_answers
from vlm_bridge.data.text_forms import transcript_words
from vlm_bridge.data.turns import Part, Turn, check_text, check_turns, given_parts
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
    """One question: about images, about a recording, about both, or a text alone.

    `Item(image, question)` is a question behind one image. `Item.of` makes one with several images,
    with text before, between and after them, and with what was said before.

    Attributes:
        image: of a question behind one image: a path, or an image in memory (a PIL image, an array
            or the bytes of a file, kept as a `Picture`); else None.
        question: the text of the prompt; with `parts`, their texts joined, in one form of white
            space.
        answer: the true answer, or None without a label; a blank answer counts as none.
        cluster: the independent unit of every interval and split; items that share an image share
            it. Default: the start of the SHA-256 of the image (of several the smallest), else of
            the audio file, so that all spellings and copies of a picture are one unit; the path, if
            there is no such file (yet). Of text alone: the start of its `text_hash`, since equal
            texts are one unit. `link_units` joins items whose images overlap. It is kept in the
            Unicode form NFC, so that one name in two forms is one unit.
        audio: path of the audio file (WAV), or None; a prompt has it before the question.
        parts: text and images in order, where they are no single image before one text.
        turns: what was said before the question: a system message first, if any.
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

    image: ImageRef | None
    question: str
    answer: str | None = None
    cluster: str = ""
    audio: Path | None = None
    parts: tuple[Part, ...] = ()
    turns: tuple[Turn, ...] = ()
    answers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *parts: Any,
        answer: str | None = None,
        answers: Sequence[str] = (),
        cluster: str = "",
        audio: str | os.PathLike[str] | None = None,
        system: str = "",
        turns: Sequence[Turn] = (),
    ) -> Item:
        """A question of text and images in order: a `str` is text, and all else is an image.

        Args:
            parts: texts, and images as `Path`, PIL image, array or bytes. A video is its frames.
            answer: as in `Item`.
            answers: as in `Item`.
            cluster: as in `Item`.
            audio: as in `Item`.
            system: text of a system message before all turns.
            turns: what was said before, as `Turn("user", ("what?", Path("a.png")))`.

        Example:
            >>> item = Item.of("Is", Path("a.png"), "left of", Path("b.png"), "?", answer="yes")
            >>> item.question, len(item.images)
            ('Is left of ?', 2)
            >>> Item.of(Path("a.png"), "what is it?") == Item(Path("a.png"), "what is it?")
            True
        """
        before = (Turn("system", (system,)),) if system else ()
        path = None if audio is None else Path(audio)
        asked = (given_parts(parts), (*before, *turns))
        return cls(None, "", answer, cluster, path, *asked, answers=as_answers(answers))

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if self.image is not None:
            try:
                put("image", image_ref(self.image))
            except BridgeError as error:
                raise BridgeError(f"the image of an item is a path or an image: {error}") from None
        audio: Any = self.audio
        if audio is not None:
            if not isinstance(audio, str | os.PathLike):
                raise BridgeError(f"the audio of an item is a path, got {shown(audio)}")
            put("audio", Path(audio))
        check_text("question", self.question)
        put("turns", check_turns(self.turns))
        self._settle_parts(put)
        if self.answer is not None:
            check_text("answer", self.answer)
        check_text("cluster", self.cluster)
        if not self.question.strip():
            about = ", ".join(map(str, self.files)) or "nothing else"
            raise BridgeError(f"an item about {about} has an empty question")
        if self.answer is not None and not self.answer.strip():
            put("answer", None)
        put("answers", as_answers(self.answers))
        for each in self.answers:
            check_text("answer", each)
        put("answer", answer_among(self.answer, self.answers, self.name))
        if self.is_transcript and len(self.answers) > 1:
            raise BridgeError(f"a transcript has one answer, {self.name} has {len(self.answers)}")
        if self.is_transcript and self.answer is not None and not transcript_words(self.answer):
            raise BridgeError(f"the transcript of {self.audio} holds no word: {shown(self.answer)}")
        put("cluster", unicodedata.normalize("NFC", self.cluster or default_cluster(self)))

    def _settle_parts(self, put: Any) -> None:
        """One form of a question: `parts` only where they say more than an image and a text."""
        parts = given_parts(self.parts)
        texts = [part for part in parts if isinstance(part, str)]
        said = " ".join(" ".join(texts).split())
        if not parts:
            put("parts", ())
            return
        if self.image is not None:
            raise BridgeError("an item has an image or parts; put the image among its parts")
        if self.question not in ("", said):
            raise BridgeError(
                f"the question {shown(self.question)} is not the text of its parts, {shown(said)}; "
                "leave it empty"
            )
        images = [part for part in parts if not isinstance(part, str)]
        simple = len(texts) == 1 and len(images) < 2 and isinstance(parts[-1], str)
        if simple or not images:
            put("image", images[0] if images else None)
            put("question", "".join(texts))
            put("parts", ())
        else:
            put("question", said)
            put("parts", parts)

    @property
    def dialogue(self) -> tuple[Turn, ...]:
        """All turns in order, the question last, with its image before its text."""
        first = () if self.image is None else (self.image,)
        return (*self.turns, Turn("user", self.parts or (*first, self.question)))

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """Its images in the order of the prompt, those of earlier turns first."""
        before = chain.from_iterable(turn.parts for turn in self.turns)
        parts = (*before, *(self.parts or (self.image,)))
        return tuple(part for part in parts if part is not None and not isinstance(part, str))

    @property
    def files(self) -> tuple[ImageRef, ...]:
        """The images and the audio file, as far as it has them."""
        return self.images if self.audio is None else (*self.images, self.audio)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it is about: some of `image` and `audio`, or `text` alone."""
        found = {"image": bool(self.images), "audio": self.audio is not None}
        return tuple(kind for kind, there in found.items() if there) or ("text",)

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
            BridgeError: there is none or several, or the file is missing, broken, too large, or has
                several frames.
        """
        if len(self.images) != 1:
            count = (
                f"{len(self.images)} images; open_image opens each" if self.images else "no image"
            )
            raise BridgeError(f"the item {shown(self.question)} has {count}")
        return open_image(self.images[0])


def about_other(item: Item, other: Item) -> Item:
    """The question of one item about what another is about, in the unit of the other.

    A question about several images gets those of the other in turn, again from the first where
    they are fewer.

    Raises:
        BridgeError: a question of several parts, and another item without an image.

    Example:
        >>> two = [Item(Path(f"{name}.png"), "what?", name, name) for name in "ab"]
        >>> found = about_other(*two)
        >>> found.image.name, found.answer, found.cluster
        ('b.png', 'a', 'b')
    """
    if not item.parts and not item.turns and not other.parts and not other.turns:
        return replace(item, image=other.image, audio=other.audio, cluster=other.cluster)
    if item.images and not other.images:
        raise BridgeError(f"{other.name} has no image to put into the question {item.name}")
    swapped = with_images(
        item, [other.images[i % len(other.images)] for i in range(len(item.images))]
    )
    return replace(swapped, audio=other.audio, cluster=other.cluster)


def with_images(item: Item, images: Sequence[ImageRef]) -> Item:
    """The same question about other images, one for each of its own; its cluster stays."""
    following = iter(images)

    def other(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(part if isinstance(part, str) else next(following) for part in parts)

    turns = tuple(Turn(turn.role, other(turn.parts)) for turn in item.turns)
    image = None if item.image is None else next(following)
    return replace(item, image=image, parts=other(item.parts), turns=turns)


def contents_of(item: Item, hashes: dict[Path, str]) -> list[tuple[str, ImageRef | str, str]]:
    """(kind, file or text, SHA-256) of all that an item is about, each image once.

    Of a file that is not there (yet) its path stands for the hash. `hashes` has those of files that
    were read before, and gets the others.
    """
    found: list[tuple[str, ImageRef | str, str]] = []
    for image in dict.fromkeys(item.images):
        if isinstance(image, Picture):
            found.append(("image", image, image.digest))
        else:
            found.append(("image", image, _hash_at(image, "image", hashes)))
    if item.audio is not None:
        found.append(("audio", item.audio, _hash_at(item.audio, "audio", hashes)))
    if not found:
        said = "\n".join(str(part) for turn in item.dialogue for part in turn.parts)
        return [("text", item.question, text_hash(said))]
    return found


def _hash_at(path: Path, kind: str, hashes: dict[Path, str]) -> str:
    if path not in hashes:
        there = os.path.isfile(path)
        hashes[path] = file_hash(path, KINDS[kind][0]) if there else str(path)
    return hashes[path]


def default_cluster(item: Item) -> str:
    """The unit of an item that declares none, by its content alone."""
    contents = contents_of(item, {})
    first = contents[0][0]
    return min(short_hash(content) for kind, _, content in contents if kind == first)


def short_hash(content: str) -> str:
    """The start of a SHA-256; a path stays whole."""
    whole = len(content) == 64 and not set(content) - set("0123456789abcdef")
    return content[:16] if whole else content
