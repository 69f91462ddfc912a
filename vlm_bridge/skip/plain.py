"""The plain form of every mode: compute everything, then undo or hide. Slow, always right.

The fast forms are tested against these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vlm_bridge.layout import Layout
from vlm_bridge.plan import SkipPlan
from vlm_bridge.skip.passes import PassTracker


def install_plain(layout: Layout, plan: SkipPlan, tracker: PassTracker) -> Iterator[Any]:
    """Hook the layers of `plan`; yields every handle to remove."""
    for index in plan.layers:
        hook = _keep_all if plan.mode == "block" else _KeepVision(tracker)
        yield layout.layers[index].register_forward_hook(hook, with_kwargs=True)
    for index in plan.text_only_layers:
        layer = layout.layers[index]
        yield layer.register_forward_pre_hook(_HideVision(tracker, index), with_kwargs=True)
        yield layer.register_forward_hook(_KeepVision(tracker), with_kwargs=True)


def states_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states a decoder layer was called with."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def first_of(output: Any) -> Tensor:
    """The hidden states a decoder layer returned: bare, or first of a tuple (old models)."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


def like(output: Any, states: Tensor) -> Any:
    """`states` in the form the layer returned them."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


def _keep_all(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    return like(output, states_of(args, kwargs))


class _KeepVision:
    """Vision rows keep their input: `where(vision, input, output)`."""

    def __init__(self, tracker: PassTracker) -> None:
        self._tracker = tracker

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        vision = self._tracker.current.flags[..., None]
        return like(output, torch.where(vision, states_of(args, kwargs), first_of(output)))


class _HideVision:
    """Text queries do not see vision keys; vision queries see what they saw (and are undone)."""

    def __init__(self, tracker: PassTracker, index: int) -> None:
        self._tracker = tracker
        self._index = index

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache = kwargs.get("past_key_values")
        keys = self._tracker.key_flags(cache)
        if not keys.any():
            return None
        states = states_of(args, kwargs)
        mask = kwargs.get("attention_mask")
        if mask is None:
            past = keys.shape[1] - states.shape[1]
            mask = causal_mask(states, past)
        hidden = (keys[:, None, :] & ~self._tracker.current.flags[:, :, None])[:, None]
        if mask.dtype == torch.bool:
            mask = mask & ~hidden
        else:
            mask = mask.masked_fill(hidden, torch.finfo(mask.dtype).min)
        return args, {**kwargs, "attention_mask": mask}


def causal_mask(states: Tensor, past: int) -> Tensor:
    """Additive (1, 1, length, past + length) mask: a query sees itself and all before it."""
    length = states.shape[1]
    queries = torch.arange(past, past + length, device=states.device)
    keys = torch.arange(past + length, device=states.device)
    blocked = keys[None, :] > queries[:, None]
    mask = states.new_zeros(length, past + length)
    return mask.masked_fill(blocked, torch.finfo(states.dtype).min)[None, None]
