"""The fast form of every mode, which does not compute skipped parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.skip.both_ways import BothWays
from vlm_bridge.skip.cache import placeholder
from vlm_bridge.skip.patching import Forward, by_name, forward_of, observed
from vlm_bridge.skip.rows import OnRows
from vlm_bridge.skip.sublayers import (
    Sublayers,
    attention_of,
    idle_norms,
    no_attention,
    no_mlp,
    returns_tuple,
    unchanged,
    wants_weights,
)
from vlm_bridge.skip.text_rows import TextMLP, TextQueries
from vlm_bridge.skip.thin import Halves
from vlm_bridge.skip.tracker import PassTracker
from vlm_bridge.skip.whole import PassBy


def fast_forwards(
    index: int,
    layer: nn.Module,
    operation: Operation,
    tracker: PassTracker,
    scored: Forward | None = None,
) -> Iterator[tuple[nn.Module, Forward]]:
    """(module, replacement of its forward) for the modules that `operation` changes.

    `scored` takes the place of the layer's own forward, if its attention gives scores.
    """
    if operation == Operation() and scored is None:
        return
    config = tracker.layout.text_config
    width = tracker.width
    as_tuple = returns_tuple(layer, width)
    if operation.bypass and not tracker.layout.attends(index):
        kind = tracker.layout.attention_types[index]
        yield layer, by_name(layer, PassBy(index, kind), as_tuple=as_tuple)
        return
    if operation.bypass:
        attention = attention_of(layer)
        yield attention, by_name(attention, partial(no_attention, index, config))
        yield layer, by_name(layer, Bypass(index, attention, config), as_tuple=as_tuple)
        return
    if not operation.attention:
        attention = Sublayers.of(layer).attention
        yield attention, by_name(attention, partial(no_attention, index, config))
    if not operation.mlp:
        yield Sublayers.of(layer).mlp, no_mlp
    for norm in idle_norms(layer, width, attention=operation.attention, mlp=operation.mlp):
        if not observed(norm):
            yield norm, unchanged
    forward = scored or forward_of(layer)
    if operation.freeze:
        halves = Halves(layer)
        yield from halves.replacements
        forward = TextQueries(index, forward, halves, tracker)
    elif operation.of_modality:
        yield from _of_text(index, layer, operation, tracker)
    if operation.tokens != "all":
        forward = OnRows(index, forward, tracker, operation)
    if operation.of_modality or operation.tokens != "all":
        forward = BothWays.where_needed(index, layer, forward)
    if operation.of_modality or operation.tokens != "all" or scored:
        yield layer, by_name(layer, forward, as_tuple=as_tuple)


def _of_text(
    index: int, layer: nn.Module, operation: Operation, tracker: PassTracker
) -> Iterator[tuple[nn.Module, Forward]]:
    """The attention or the MLP of a layer, whichever runs on text alone."""
    parts = Sublayers.of(layer)
    if operation.attention and not operation.modality_attention:
        halves = Halves(layer, alone=True)
        yield from halves.replacements
        forward = forward_of(parts.attention)
        on_text = TextQueries(index, forward, halves, tracker, alone=True)
        yield parts.attention, by_name(parts.attention, on_text)
    if operation.mlp and not operation.modality_mlp:
        yield parts.mlp, TextMLP(forward_of(parts.mlp), tracker)


@dataclass(frozen=True)
class Bypass:
    """The identity; a zero placeholder in the cache keeps its length right.

    The attention, which returns zeros then, is called only to show its weights to who collects
    them, so that entry `l` of the model's attentions is layer `l`.
    """

    index: int
    attention: nn.Module
    config: Any

    def __call__(self, hidden_states: Tensor, past_key_values: Any = None, **options: Any) -> Any:
        """The hidden states."""
        if wants_weights(self.config, options):
            self.attention(hidden_states=hidden_states, past_key_values=past_key_values, **options)
        elif past_key_values is not None:
            filler = placeholder(past_key_values, self.index, hidden_states)
            past_key_values.update(*filler, self.index)
        return hidden_states
