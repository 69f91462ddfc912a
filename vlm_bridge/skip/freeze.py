"""A layer that does not update its vision rows: they give their keys and values and stop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip.pass_state import PassState, PassTracker, Rows
from vlm_bridge.skip.patching import Forward
from vlm_bridge.skip.tensors import (
    causal,
    check_mask,
    cut_keywords,
    cut_queries,
    cut_rows,
    first_of,
    like,
)


class Freeze:
    """Vision rows give keys and values, without attention or MLP; text rows run as always."""

    def __init__(self, index: int, forward: Forward, tracker: PassTracker) -> None:
        self.index, self.forward, self.tracker = index, forward, tracker

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output, vision rows as they came."""
        now, past = self.tracker.current, kwargs.get("past_key_values")
        check_mask(kwargs.get("attention_mask"), self.index)
        if not now.has_vision:
            return self.forward(hidden_states, **kwargs)
        length, device = hidden_states.shape[1], hidden_states.device
        seen = now.rows("vision", device)
        vision = self._keys_and_values(hidden_states, seen, kwargs)
        rows = now.rows("text", device)
        if len(rows) == 0:  # a chunk of image only
            if past is not None:
                past.update(*vision, self.index)
            return hidden_states
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = self._causal(hidden_states, past, now)
        cut = cut_keywords(kwargs, rows.index, length, now.share)
        cut["attention_mask"] = now.share(cut_queries, mask, rows.index)
        cut["past_key_values"] = _Merge(past, now.share(_places, rows, seen, length), vision)
        output = self.forward(cut_rows(hidden_states, rows.index), **cut)
        return like(output, rows.scatter(hidden_states, first_of(output)))

    def _causal(self, states: Tensor, past: Any, now: PassState) -> Tensor:
        # Without a mask, sdpa would cut the keys to the number of queries.
        length, start = states.shape[1], 0
        keys = length
        if past is not None:
            start = past.get_seq_length(self.index)
            keys, _ = past.get_mask_sizes(length, self.index)
        return now.share(causal, length, start, keys, states.dtype, states.device)

    def _keys_and_values(
        self, hidden_states: Tensor, rows: Rows, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        now, length = self.tracker.current, hidden_states.shape[1]
        cut = cut_keywords(kwargs, rows.index, length, now.share)
        cut["attention_mask"], cut["past_key_values"] = None, _Stop()
        try:
            self.forward(cut_rows(hidden_states, rows.index), **cut)
        except _Stopped as stopped:
            return stopped.keys, stopped.values
        raise BridgeError(
            f"layer {self.index} hands no keys to its cache, so its vision rows cannot be frozen"
        )


class _Stopped(Exception):
    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values


class _Stop:
    """A cache that ends the layer at the moment its keys and values are there."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> None:
        raise _Stopped(keys, values)


class _Merge:
    """A cache that joins the text keys of the running layer with vision keys made before."""

    def __init__(self, past: Any, places: Tensor, vision: tuple[Tensor, Tensor]) -> None:
        self.past, self.places, self.vision = past, places, vision

    def update(
        self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        joined = (self._join(keys, self.vision[0]), self._join(values, self.vision[1]))
        if self.past is None:
            return joined
        merged: tuple[Tensor, Tensor] = self.past.update(*joined, *args, **kwargs)
        return merged

    def _join(self, text: Tensor, vision: Tensor) -> Tensor:
        # Tokens before heads, as projections leave them: a token's heads are copied at once.
        both = torch.cat([text.transpose(1, 2), vision.transpose(1, 2)], dim=1)
        whole = both.flatten(0, 1).index_select(0, self.places.flatten())
        batch, length = self.places.shape
        return whole.view(batch, length, *whole.shape[1:]).transpose(1, 2)


def _places(text: Rows, vision: Rows, length: int) -> Tensor:
    """(batch, length) where the key of a position is in [text, vision] of all sequences.

    A filled slot holds a row of the other kind; its key is that row's own key, so either
    will do.
    """
    batch, n = len(text.index), len(text) + len(vision)
    slots = torch.arange(n, device=text.index.device).expand(batch, -1)
    index = torch.cat([text.index, vision.index], dim=1)
    places = index.new_zeros(batch, length).scatter(1, index, slots)
    return places + n * torch.arange(batch, device=places.device)[:, None]
