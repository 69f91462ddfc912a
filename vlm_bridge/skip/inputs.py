"""What the arguments of a forward pass say about it: whether pixels come with its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

#: Inputs of text and sound, and words in the names of what only describes images.
_OTHER_INPUTS = {
    "input_ids",
    "inputs_embeds",
    "past_key_values",
    "per_layer_inputs",
    "input_features",
    "input_values",
}
_OTHER_WORDS = {
    "mask",
    "position",
    "positions",
    "label",
    "labels",
    "size",
    "sizes",
    "grid",
    "grids",
}
_OTHER_WORDS |= {"grids", "type", "second", "fps", "audio", "speech", "logits", "cache"}


def vision_inputs(arguments: Mapping[str, Any]) -> dict[str, list[Tensor]]:
    """The tensors of images and videos among the arguments of a pass, by argument.

    They are found by elimination, since families name them as they like: tensors that hold pixels
    by name, or real numbers, and are neither text nor masks, sizes or audio.
    """
    encoded = arguments.get("mm_encoder_outputs") or {}
    named = {name: value for name, value in arguments.items() if name != "mm_encoder_outputs"}
    named |= {kind: encoded.get(kind) for kind in ("image", "video")}
    return {name: tensors for name, value in named.items() if (tensors := _pixels(name, value))}


def _pixels(name: str, value: Any) -> list[Tensor]:
    if name in _OTHER_INPUTS or _OTHER_WORDS & set(name.split("_")):
        return []
    return [t for t in _tensors(value) if t.numel() and ("pixel" in name or t.is_floating_point())]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
