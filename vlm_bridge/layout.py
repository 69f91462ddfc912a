"""Where the parts of a vision-language model are, found by structure, not by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from vlm_bridge.errors import BridgeError

#: The token groups every position of a prompt falls into, in the order of their codes.
TOKEN_GROUPS = ("text", "image", "special", "pad")


@dataclass(frozen=True)
class Layout:
    """The parts of a VLM the bridge touches.

    Attributes:
        base: the module that turns `input_ids` and pixels into hidden states.
        decoder: the text decoder; it owns `layers` and is called by `base`.
        layers: the decoder layers, 0-based.
        text_config: configuration of the decoder.
        vision_ids: token ids whose positions hold vision features.
        special_ids: the tokenizer's other special tokens (chat markers, end of text).
    """

    base: nn.Module
    decoder: nn.Module
    layers: nn.ModuleList
    text_config: PreTrainedConfig
    vision_ids: tuple[int, ...]
    special_ids: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    def token_groups(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Group code of every position: an index into `TOKEN_GROUPS`.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 0 on padding, or None where there is none.

        Returns:
            (batch, length) int64.
        """
        groups = torch.zeros_like(input_ids)
        groups[_is_in(input_ids, self.special_ids)] = TOKEN_GROUPS.index("special")
        groups[_is_in(input_ids, self.vision_ids)] = TOKEN_GROUPS.index("image")
        if attention_mask is not None:
            groups[attention_mask == 0] = TOKEN_GROUPS.index("pad")
        return groups

    def vision_flags(self, input_ids: Tensor) -> Tensor:
        """(batch, length) bool: which positions hold vision features."""
        return _is_in(input_ids, self.vision_ids)


def _is_in(ids: Tensor, wanted: tuple[int, ...]) -> Tensor:
    return torch.isin(ids, torch.tensor(wanted, device=ids.device, dtype=ids.dtype))


def find_layout(model: PreTrainedModel, special_ids: tuple[int, ...] = ()) -> Layout:
    """Find decoder, layers and vision tokens of a transformers VLM.

    Args:
        model: a `...ForConditionalGeneration` with a causal self-attention decoder.
        special_ids: special token ids of its tokenizer; the vision ids are taken out.

    Raises:
        BridgeError: the decoder has no plain stack of self-attention layers, mixes in
            cross-attention or linear attention, or the configuration names no image token.
    """
    kind = type(model).__name__
    decoder: Any = model.get_decoder()
    for inner in ("model", "decoder"):
        if not hasattr(decoder, "layers") and hasattr(decoder, inner):
            decoder = getattr(decoder, inner)
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise BridgeError(f"{kind}: found no list of decoder layers; this family is not supported")
    for index, layer in enumerate(layers):
        attention = getattr(layer, "self_attn", None)
        if attention is None or getattr(attention, "layer_idx", None) != index:
            raise BridgeError(
                f"{kind}: layer {index} ({type(layer).__name__}) is not a self-attention layer; "
                "cross-attention and linear-attention stacks are not supported"
            )
    config = model.config
    names = ("image_token_id", "image_token_index", "video_token_id")
    found = [getattr(config, name, None) for name in names]
    vision = tuple(sorted({int(token) for token in found if token is not None}))
    if not vision:
        raise BridgeError(
            f"{kind}: its configuration names no image token, so vision positions are unknown"
        )
    return Layout(
        base=model.base_model,
        decoder=decoder,
        layers=layers,
        text_config=config.get_text_config(decoder=True),
        vision_ids=vision,
        special_ids=tuple(sorted(set(special_ids) - set(vision))),
    )
