"""The fast form of every mode: what is skipped is not computed.

Hidden states keep their full length between layers, so hooks of others still see whole
sequences. A layer that runs on part of the rows gathers them, runs, and scatters them back;
untouched vision rows keep their value, which is why late entry needs no code of its own:
early exit, late entry and band are all a set of layers that run text-only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan import SkipPlan
from vlm_bridge.skip.cache import UNUSED, TextOnlyLayer
from vlm_bridge.skip.passes import PassTracker, Rows, VisionPass
from vlm_bridge.skip.plain import causal_mask, first_of, like

Forward = Callable[..., Any]


def fast_forward(plan: SkipPlan, index: int, forward: Forward, tracker: PassTracker) -> Forward:
    """The replacement of layer `index`'s `forward` under `plan`."""
    if plan.mode == "block":
        return _Bypass(index)
    if plan.mode == "freeze":
        return _Freeze(index, forward, tracker)
    return _TextOnly(index, forward, tracker)


class _Bypass:
    """The identity that still counts: a zero placeholder keeps the cache's length true."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        cache = kwargs.get("past_key_values")
        if cache is not None:
            batch, length, _ = hidden_states.shape
            zero = hidden_states.new_zeros(batch, 1, length, 1)
            cache.update(zero, zero, self.index)
        return hidden_states


class _TextOnly:
    """The layer on text rows alone; vision rows pass by and leave no keys."""

    def __init__(self, index: int, forward: Forward, tracker: PassTracker) -> None:
        self.index, self.forward, self.tracker = index, forward, tracker

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        now, past = self.tracker.current, kwargs.get("past_key_values")
        store = TextOnlyLayer.take_over(past, self.index) if past is not None else None
        rows, (batch, length, _) = now.text, hidden_states.shape
        if len(rows) == 0:  # a chunk of image only
            if store is not None:
                store.advance(length)
            return hidden_states
        start = store.seen if store is not None else 0
        positions = torch.where(rows.valid, rows.index + start, UNUSED)
        keys = positions
        if store is not None:
            keys = torch.cat([store.known_positions(batch, positions.device), positions], dim=1)
            store.expect(positions, length)
        mask = _cut_mask(kwargs.get("attention_mask"), hidden_states, rows, start, keys)
        if not now.has_vision:
            return self.forward(hidden_states, **{**kwargs, "attention_mask": mask})
        cut = _cut_keywords(kwargs, rows.index, length)
        output = self.forward(cut_rows(hidden_states, rows.index), **cut | {"attention_mask": mask})
        return like(output, rows.scatter(hidden_states, first_of(output)))


class _Freeze:
    """Vision rows give their keys and values and stop; text rows run as always."""

    def __init__(self, index: int, forward: Forward, tracker: PassTracker) -> None:
        self.index, self.forward, self.tracker = index, forward, tracker

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        now, past = self.tracker.current, kwargs.get("past_key_values")
        if not now.has_vision:
            return self.forward(hidden_states, **kwargs)
        length = hidden_states.shape[1]
        vision = self._keys_and_values(hidden_states, now.vision, kwargs)
        if len(now.text) == 0:  # a chunk of image only
            if past is not None:
                keys, values = (_spread(states, now.vision, length) for states in vision)
                past.update(keys, values, self.index)
            return hidden_states
        start = past.get_seq_length(self.index) if past is not None else 0
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = causal_mask(hidden_states, start)
        rows = now.text
        cut = _cut_keywords(kwargs, rows.index, length)
        cut["attention_mask"] = _take_queries(mask, rows)
        cut["past_key_values"] = _Merge(past, now, length, vision)
        output = self.forward(cut_rows(hidden_states, rows.index), **cut)
        return like(output, rows.scatter(hidden_states, first_of(output)))

    def _keys_and_values(
        self, hidden_states: Tensor, rows: Rows, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        cut = _cut_keywords(kwargs, rows.index, hidden_states.shape[1])
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

    def __init__(
        self, past: Any, now: VisionPass, length: int, vision: tuple[Tensor, Tensor]
    ) -> None:
        self.past, self.now, self.length, self.vision = past, now, length, vision

    def update(
        self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        joined = (self._join(keys, self.vision[0]), self._join(values, self.vision[1]))
        if self.past is None:
            return joined
        merged: tuple[Tensor, Tensor] = self.past.update(*joined, *args, **kwargs)
        return merged

    def _join(self, text: Tensor, vision: Tensor) -> Tensor:
        # A filled slot holds a row of the other kind; its key is that row's own key, so
        # writing it changes nothing whichever kind is written last.
        full = _spread(text, self.now.text, self.length)
        return full.scatter(2, _over_heads(self.now.vision, vision), vision)


def _spread(states: Tensor, rows: Rows, length: int) -> Tensor:
    """(batch, heads, k, d) into zeros (batch, heads, length, d), at `rows`."""
    batch, heads, _, width = states.shape
    full = states.new_zeros(batch, heads, length, width)
    return full.scatter(2, _over_heads(rows, states), states)


def _over_heads(rows: Rows, states: Tensor) -> Tensor:
    return rows.index[:, None, :, None].expand(states.shape)


def cut_rows(states: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (batch, k) of `states` (..., batch or 1, t, d), a broadcast batch filled."""
    batch, count = index.shape
    shape = (*states.shape[:-3], batch, count, states.shape[-1])
    states = states.expand(*states.shape[:-3], batch, *states.shape[-2:])
    return states.gather(-2, index[..., None].expand(shape))


def _cut_keywords(kwargs: dict[str, Any], index: Tensor, length: int) -> dict[str, Any]:
    """The layer's keywords for some rows; one that cannot be cut is refused by name."""
    cut = dict(kwargs)
    if kwargs.get("position_embeddings") is not None:
        cut["position_embeddings"] = tuple(
            cut_rows(part, index) for part in kwargs["position_embeddings"]
        )
    if kwargs.get("position_ids") is not None:
        cut["position_ids"] = cut_rows(kwargs["position_ids"][..., None], index)[..., 0]
    known = {"position_embeddings", "position_ids", "attention_mask", "hidden_states"}
    for name, value in kwargs.items():
        if name not in known and isinstance(value, Tensor) and length in value.shape[1:]:
            raise BridgeError(f"a decoder layer takes '{name}', which cannot be cut to text rows")
    return cut


def _take_queries(mask: Tensor, rows: Rows) -> Tensor:
    batch, count = rows.index.shape
    mask = mask.expand(batch, *mask.shape[1:])
    index = rows.index[:, None, :, None].expand(batch, mask.shape[1], count, mask.shape[3])
    return mask.gather(2, index)


def _cut_mask(
    mask: Tensor | None, states: Tensor, rows: Rows, start: int, keys: Tensor
) -> Tensor | None:
    """The mask of text queries on text keys; None only where causal order says it all."""
    if mask is None:
        if rows.full and bool((keys != UNUSED).all()) and (len(rows) == 1 or start == 0):
            return None
        mask = causal_mask(states, start)
    if mask.shape[-1] != start + states.shape[1]:
        raise BridgeError(
            f"the attention mask covers {mask.shape[-1]} keys of {start + states.shape[1]}; "
            "skipping vision tokens is not supported with sliding or static caches"
        )
    mask = _take_queries(mask, rows)
    index = keys.clamp(min=0)[:, None, None, :].expand(*mask.shape[:3], keys.shape[1])
    mask = mask.gather(3, index)
    unused = (keys == UNUSED)[:, None, None, :]
    if mask.dtype == torch.bool:
        return mask & ~unused
    return mask.masked_fill(unused, torch.finfo(mask.dtype).min)
