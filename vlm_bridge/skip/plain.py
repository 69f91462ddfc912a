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
from vlm_bridge.skip.pass_state import PassState, PassTracker, pass_states_of
from vlm_bridge.skip.patching import parameters_of
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.tensors import causal, check_mask, first_of, hide, like, states_of


def install_plain(
    index: int, layer: nn.Module, operation: Operation, tracker: PassTracker
) -> Iterator[Any]:
    """Hook one layer; yields the handles to remove."""
    if operation.bypass:
        yield layer.register_forward_hook(_keep_all, with_kwargs=True)
    if not operation.attention:
        yield Sublayers.of(layer).attention.register_forward_hook(_zero)
    if not operation.mlp:
        yield Sublayers.of(layer).mlp.register_forward_hook(_zero)
    if operation.tokens != "all":
        hider = _HideAbsent(tracker, index, operation.tokens)
        yield layer.register_forward_pre_hook(hider, with_kwargs=True)
    if operation.freeze or operation.tokens != "all":
        # Frozen rows in a pruned layer are all vision rows, absent ones included.
        tokens = "text" if operation.freeze else operation.tokens
        yield layer.register_forward_hook(partial(_keep_rows, tracker, tokens), with_kwargs=True)


def _keep_all(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    return like(output, states_of(args, kwargs))


def _zero(_: nn.Module, __: Any, output: Any) -> Any:
    return like(output, torch.zeros_like(first_of(output)))


def _keep_rows(
    tracker: PassTracker, tokens: str, _: nn.Module, args: Any, kwargs: dict[str, Any], output: Any
) -> Any:
    """Absent or frozen rows keep their input: `where(absent, input, output)`."""
    after = first_of(output)
    absent = tracker.current.absent(tokens).to(after.device)[..., None]
    return like(output, torch.where(absent, states_of(args, kwargs).to(after.device), after))


@dataclass(frozen=True)
class _HideAbsent:
    """Present queries do not see absent keys; absent queries run as before and are undone."""

    tracker: PassTracker
    index: int
    tokens: str

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = dict(zip(parameters_of(layer), args, strict=False)) | kwargs
        now, states = self.tracker.current, kwargs["hidden_states"]
        log = [(0, now)]
        if (cache := kwargs.get("past_key_values")) is not None:
            # A cache that the decoder created after the hook ran contains this pass only.
            log = pass_states_of(cache) or log
            pass_states_of(cache)[:] = log
        if not any(state.has_vision for _, state in log):
            return None
        mask = kwargs.get("attention_mask")
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
        absent = now.absent(self.tokens)
        hidden = (flags[:, None, :] & ~absent[:, :, None])[:, None]
        return (), {**kwargs, "attention_mask": hide(mask, hidden.to(mask.device))}

    def _absent_keys(self, log: list[tuple[int, PassState]], length: int) -> Tensor:
        """(batch, length) bool: keys that are absent from this layer, by position."""
        flags = log[-1][1].flags
        keys = flags.new_zeros(len(flags), length)
        for start, state in log:
            if len(state.flags) != len(flags):
                raise BridgeError(
                    f"the batch of this cache went from {len(state.flags)} to {len(flags)}; the "
                    "plain form of a skip cannot follow that, the fast form can"
                )
            end = min(start + state.length, length)
            keys[:, start:end] = state.absent(self.tokens)[:, : end - start]
        return keys
