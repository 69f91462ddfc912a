"""What the arguments of a pass say about it: whether images, videos or sounds come with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from vlm_bridge.model.layout import MODALITIES

#: Inputs of text.
_TEXT = {"input_ids", "inputs_embeds", "past_key_values", "per_layer_inputs"}
#: Inputs of sounds whose names do not say so.
_SOUNDS = {"input_features", "input_values"}
_SOUND_WORDS = {"audio", "audios", "speech"}
#: Words in the names of what only describes images or sounds.
_OTHER_WORDS = {"mask", "position", "positions", "label", "labels", "size", "sizes", "length"}
_OTHER_WORDS |= {"lengths", "grid", "grids", "type", "second", "fps", "logits", "cache"}


def modality_inputs(arguments: Mapping[str, Any]) -> dict[str, list[Tensor]]:
    """The tensors of images, videos and sounds among the arguments of a pass, by argument.

    They are found by elimination, since families name them as they like: tensors that hold pixels
    by name, or real numbers, and are neither text nor masks or sizes. What was encoded beforehand
    (`mm_encoder_outputs`) is named by its kind.
    """
    encoded = arguments.get("mm_encoder_outputs") or {}
    named = {name: value for name, value in arguments.items() if name != "mm_encoder_outputs"}
    named |= {kind: encoded.get(kind) for kind in MODALITIES}
    return {name: tensors for name, value in named.items() if (tensors := _features(name, value))}


def kind_of(name: str) -> str:
    """The kind of the features in the argument `name`: one of `MODALITIES`.

    Example:
        >>> [kind_of(name) for name in ("pixel_values", "video_features", "input_features")]
        ['image', 'video', 'audio']
    """
    if name in _SOUNDS or _SOUND_WORDS & set(name.split("_")):
        return "audio"
    return "video" if "video" in name else "image"


def _features(name: str, value: Any) -> list[Tensor]:
    if name in _TEXT or _OTHER_WORDS & set(name.split("_")):
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
