"""Recognise the shape of a record by its fields, and read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes import llava, lmms, messages, own
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.errors import BridgeError, shown

#: What marks an image in LLaVA's texts, and stands for one in many prompts.
_MARK = "<image>"


def read_record(record: Any, place: Place) -> Item:
    """The item of one record of any shape; errors name the place, the field and what is accepted.

    Recognised by their fields: `conversations` (LLaVA), `messages` (chat interfaces), a question
    with an id or several answers (evaluation harnesses), and else our own.

    Example:
        >>> said = [{"from": "human", "value": "why?"}, {"from": "gpt", "value": "so"}]
        >>> item = read_record({"conversations": said}, Place("data.jsonl:1", None))
        >>> item.question, item.answer
        ('why?', 'so')
    """
    if not isinstance(record, Mapping):
        raise place.refusal(f"expected a JSON object, got {type(record).__name__}")
    try:
        item = _reader(record, place)(record, place)
    except BridgeError as error:
        if str(error).startswith(f"{place.name}: "):
            raise
        raise place.refusal(str(error)) from None
    for text in (part for turn in item.dialogue for part in turn.parts if isinstance(part, str)):
        if _MARK in text:
            raise place.refusal(
                f"the text {shown(text)} holds {_MARK}, which marks an image in 'conversations' "
                "(LLaVA) alone; put texts and images in their order into 'content'"
            )
    return item


def _reader(record: Mapping[str, Any], place: Place) -> Callable[[Mapping[str, Any], Place], Item]:
    if "conversations" in record and "messages" in record:
        raise place.refusal("'conversations' and 'messages' are given; a line has one of them")
    if "conversations" in record:
        return llava.read
    if "messages" in record:
        return messages.read
    return lmms.read if any(mark in record for mark in lmms.MARKS) else own.read
