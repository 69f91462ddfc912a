"""The shape of LLaVA's training data: `{"image": "a.png", "conversations": [...]}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes.asked import item_of_turns
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.turns import Part, Turn
from vlm_bridge.errors import shown

FIELDS = ("id", "image", "conversations", "cluster")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "system": "system"}
#: Where an image stands; the line break beside it belongs to the mark.
_MARK = re.compile(r"\n?<image>\n?")


def read(record: Mapping[str, Any], place: Place) -> Item:
    """An item of the last `human` turn; a `gpt` turn after it is the answer.

    `image` is one path or a list, taken in the order of the marks `<image>` in the texts.
    """
    place.known(record, FIELDS, "a line with conversations")
    value = record.get("image", [])
    listed = isinstance(value, list | tuple)
    images = place.images(value, "image") if listed else (place.image(value, "image"),)
    left = list(images)
    turns: list[Turn] = []
    said = record["conversations"]
    if not isinstance(said, list | tuple):
        raise place.refusal(f"'conversations' is a list of turns, got {shown(said)}")
    for number, turn in enumerate(said):
        field = f"conversations[{number}]"
        if not isinstance(turn, Mapping) or not {"from", "value"} <= set(turn):
            raise place.refusal(f"'{field}' is an object with from and value, got {shown(turn)}")
        place.only(turn, ("from", "value"), field)
        role, text = turn["from"], turn["value"]
        if not isinstance(role, str) or role not in _ROLES:
            raise place.refusal(f"'{field}.from' is {', '.join(_ROLES)}, got {shown(role)}")
        if not isinstance(text, str):
            raise place.refusal(f"'{field}.value' is not text, got {shown(text)}")
        turns.append(Turn(_ROLES[role], tuple(_parts(text, left, len(images), place))))
    if left:
        raise place.refusal(
            f"the texts have {len(images) - len(left)} marks <image> for {len(images)} images; "
            "mark the place of every image"
        )
    return item_of_turns(turns, place, cluster=place.cluster(record))


def _parts(text: str, left: list[Any], count: int, place: Place) -> list[Part]:
    first, *others = _MARK.split(text)
    parts: list[Part] = [first]
    for other in others:
        if not left:
            raise place.refusal(f"the texts have more marks <image> than {count} images")
        parts += [left.pop(0), other]
    return parts
