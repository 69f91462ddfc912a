"""Unified Layer Skipping at run time: layers that only decoding skips."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.unified import UnifiedMethod
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping
from vlm_bridge.skip.patching import Forward, by_name, forward_of, patched
from vlm_bridge.skip.sublayers import returns_tuple


@contextlib.contextmanager
def decoding_through(vlm: VLM, method: UnifiedMethod, plan: SkipPlan | None) -> Iterator[None]:
    """Decoding runs the layers `method.kept` alone; every other pass runs all layers.

    Decoding is a pass of one token per sequence after a filled cache.
    """
    n = vlm.layout.n_layers
    kept = method.kept(n)
    skipped = tuple(sorted(set(range(n)) - set(kept)))
    check_support(vlm, SkipPlan("block", n, layers=skipped))
    with contextlib.ExitStack() as stack:
        # A plan that skips nothing: the skip runtime tracks the passes and guards the model.
        tracker = stack.enter_context(skipping(vlm, SkipPlan("block", n)))
        for index in skipped:
            layer = vlm.layout.layers[index]
            below = max(k for k in kept if k < index)
            form = partial(_skip_in_decoding, index, below, forward_of(layer))
            as_tuple = returns_tuple(layer, tracker.width)
            stack.enter_context(patched(layer, by_name(layer, form, as_tuple=as_tuple)))
        yield


def _skip_in_decoding(
    index: int, below: int, forward: Forward, hidden_states: Tensor, **others: Any
) -> Any:
    """The layer's output; in decoding its input, with the cache entries of layer `below`."""
    cache: Any = others.get("past_key_values")
    decodes = cache is not None and hidden_states.shape[1] == 1 and _length(cache, index) > 0
    if not decodes:
        return forward(hidden_states=hidden_states, **others)
    cache.update(*_newest(cache, below, index), index)
    return hidden_states


def _length(cache: Any, index: int) -> int:
    """Positions that layer `index` has cached."""
    return int(cache.get_seq_length(index))


def _newest(cache: Any, below: int, index: int) -> tuple[Tensor, Tensor]:
    """Key and value (batch, heads, 1, width) of the newest position in layer `below`."""
    layer = cache.layers[below]
    end = min(_length(cache, below), layer.keys.shape[-2])
    keys, values = layer.keys[..., end - 1 : end, :], layer.values[..., end - 1 : end, :]
    own = cache.layers[index].keys
    if own.shape[1] != keys.shape[1] or own.shape[-1] != keys.shape[-1]:
        raise BridgeError(
            f"layer {index} caches keys of shape {tuple(own.shape[1::2])}, layer {below} of "
            f"{tuple(keys.shape[1::2])}: unified cannot copy one to the other"
        )
    return keys, values
