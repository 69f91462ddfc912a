"""Layers and sublayers that run on text rows only, while modality rows give keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip import tensors
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.patching import Forward
from vlm_bridge.skip.thin import Given, Halves
from vlm_bridge.skip.tracker import PassTracker


@dataclass(frozen=True)
class TextQueries:
    """All rows make keys and values; text rows go on from there, with queries of their own.

    `halves` are those of a layer, whose modality rows stay unchanged (`freeze`), or with `alone`
    those of its attention, whose update of modality rows is zero (`vision_attention`).
    """

    index: int
    forward: Forward
    halves: Halves
    tracker: PassTracker
    alone: bool = False

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The output, with modality rows unchanged or, of the attention alone, zero."""
        now, past = self.tracker.current, kwargs.get("past_key_values")
        tensors.check_mask(kwargs.get("attention_mask"), self.index)
        if not now.has_modality:
            return self.forward(hidden_states, **kwargs)
        length, device = hidden_states.shape[1], hidden_states.device
        text = now.rows("text", device)
        keys_and_values = self.halves.keys_and_values(hidden_states, kwargs)
        if keys_and_values is None:
            raise BridgeError(
                f"layer {self.index} passes no keys to its cache, so its attention cannot run on "
                "text alone"
            )
        if len(text) == 0:  # a chunk of modality tokens only
            if past is not None:
                past.update(*keys_and_values, self.index)
            return (torch.zeros_like(hidden_states), None) if self.alone else hidden_states
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = self._causal(hidden_states, past, now)
        cut = tensors.cut_keywords(kwargs, text.index, length, now.share)
        cut["attention_mask"] = now.share(tensors.cut_queries, mask, text.index)
        cut["past_key_values"] = Given(past, keys_and_values)
        output = self.halves.queries(text.gather(hidden_states), cut)
        states = tensors.first_of(output)
        if self.alone:
            return tensors.like(output, text.among_zeros(states, length))
        return tensors.like(output, text.scatter(hidden_states, states))

    def _causal(self, states: Tensor, past: Any, now: PassState) -> Tensor:
        # Without a mask, sdpa would cut the keys to the number of queries.
        length = keys = states.shape[1]
        start = 0
        if past is not None:
            start = past.get_seq_length(self.index)
            keys, _ = past.get_mask_sizes(length, self.index)
        return now.share(tensors.causal, length, start, keys, states.dtype, states.device)


@dataclass(frozen=True)
class TextMLP:
    """An MLP that runs on text rows; its update of modality rows is zero."""

    forward: Forward
    tracker: PassTracker

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The output at full length."""
        now = self.tracker.current
        if not now.has_modality:
            return self.forward(hidden_states, *args, **kwargs)
        text = now.rows("text", hidden_states.device)
        if len(text) == 0:  # a chunk of modality tokens only
            return torch.zeros_like(hidden_states)
        output = self.forward(text.gather(hidden_states), *args, **kwargs)
        whole = text.among_zeros(tensors.first_of(output), hidden_states.shape[1])
        return tensors.like(output, whole)
