"""Our own shape of a question: `{"image": "a.png", "question": "...", "answer": "..."}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlm_bridge.data.items import Item
from vlm_bridge.data.picture import ImageRef, Picture
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.turns import Part, Turn
from vlm_bridge.errors import shown

FIELDS = (
    *("image", "audio", "question", "answer", "answers", "cluster"),
    *("images", "content", "system", "turns"),
)


def read(record: Mapping[str, Any], place: Place) -> Item:
    """An item of the fields of `Item`.

    `images` are several before the question; `content` has text and images in any order, in place
    of `question`: a list of texts and `{"image": ...}`. `turns` are what was said before, as
    `{"role": ..., "content": text or such a list}`, and `system` stands before them.
    """
    if "group" in record:
        raise place.refusal("the field 'group' is now `cluster`; rename it")
    if "content" not in record and not isinstance(record.get("question"), str):
        raise place.refusal(
            "'question' is missing or not text; a line has a question, or text and images in "
            f"'content', got {shown(record.get('question'))}"
        )
    _images(record, place)
    place.known(record, FIELDS, "a line")
    parts = _asked(record, place)
    audio = None
    if "audio" in record:
        name = place.text(record, "audio", "; leave it out, or name a file") or ""
        if not name.strip():
            raise place.refusal("'audio' is empty; leave it out, or name a file")
        audio = place.file(name, "audio")
    turns = record.get("turns", [])
    if not isinstance(turns, list | tuple):
        raise place.refusal(
            f"'turns' is a list of objects with role and content, got {shown(turns)}"
        )
    return Item.of(
        *parts,
        answer=place.answer(record),
        answers=place.answers(record),
        cluster=place.cluster(record),
        audio=audio,
        system=place.text(record, "system") or "",
        turns=[_turn(turn, f"turns[{number}]", place) for number, turn in enumerate(turns)],
    )


def by_name(image: ImageRef) -> str:
    """The path of an image, or the hash of one in memory."""
    return f"sha256:{image.digest}" if isinstance(image, Picture) else str(image)


def written_parts(
    parts: Sequence[Part], reference: Callable[[ImageRef], str] = by_name
) -> list[str | dict[str, str]]:
    """Text and images in order, as `content` has them; `reference` writes an image.

    Example:
        >>> from pathlib import Path
        >>> written_parts(["Is", Path("a.png"), "red?"])
        ['Is', {'image': 'a.png'}, 'red?']
    """
    return [part if isinstance(part, str) else {"image": reference(part)} for part in parts]


def written_turns(
    turns: Sequence[Turn], reference: Callable[[ImageRef], str] = by_name
) -> list[dict[str, Any]]:
    """What was said before, as `turns` has it; a system message is the first of them.

    Example:
        >>> written_turns([Turn("assistant", "a cat")])
        [{'role': 'assistant', 'content': ['a cat']}]
    """
    return [{"role": turn.role, "content": written_parts(turn.parts, reference)} for turn in turns]


def _images(record: Mapping[str, Any], place: Place) -> None:
    """Refuse two places for images."""
    given = [field for field in ("image", "images", "content") if field in record]
    if len(given) > 1:
        raise place.refusal(f"'{given[0]}' and '{given[1]}' are given; put all images into one")
    if "content" in record and "question" in record:
        raise place.refusal("'question' and 'content' are given; put the text into 'content'")


def _asked(record: Mapping[str, Any], place: Place) -> tuple[Part, ...]:
    if "content" in record:
        return _parts(record["content"], "content", place)
    images = place.images(record["images"], "images") if "images" in record else ()
    if "image" in record:
        images = (place.image(record["image"], "image"),)
    return (*images, str(record["question"]))


def _parts(content: Any, field: str, place: Place) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (content,)
    if not isinstance(content, list | tuple):
        raise place.refusal(
            f"'{field}' is text, or a list of texts and images, got {shown(content)}"
        )
    parts: list[Part] = []
    for number, part in enumerate(content):
        if isinstance(part, Mapping) and set(part) == {"image"}:
            parts.append(place.image(part["image"], f"{field}[{number}].image"))
        elif isinstance(part, str):
            parts.append(part)
        else:
            raise place.refusal(
                f"'{field}[{number}]' is text or {{\"image\": ...}}, got {shown(part)}"
            )
    return tuple(parts)


def _turn(turn: Any, field: str, place: Place) -> Turn:
    if not isinstance(turn, Mapping) or set(turn) != {"role", "content"}:
        raise place.refusal(f"'{field}' is an object with role and content, got {shown(turn)}")
    return Turn(turn["role"], _parts(turn["content"], f"{field}.content", place))
