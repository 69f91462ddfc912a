"""The plain form of every mode: it computes everything, then undoes or hides skipped parts.

It is slow, and the specification against which the fast form is tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.skip.both_ways import BothWays
from vlm_bridge.skip.pass_state import PassState, pass_states_of
from vlm_bridge.skip.patching import Forward, by_name, forward_of
from vlm_bridge.skip.sublayers import Sublayers, attention_of
from vlm_bridge.skip.tensors import causal, check_mask, first_of, hide, like, without_rows, zeroed
from vlm_bridge.skip.tracker import PassTracker


def plain_forwards(
    index: int,
    layer: nn.Module,
    operation: Operation,
    tracker: PassTracker,
    scored: Forward | None = None,
) -> Iterator[tuple[nn.Module, Forward]]:
    """(module, replacement of its forward) for the modules that `operation` changes.

    `scored` takes the place of the layer's own forward, if its attention gives scores.
    Hooks and collected states see what a layer returns in the end, as in the fast form.
    """
    if operation == Operation() and scored is None:
        return
    if (operation.bypass and tracker.layout.attends(index)) or not operation.attention:
        attention = attention_of(layer)
        yield attention, partial(zeroed, forward_of(attention))
    if not operation.mlp:
        mlp = Sublayers.of(layer).mlp
        yield mlp, partial(zeroed, forward_of(mlp))
    if operation.of_modality and not operation.freeze:
        parts = Sublayers.of(layer)
        part = parts.mlp if operation.modality_attention else parts.attention
        if operation.mlp if part is parts.mlp else operation.attention:
            yield part, _ZeroModality(forward_of(part), tracker)
    forward = scored or forward_of(layer)
    stage = operation.stage
    if operation.tokens != "all":
        hiding = HideAbsent(forward, tracker, index, operation.tokens, stage)
        forward = BothWays.where_needed(index, layer, hiding)
    if operation.freeze or operation.tokens != "all":
        # Frozen rows in a pruned layer are all modality rows, absent ones included.
        kept = "text" if operation.freeze else operation.tokens
        forward = _KeepRows(forward, tracker, kept, stage)
    if operation.bypass:
        forward = partial(_keep_all, forward)
    yield layer, by_name(layer, forward)


def _keep_all(forward: Forward, hidden_states: Tensor, **kwargs: Any) -> Any:
    return like(forward(hidden_states, **kwargs), hidden_states)


@dataclass(frozen=True)
class _ZeroModality:
    """A sublayer whose update of modality rows is zero."""

    forward: Forward
    tracker: PassTracker

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return without_rows(self.forward(*args, **kwargs), self.tracker.current.flags)


@dataclass(frozen=True)
class _KeepRows:
    """Absent or frozen rows keep their input: `where(absent, input, output)`."""

    forward: Forward
    tracker: PassTracker
    tokens: str
    stage: int

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        output = self.forward(hidden_states, **kwargs)
        after = first_of(output)
        absent = self.tracker.current.absent(self.tokens, self.stage).to(after.device)[..., None]
        return like(output, torch.where(absent, hidden_states.to(after.device), after))


@dataclass(frozen=True)
class HideAbsent:
    """Present queries do not see absent keys; absent queries run as before and are undone."""

    forward: Forward
    tracker: PassTracker
    index: int
    tokens: str
    stage: int

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output."""
        mask = self._mask(hidden_states, kwargs.get("past_key_values"), kwargs)
        return self.forward(hidden_states, **{**kwargs, "attention_mask": mask})

    def _mask(self, states: Tensor, cache: Any, kwargs: dict[str, Any]) -> Tensor | None:
        now, mask = self.tracker.current, kwargs.get("attention_mask")
        log = [(0, now)]
        if cache is not None:
            # A cache that the decoder created after the pass began contains this pass only.
            log = pass_states_of(cache) or log
            pass_states_of(cache)[:] = log
        if not any(state.has_modality for _, state in log):
            return mask
        check_mask(mask, self.index)
        start = log[-1][0]
        if mask is None:
            keys = now.length
            if cache is not None:
                keys, _ = cache.get_mask_sizes(now.length, self.index)
            mask = causal(now.length, start, keys, states.dtype, states.device)
        flags = self._absent_keys(log, start + now.length)
        # Columns of the mask: a sliding layer's begin late, a static layer's end late.
        offset = max(start + now.length - mask.shape[-1], 0)
        flags = pad(flags[:, offset:], (0, mask.shape[-1] - flags.shape[1] + offset))
        absent = now.absent(self.tokens, self.stage)
        hidden = (flags[:, None, :] & ~absent[:, :, None])[:, None]
        return hide(mask, hidden.to(mask.device))

    def _absent_keys(self, log: list[tuple[int, PassState]], length: int) -> Tensor:
        """(batch, length) bool: keys that are absent from this layer, by position."""
        flags = log[-1][1].flags
        keys = flags.new_zeros(len(flags), length)
        for start, state in log:
            if len(state.flags) != len(flags):
                raise BridgeError(
                    f"the batch of this cache went from {len(state.flags)} to {len(flags)}, which "
                    "a knockout and the plain form of a skip cannot follow; repeat the inputs, not "
                    "the cache (the fast form of a skip can follow)"
                )
            end = min(start + state.length, length)
            keys[:, start:end] = state.absent(self.tokens, self.stage)[:, : end - start]
        return keys
