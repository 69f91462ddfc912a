"""Layers that attend in both directions, as PaliGemma's do on its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlm_bridge.skip.patching import Forward


@dataclass(frozen=True)
class BothWays:
    """States the mask that "no mask" means in such a layer: every query sees every key.

    The forms of a skip read a missing mask as causal.
    """

    index: int
    forward: Forward

    @classmethod
    def where_needed(cls, index: int, layer: nn.Module, forward: Forward) -> Forward:
        """`forward`, with the mask stated if the attention of `layer` is not causal."""
        attention = getattr(layer, "self_attn", None)
        return forward if getattr(attention, "is_causal", True) else cls(index, forward)

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output."""
        if kwargs.get("attention_mask") is None:
            kwargs["attention_mask"] = self._mask(hidden_states, kwargs.get("past_key_values"))
        return self.forward(hidden_states, **kwargs)

    def _mask(self, states: Tensor, past: Any) -> Tensor:
        """Additive (1, 1, queries, keys); places that a static cache has not filled are closed."""
        length = keys = states.shape[1]
        end: int | Tensor = length
        if past is not None:
            keys, offset = past.get_mask_sizes(length, self.index)
            end = past.get_seq_length(self.index) + length - offset
        unfilled = torch.arange(keys, device=states.device) >= end
        mask = states.new_zeros(1, 1, length, keys)
        return mask.masked_fill(unfilled, torch.finfo(states.dtype).min)
