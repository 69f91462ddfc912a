"""Layers of other kinds than self-attention, which a plan can only leave out whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.cache_utils import CacheLayerMixin, DummyLayer, LinearAttentionCacheLayerMixin

from vlm_bridge.errors import first_line
from vlm_bridge.model.kinds import CROSS_ATTENTION, REUSED_KEYS, SHARED_KEYS, modes_of
from vlm_bridge.model.layout import Layout
from vlm_bridge.model.matrices import device_of
from vlm_bridge.plan.modes import named
from vlm_bridge.skip.cache import placeholder
from vlm_bridge.skip.patching import by_name, patched

#: Kinds whose layers, left out, leave nothing in the cache.
_LEAVE_NOTHING = (CROSS_ATTENTION, REUSED_KEYS)
#: Decoder -> why none of its layers can be left out, of the decoders that were tried.
_broken: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class PassBy:
    """The identity; what the cache keeps of the layer stands for its place only."""

    index: int
    kind: str

    def __call__(self, hidden_states: Tensor, past_key_values: Any = None, **_: Any) -> Tensor:
        """The hidden states."""
        if past_key_values is not None and self.kind not in _LEAVE_NOTHING:
            hold_place(past_key_values, self.index, hidden_states)
        return hidden_states


def hold_place(cache: Any, index: int, states: Tensor) -> None:
    """Fill a cache layer that nobody reads, so that its length and its state count as present.

    A model asks its last recurrent layer whether a pass has gone before, and any attention for the
    length. Keys are zeros; a state is one channel of zeros, which beams and crops can move.
    """
    if index >= len(cache.layers):
        return
    layer = cache.layers[index]
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        zeros = states.new_zeros(len(states), 1, states.shape[1])
        for number in range(layer.number_of_states):
            layer.update_conv_state(zeros, number, conv_kernel_size=1)
    if isinstance(layer, CacheLayerMixin) and not isinstance(layer, DummyLayer):
        cache.update(*placeholder(cache, index, states), index)


def reason_of_kinds(layout: Layout, mode: str, layers: Iterable[int]) -> str:
    """Why layers of these kinds cannot be skipped in a mode, empty if they can."""
    kinds = layout.attention_types
    able = [index for index, kind in enumerate(kinds) if mode in modes_of(kind)]
    for index in layers:
        if index in able:
            continue
        where = f"layer {index} ({type(layout.layers[index]).__name__}, {kinds[index]})"
        elsewhere = f"{mode} is possible in {named(able)}" if able else f"no layer has {mode}"
        if kinds[index] == SHARED_KEYS:
            return f"{where} makes the keys and values that later layers use; {elsewhere}"
        return f"{where} can only be skipped whole, for all tokens (block); {elsewhere}"
    if all(layout.attends(index) for index in layers):
        return ""
    if layout.decoder not in _broken:
        _broken[layout.decoder] = _tried(layout)
    return _broken[layout.decoder]


@torch.no_grad()
def _tried(layout: Layout) -> str:
    """Why this decoder does not run with layers that return their input, empty if it does.

    It is tried on two tokens, and no layer computes anything.
    """
    width = int(layout.text_config.hidden_size)
    seen: dict[str, set[tuple[int, ...]]] = {}

    def note(hidden_states: Tensor, **others: Any) -> Tensor:
        for name, given in {"hidden_states": hidden_states, **others}.items():
            of_tokens = isinstance(given, Tensor) and given.shape[:2] == (1, 2)
            if name == "hidden_states" or (of_tokens and given.shape[-1] == width):
                seen.setdefault(name, set()).add(tuple(given.shape))
        return hidden_states

    device = device_of(layout.layers[0])
    ids = torch.tensor([[0, 1]], device=device)
    # A mask per query and key, which is taken as it is: making one would read values of tensors,
    # which those on the meta device do not have.
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool, device=device).tril()
    try:
        with contextlib.ExitStack() as stack:
            for layer in layout.layers:
                stack.enter_context(patched(layer, by_name(layer, note)))
            layout.decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    except Exception as error:
        return (
            f"{type(layout.decoder).__name__} does not run if its layers return their hidden "
            f"states alone ({type(error).__name__}: {first_line(error)})"
        )
    if seen.get("hidden_states") != {(1, 2, width)} or any(len(s) > 1 for s in seen.values()):
        shapes = "; ".join(f"{name} {sorted(shapes)}" for name, shapes in sorted(seen.items()))
        return (
            f"{type(layout.decoder).__name__} passes more than one state of every token from layer "
            f"to layer ({shapes}), so that a layer cannot be left out"
        )
    return ""
