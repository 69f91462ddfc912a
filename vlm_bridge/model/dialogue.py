"""The prompt of an item as text: the chat template of a processor, or what stands in for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jinja2 import TemplateError

from vlm_bridge.data import Item, Turn
from vlm_bridge.errors import BridgeError, first_line, shown
from vlm_bridge.model.vlm import tokenizer_of

#: What the tokens of a processor stand for that may not be typed in a question.
_STAND_INS = {
    "image_token": "an image",
    "boi_token": "an image",
    "video_token": "a video",
    "audio_token": "audio",
    "boa_token": "audio",
}


def prompt_text(processor: Any, item: Item, kinds: Collection[str]) -> str:
    """The text that a processor or tokenizer turns into tokens, up to where the answer begins.

    Text and images stand in the order of the item, a recording before the question. Without a chat
    template (a base model, such as PaliGemma) there are no roles: the tokens of images and the
    texts follow one another, and an item with earlier turns is refused.

    Args:
        processor: or a tokenizer, whose template takes texts without images.
        item: the question, with its turns.
        kinds: the kinds of input that the prompt has a place for; without `image` it is text alone.

    Raises:
        BridgeError: a text contains a token that stands for an image or a sound; a template that
            refuses the roles, or leaves a text out; or turns without a template.
    """
    dialogue = [_spoken(turn, kinds) for turn in item.dialogue]
    _check_words(processor, item)
    if getattr(processor, "chat_template", None) is None:
        return _without_template(processor, item, dialogue[-1], kinds)
    if "audio" in kinds:
        dialogue[-1][1].insert(_first_text(dialogue[-1][1]), {"type": "audio"})
    plain = processor is tokenizer_of(processor)  # whose templates take text, not parts
    chat = [
        {"role": role, "content": "".join(part["text"] for part in parts) if plain else parts}
        for role, parts in dialogue
    ]
    try:
        made = str(processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    except TemplateError as error:
        raise BridgeError(
            f"the chat template of {type(processor).__name__} refuses the roles "
            f"{', '.join(role for role, _ in dialogue)}: {first_line(error)}"
        ) from error
    if item.turns or item.parts:
        _check_complete(processor, made, dialogue)
    return made


def _spoken(turn: Turn, kinds: Collection[str]) -> tuple[str, list[dict[str, str]]]:
    """A turn as chat templates take it; where the prompt has no images, its texts are one."""
    if "image" not in kinds:
        texts = (part for part in turn.parts if isinstance(part, str))
        return turn.role, [{"type": "text", "text": " ".join(texts)}]
    return turn.role, [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
        for part in turn.parts
    ]


def _first_text(parts: list[dict[str, str]]) -> int:
    return next(place for place, part in enumerate(parts) if part["type"] == "text")


def _check_words(processor: Any, item: Item) -> None:
    for name, what in _STAND_INS.items():
        token = str(getattr(processor, name, None) or "")
        for part in (part for turn in item.dialogue for part in turn.parts):
            if token and isinstance(part, str) and token in part:
                raise BridgeError(
                    f"the question {shown(part)} contains '{token}', which stands for {what} "
                    f"in prompts of {type(processor).__name__}; leave it out"
                )


def _without_template(
    processor: Any, item: Item, question: tuple[str, list[dict[str, str]]], kinds: Collection[str]
) -> str:
    if item.turns:
        raise BridgeError(
            f"{type(processor).__name__} has no chat template, so that the earlier turns of "
            f"{shown(item.question)} have no roles; put their text into the question, or set "
            "processor.chat_template"
        )
    pieces = [part.get("text") or processor.image_token for part in question[1]]
    if "audio" in kinds:
        pieces.insert(_first_text(question[1]), processor.audio_token)
    return "".join(pieces)


def _check_complete(
    processor: Any, made: str, dialogue: list[tuple[str, list[dict[str, str]]]]
) -> None:
    """Refuse a template that leaves out a text, as some do with system messages."""
    start = 0
    for role, parts in dialogue:
        for text in (part["text"].strip() for part in parts if part["type"] == "text"):
            place = made.find(text, start)
            if place < 0:
                raise BridgeError(
                    f"the chat template of {type(processor).__name__} leaves out {shown(text)} of "
                    f"the {role}; put it into the question"
                )
            start = place + len(text)
