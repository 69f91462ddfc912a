"""The shape of chat interfaces: `{"messages": [{"role": ..., "content": ...}]}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes.asked import item_of_turns
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.turns import ROLES, Part, Turn
from vlm_bridge.errors import shown

FIELDS = ("messages", "images", "answer", "cluster", "id")
#: Kinds of parts -> the fields that may hold them, of which a part has one.
_KINDS = {
    **dict.fromkeys(("text", "input_text", "output_text"), ("text",)),
    **dict.fromkeys(("image_url", "input_image"), ("image_url",)),
    "image": ("image", "url", "path"),
}


def read(record: Mapping[str, Any], place: Place) -> Item:
    """An item of the last message of the user; one of the assistant after it is the answer.

    An image is a part of type `image_url` with the path of a file or a data: URL, or of type
    `image`, whose image stands in the part (as `image`, `url` or `path`) or, in order, in the list
    `images`. The `detail` of an image and the `name` of a speaker are left out.
    """
    place.known(record, FIELDS, "a line with messages")
    left = list(place.images(record.get("images", []), "images"))
    turns = []
    messages = record["messages"]
    if not isinstance(messages, list | tuple):
        raise place.refusal(f"'messages' is a list, got {shown(messages)}")
    for number, message in enumerate(messages):
        field = f"messages[{number}]"
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise place.refusal(
                f"'{field}' is an object with role and content, got {shown(message)}"
            )
        if message["role"] not in ROLES:
            raise place.refusal(
                f"'{field}.role' is {', '.join(ROLES)}, got {shown(message['role'])}"
            )
        if extra := sorted(set(message) - {"role", "content", "name"}):
            raise place.refusal(f"'{field}.{extra[0]}' is not read; a message has role and content")
        turns.append(
            Turn(message["role"], _parts(message["content"], f"{field}.content", left, place))
        )
    if left:
        raise place.refusal(f"'images' has {len(left)} more than the parts of type image")
    answer = place.answer(record)
    return item_of_turns(turns, place, answer=answer, cluster=place.cluster(record))


def _parts(content: Any, field: str, left: list[Any], place: Place) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (content,)
    if not isinstance(content, list | tuple):
        raise place.refusal(f"'{field}' is text or a list of parts, got {shown(content)}")
    return tuple(_part(part, f"{field}[{n}]", left, place) for n, part in enumerate(content))


def _part(part: Any, field: str, left: list[Any], place: Place) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "video":
        raise place.refusal(f"'{field}' is a video; give its frames as images, in order")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise place.refusal(f"'{field}.type' is {', '.join(_KINDS)}, got {shown(kind or part)}")
    fields, detail = _KINDS[kind], ("detail",) if "image_url" in _KINDS[kind] else ()
    place.only(part, ("type", *fields, *detail), field)
    held = [name for name in fields if part.get(name) is not None]
    if fields == ("text",):
        if not isinstance(text := part.get("text"), str):
            raise place.refusal(f"'{field}.text' is not text, got {shown(text)}")
        return text
    if len(held) > 1:
        raise place.refusal(f"'{field}' has {' and '.join(held)}; give the image in one")
    if kind == "image" and not held:
        if not left:
            raise place.refusal(f"'{field}' has no image, and 'images' has none left for it")
        found: Part = left.pop(0)
        return found
    name = held[0] if held else fields[0]
    field, value = f"{field}.{name}", part.get(name)
    if name == "image_url" and isinstance(value, Mapping) and "url" in value:
        place.only(value, ("url", "detail"), field)
        value = value["url"]
    return place.image(value, field)
