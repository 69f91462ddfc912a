"""The fast form of every mode, which does not compute skipped parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.skip.cache import placeholder
from vlm_bridge.skip.freeze import Freeze
from vlm_bridge.skip.pass_state import PassTracker
from vlm_bridge.skip.patching import Forward, by_name, forward_of
from vlm_bridge.skip.rows import OnRows
from vlm_bridge.skip.sublayers import Sublayers, no_attention, no_mlp, returns_tuple


def fast_forwards(
    index: int, layer: nn.Module, operation: Operation, tracker: PassTracker
) -> Iterator[tuple[nn.Module, Forward]]:
    """(module, replacement of its forward) for the modules that `operation` changes."""
    if operation == Operation():
        return
    as_tuple = returns_tuple(layer, tracker.width)
    if operation.bypass:
        yield layer, by_name(layer, partial(_bypass, index), as_tuple=as_tuple)
        return
    if not operation.attention:
        attention = Sublayers.of(layer).attention
        yield attention, by_name(attention, partial(no_attention, index))
    if not operation.mlp:
        yield Sublayers.of(layer).mlp, no_mlp
    forward = forward_of(layer)
    if operation.freeze:
        forward = Freeze(index, forward, tracker)
    if operation.tokens != "all":
        forward = OnRows(index, forward, tracker, operation.tokens, operation.freeze)
    if operation.freeze or operation.tokens != "all":
        yield layer, by_name(layer, forward, as_tuple=as_tuple)


def _bypass(index: int, hidden_states: Tensor, past_key_values: Any = None, **_: Any) -> Tensor:
    """The identity; a zero placeholder in the cache keeps its length right."""
    if past_key_values is not None:
        past_key_values.update(*placeholder(past_key_values, index, hidden_states), index)
    return hidden_states
