"""Hidden states and attention mass of every layer, handed over while the model runs.

Layers are 0-based; state `l` is the input of layer `l`, state `L` the output of the last
layer before the final norm. `output_hidden_states=True` is not used: its last entry comes
after the final norm, and families that add vision features between layers make the output
of one layer differ from the input of the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vlm_bridge.skip.plain import causal_mask, first_of, states_of
from vlm_bridge.vlm import VLM

#: (layer, input states, output states), both (batch, length, width).
OnStates = Callable[[int, Tensor, Tensor], None]
#: (layer, attention probabilities (batch, heads, queries, keys)).
OnAttention = Callable[[int, Tensor], None]

_OBSERVED = "skipit_observed"
_observer: ContextVar[OnAttention | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def capturing_states(vlm: VLM, on_states: OnStates) -> Iterator[None]:
    """Call `on_states` for every layer of every pass; hooks go away whatever happens."""

    def hook(index: int) -> Callable[..., None]:
        def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            on_states(index, states_of(args, kwargs), first_of(output))

        return after

    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(vlm.layout.layers):
            handle = layer.register_forward_hook(hook(index), with_kwargs=True)
            stack.callback(handle.remove)
        yield


@contextlib.contextmanager
def capturing_attention(vlm: VLM, on_attention: OnAttention) -> Iterator[None]:
    """Call `on_attention` with every decoder layer's attention probabilities.

    sdpa does not give them out, so they are computed beside it, in float32. The wrapper is
    registered as attention **and** as mask function: without the second, the mask of a
    left-padded batch would arrive as None.
    """
    AttentionInterface.register(_OBSERVED, _observed_attention)
    AttentionMaskInterface.register(_OBSERVED, sdpa_mask)
    config: Any = vlm.layout.text_config
    before = config._attn_implementation
    token = _observer.set(on_attention)
    config._attn_implementation = _OBSERVED
    try:
        yield
    finally:
        config._attn_implementation = before
        _observer.reset(token)


def _observed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    watch = _observer.get()
    if watch is not None:
        scaling = kwargs.get("scaling")
        watch(int(module.layer_idx), _probabilities(query, key, attention_mask, scaling))
    output: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return output


def _probabilities(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None
) -> Tensor:
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query.float() @ key.float().transpose(-1, -2)) * scale
    if mask is None:
        past = key.shape[2] - query.shape[2]
        mask = causal_mask(query[:, 0].float(), past)
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    else:
        scores = scores + mask.float()
    return scores.softmax(-1)
