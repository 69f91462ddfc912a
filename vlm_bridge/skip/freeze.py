"""A layer that does not update its vision rows, which contribute keys and values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip import tensors
from vlm_bridge.skip.pass_state import PassState, PassTracker, Rows
from vlm_bridge.skip.patching import Forward


@dataclass(frozen=True)
class Freeze:
    """Vision rows contribute keys and values only; text rows run unchanged."""

    index: int
    forward: Forward
    tracker: PassTracker

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output, with vision rows unchanged."""
        now, past = self.tracker.current, kwargs.get("past_key_values")
        tensors.check_mask(kwargs.get("attention_mask"), self.index)
        if not now.has_vision:
            return self.forward(hidden_states, **kwargs)
        length, device = hidden_states.shape[1], hidden_states.device
        text, vision = now.rows("text", device), now.rows("vision", device)
        keys_and_values = self._keys_and_values(hidden_states, vision, kwargs)
        if len(text) == 0:  # a chunk of image only
            if past is not None:
                past.update(*keys_and_values, self.index)
            return hidden_states
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = self._causal(hidden_states, past, now)
        cut = tensors.cut_keywords(kwargs, text.index, length, now.share)
        cut["attention_mask"] = now.share(tensors.cut_queries, mask, text.index)
        places = now.share(_places, text, vision, length)
        cut["past_key_values"] = _Merge(past, places, keys_and_values)
        output = self.forward(tensors.cut_rows(hidden_states, text.index), **cut)
        return tensors.like(output, text.scatter(hidden_states, tensors.first_of(output)))

    def _causal(self, states: Tensor, past: Any, now: PassState) -> Tensor:
        # Without a mask, sdpa would cut the keys to the number of queries.
        length = keys = states.shape[1]
        start = 0
        if past is not None:
            start = past.get_seq_length(self.index)
            keys, _ = past.get_mask_sizes(length, self.index)
        return now.share(tensors.causal, length, start, keys, states.dtype, states.device)

    def _keys_and_values(
        self, hidden_states: Tensor, rows: Rows, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        now, length = self.tracker.current, hidden_states.shape[1]
        cut = tensors.cut_keywords(kwargs, rows.index, length, now.share)
        cut["attention_mask"], cut["past_key_values"] = None, _Stop()
        try:
            self.forward(tensors.cut_rows(hidden_states, rows.index), **cut)
        except tensors.Interrupt as stopped:
            keys, values = stopped.tensors
            return keys, values
        raise BridgeError(
            f"layer {self.index} passes no keys to its cache, so its vision rows cannot be frozen"
        )


class _Stop:
    """A cache that ends the layer as soon as its keys and values are computed."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> None:
        raise tensors.Interrupt(keys, values)


@dataclass(frozen=True)
class _Merge:
    """A cache that joins the text keys of the running layer with vision keys made before."""

    past: Any
    places: Tensor
    vision: tuple[Tensor, Tensor]

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kw: Any) -> tuple[Tensor, Tensor]:
        merged = self._join(keys, self.vision[0]), self._join(values, self.vision[1])
        if self.past is not None:
            merged = self.past.update(*merged, *args, **kw)
        return merged

    def _join(self, text: Tensor, vision: Tensor) -> Tensor:
        # Tokens before heads, as projections leave them: a token's heads are copied at once.
        rows = torch.cat([text.transpose(1, 2), vision.transpose(1, 2)], dim=1)
        whole = rows.flatten(0, 1).index_select(0, self.places.flatten())
        batch, length = self.places.shape
        return whole.view(batch, length, *whole.shape[1:]).transpose(1, 2)


def _places(text: Rows, vision: Rows, length: int) -> Tensor:
    """(batch, length) index of every position's key in [text, vision] of all sequences."""
    # A padding slot holds a row of the other kind with that row's own key: either index is right.
    batch, n = len(text.index), len(text) + len(vision)
    slots = torch.arange(n, device=text.index.device).expand(batch, -1)
    index = torch.cat([text.index, vision.index], dim=1)
    places = index.new_zeros(batch, length).scatter(1, index, slots)
    return places + n * torch.arange(batch, device=places.device)[:, None]
