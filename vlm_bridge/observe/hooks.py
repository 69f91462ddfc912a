"""Hidden states and attention of every layer, handed over while the model runs.

Layers are 0-based; state `l` is the input of layer `l`, state `L` the output of the last
layer before the final norm. `output_hidden_states=True` is not used: its last entry comes
after the final norm, and families that add vision features between layers (DeepStack) make
the output of one layer differ from the input of the next.

What is handed over stays on the layer's device, and nothing here reads a value of a tensor,
so that a GPU is never waited for inside a pass.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.tensors import cut_queries, first_of, probabilities, states_of

#: (layer, input states, output states), both (batch, length, width).
OnStates = Callable[[int, Tensor, Tensor], None]
#: (layer, output of layer - 1, input of the layer), both (batch, length, width).
OnInserted = Callable[[int, Tensor, Tensor], None]
#: (layer, attention probabilities (batch, heads, queries, keys), float32).
OnAttention = Callable[[int, Tensor], None]
#: (layer, value vectors (batch, key-value heads, keys, width)), before `OnAttention`.
OnValues = Callable[[int, Tensor], None]
#: Gives the queries to observe on a device, (batch, k) positions, or None for all.
Queries = Callable[[torch.device], Tensor | None]


@contextlib.contextmanager
def capturing_states(
    vlm: VLM, on_states: OnStates, on_inserted: OnInserted | None = None
) -> Iterator[None]:
    """Call `on_states` for every layer of every pass; hooks go away whatever happens.

    `on_inserted` is called before it where the input of a layer is not the very tensor that
    the layer before returned: something may have been added in between.
    """
    hook = _StateHook(on_states, on_inserted)
    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(vlm.layout.layers):
            handle = layer.register_forward_hook(hook.after(index), with_kwargs=True)
            stack.callback(handle.remove)
        yield


class _StateHook:
    def __init__(self, on_states: OnStates, on_inserted: OnInserted | None) -> None:
        self.on_states, self.on_inserted = on_states, on_inserted
        self.previous: Tensor | None = None

    def after(self, index: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            before, after = states_of(args, kwargs), first_of(output)
            previous, self.previous = self.previous, after
            inserted = index > 0 and previous is not None and previous is not before
            # Under a device map accelerate moves the input inside the layer, behind this hook.
            before = before.to(after.device)
            if inserted and self.on_inserted is not None and previous is not None:
                self.on_inserted(index, previous.to(after.device), before)
            self.on_states(index, before, after)

        return hook


@dataclass(frozen=True)
class _Observer:
    """Who watches, which modules are a decoder layer's, and how attention really runs."""

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

    An eager model gives them out. sdpa does not, so they are computed beside it, in float32,
    for the wanted queries only. Any other implementation (flash, flex) runs as sdpa inside.
    The wrapper is registered as attention **and** as mask function: without the second, the
    mask of a left-padded batch would arrive as None. A vision encoder that shares the
    decoder's configuration runs as always and is not observed.

    Args:
        vlm: the model.
        on_attention: called with the layer and (batch, heads, queries, keys).
        queries: which queries to hand over; called once per layer.
        on_values: called with the layer and the vectors that attention averages.

    A layer whose attention does not go through transformers' attention interface is not seen;
    the caller knows which layers to expect.
    """
    config: Any = vlm.layout.text_config
    before = config._attn_implementation
    kind = "eager" if before == "eager" else "sdpa"
    AttentionInterface.register(_OBSERVED[kind], _observed_attention)
    AttentionMaskInterface.register(_OBSERVED[kind], eager_mask if kind == "eager" else sdpa_mask)
    layers = {id(m): i for i, layer in enumerate(vlm.layout.layers) for m in layer.modules()}
    token = _observer.set(_Observer(on_attention, on_values, queries, layers, kind == "eager"))
    # The setter would reach into sub-configurations, whose own setting would be lost.
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
        raise BridgeError("the model is still set to be observed, but nobody observes")
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
            causal = query.shape[2] > 1 and kwargs.get("is_causal", _is_causal(module))
            scale = kwargs.get("scaling")
            now.watch(layer, _probabilities(query, key, attention_mask, scale, rows, causal))
    return output


def _eager_of(module: Any) -> Callable[..., Any]:
    """The eager attention of the file `module` comes from, where its family's details are."""
    found = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if found is None:
        raise BridgeError(f"{type(module).__name__} has no eager attention to observe")
    run: Callable[..., Any] = found
    return run


def _is_causal(module: Any) -> bool:
    return bool(getattr(module, "is_causal", True))


def _probabilities(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scale: float | None,
    rows: Tensor | None,
    causal: bool,
) -> Tensor:
    """What sdpa computes inside, for the queries in `rows` (batch, k) only."""
    n_keys = key.shape[2]
    if mask is None:
        # As sdpa does: with no mask, a query sees itself and all before it, or everything.
        places = torch.arange(query.shape[2], device=query.device)[None] if rows is None else rows
        seen = torch.arange(n_keys, device=query.device) <= places[..., None]
        mask = seen[:, None] if causal else torch.ones_like(seen)[:, None]
    elif rows is not None:
        mask = cut_queries(mask, rows)
    if rows is not None:
        query = cut_queries(query, rows)
    return probabilities(query, key, mask, scale)
