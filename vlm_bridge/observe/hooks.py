"""Observe the hidden states and the attention of every layer while the model runs.

Layers are 0-based; state `l` is the input of layer `l`, state `L` the output of the last
layer before the final norm. `output_hidden_states=True` is not used: its last entry comes
after the final norm, and it misses features that are added between layers (DeepStack).

Callbacks get tensors on the layer's device, and no value of a tensor is read here, so the host
never waits for a GPU inside a pass.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.skip.tensors import cut_queries, first_of, probabilities, states_of

#: (layer, input states, output states), both (batch, length, width).
OnStates = Callable[[int, Tensor, Tensor], None]
#: (layer, output of layer - 1, input of the layer), both (batch, length, width).
OnInserted = Callable[[int, Tensor, Tensor], None]
#: (layer, attention probabilities (batch, heads, queries, keys), float32).
OnAttention = Callable[[int, Tensor], None]
#: (layer, value vectors (batch, key-value heads, keys, width)), before `OnAttention`.
OnValues = Callable[[int, Tensor], None]
#: The queries to observe, (batch, k) positions on a device, or None for all.
Queries = Callable[[torch.device], Tensor | None]


@contextlib.contextmanager
def capturing_states(
    vlm: VLM,
    on_states: OnStates,
    on_inserted: OnInserted | None = None,
    *,
    stack: str = DECODER,
) -> Iterator[None]:
    """Call `on_states` for every layer of every pass; the hooks are removed on exit.

    The layers are those of a stack of `vlm.layout.stacks`.

    `on_inserted` is called first where the input of a layer is not the tensor that the layer
    before it returned, since something may have been added in between.
    """
    thread = threading.local()  # passes of several threads may run at once

    def hook(index: int, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        before, after = states_of(args, kwargs), first_of(output)
        last: Tensor | None = getattr(thread, "previous", None)
        thread.previous = after
        inserted = index > 0 and last is not before
        # Under a device map accelerate moves the input inside the layer, after this hook's view.
        before = before.to(after.device)
        if inserted and on_inserted is not None and last is not None:
            on_inserted(index, last.to(after.device), before)
        on_states(index, before, after)

    with contextlib.ExitStack() as handles:
        for index, layer in enumerate(vlm.layout.stack(stack).layers):
            handle = layer.register_forward_hook(partial(hook, index), with_kwargs=True)
            handles.callback(handle.remove)
        yield


@dataclass(frozen=True)
class _Observer:
    """The callbacks, the modules of the decoder's layers, and whether attention runs eagerly."""

    watch: OnAttention
    values: OnValues
    queries: Queries
    layers: dict[int, int]  # id of a module -> its layer
    eager: bool


_observer: ContextVar[_Observer | None] = ContextVar("observer", default=None)
_OBSERVED = {"eager": "skipit_observed_eager", "sdpa": "skipit_observed_sdpa"}


@contextlib.contextmanager
def capturing_attention(
    vlm: VLM,
    on_attention: OnAttention,
    queries: Queries = lambda _: None,
    on_values: OnValues = lambda *_: None,
) -> Iterator[None]:
    """Call `on_attention` with every decoder layer's attention probabilities.

    Eager attention returns them. sdpa does not, so they are computed again, in float32, for the
    observed queries only. Any other implementation (flash, flex) runs as sdpa inside.
    The wrapper is registered as attention **and** as mask function: without the second, the
    mask of a left-padded batch would arrive as None. A layer whose attention does not go through
    transformers' attention interface is not observed; the caller has to check for missing layers.
    """
    config: Any = vlm.layout.text_config
    before = config._attn_implementation
    kind = "eager" if before == "eager" else "sdpa"
    AttentionInterface.register(_OBSERVED[kind], _observed_attention)
    AttentionMaskInterface.register(_OBSERVED[kind], eager_mask if kind == "eager" else sdpa_mask)
    layers = {id(m): i for i, layer in enumerate(vlm.layout.layers) for m in layer.modules()}
    token = _observer.set(_Observer(on_attention, on_values, queries, layers, kind == "eager"))
    # The setter would also overwrite the setting of sub-configurations.
    config._attn_implementation_internal = _OBSERVED[kind]
    try:
        yield
    finally:
        config._attn_implementation_internal = before
        _observer.reset(token)


def _observed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    now = _observer.get()
    if now is None:
        raise BridgeError("the model's attention is observed outside `capturing_attention`")
    run = _eager_of(module) if now.eager else sdpa_attention_forward
    output: tuple[Tensor, Tensor | None] = run(module, query, key, value, attention_mask, **kwargs)
    layer = now.layers.get(id(module))
    if layer is not None:
        now.values(layer, value)
        rows = now.queries(query.device)
        if output[1] is not None:
            weights = output[1] if rows is None else cut_queries(output[1], rows)
            now.watch(layer, weights.float())
        else:
            is_causal = getattr(module, "is_causal", True)
            causal = query.shape[2] > 1 and bool(kwargs.get("is_causal", is_causal))
            scale = kwargs.get("scaling")
            now.watch(layer, _probabilities(query, key, attention_mask, scale, rows, causal))
    return output


def _eager_of(module: Any) -> Callable[..., Any]:
    """The eager attention of the module's family, from the file that defines the module."""
    name = "eager_attention_forward"
    run: Callable[..., Any] | None = getattr(sys.modules[type(module).__module__], name, None)
    if run is None:
        raise BridgeError(f"{type(module).__name__} has no eager attention to observe")
    return run


def _probabilities(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scale: float | None,
    rows: Tensor | None,
    causal: bool,
) -> Tensor:
    """The attention probabilities inside sdpa, for the queries in `rows` (batch, k) only."""
    n_keys = key.shape[2]
    if mask is None:
        # As in sdpa: without a mask, a query sees itself and all before it, or everything.
        places = torch.arange(query.shape[2], device=query.device)[None] if rows is None else rows
        seen = torch.arange(n_keys, device=query.device) <= places[..., None]
        mask = seen[:, None] if causal else torch.ones_like(seen)[:, None]
    elif rows is not None:
        mask = cut_queries(mask, rows)
    if rows is not None:
        query = cut_queries(query, rows)
    return probabilities(query, key, mask, scale)
