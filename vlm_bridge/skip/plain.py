"""The plain form of every mode: compute everything, then undo or hide. Slow, always right.

The fast forms are tested against these.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Hook one layer; yields every handle to remove."""
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
        # Frozen vision covers the absent: what is frozen in a pruned layer is all vision.
        tokens = "text" if operation.freeze else operation.tokens
        yield layer.register_forward_hook(_KeepRows(tracker, tokens), with_kwargs=True)


def _keep_all(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    return like(output, states_of(args, kwargs))


def _zero(_: nn.Module, __: Any, output: Any) -> Any:
    return like(output, torch.zeros_like(first_of(output)))


class _KeepRows:
    """Rows that are absent (or frozen) keep their input: `where(absent, input, output)`."""

    def __init__(self, tracker: PassTracker, tokens: str) -> None:
        self._tracker, self._tokens = tracker, tokens

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        after = first_of(output)
        absent = self._tracker.current.absent(self._tokens).to(after.device)[..., None]
        return like(output, torch.where(absent, states_of(args, kwargs).to(after.device), after))


class _HideAbsent:
    """Queries that exist do not see absent keys; absent ones see what they saw (and are undone)."""

    def __init__(self, tracker: PassTracker, index: int, tokens: str) -> None:
        self._tracker, self._index, self._tokens = tracker, index, tokens

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = dict(zip(parameters_of(layer), args, strict=False)) | kwargs
        now, states = self._tracker.current, kwargs["hidden_states"]
        log = [(0, now)]
        if (cache := kwargs.get("past_key_values")) is not None:
            # A cache the decoder made itself, after the hook ran, has seen this pass only.
            log = pass_states_of(cache) or log
            pass_states_of(cache)[:] = log
        if not any(one.has_vision for _, one in log):
            return None
        mask = kwargs.get("attention_mask")
        check_mask(mask, self._index)
        start = log[-1][0]
        if mask is None:
            keys = now.length
            if cache is not None:
                keys, _ = cache.get_mask_sizes(now.length, self._index)
            mask = causal(now.length, start, keys, states.dtype, states.device)
        flags = self._absent_keys(log, start + now.length)
        # Columns of the mask: a sliding layer's begin late, a static layer's end late.
        offset = max(start + now.length - mask.shape[-1], 0)
        flags = pad(flags[:, offset:], (0, mask.shape[-1] - flags.shape[1] + offset))
        absent = now.absent(self._tokens)
        hidden = (flags[:, None, :] & ~absent[:, :, None])[:, None]
        return (), {**kwargs, "attention_mask": hide(mask, hidden.to(mask.device))}

    def _absent_keys(self, log: list[tuple[int, PassState]], length: int) -> Tensor:
        """(batch, length) bool: keys that do not exist in this layer, by position."""
        flags = log[-1][1].flags
        keys = flags.new_zeros(len(flags), length)
        for start, one in log:
            if len(one.flags) != len(flags):
                raise BridgeError(
                    f"the batch of this cache went from {len(one.flags)} to {len(flags)}; the "
                    "plain form of a skip cannot follow that, the fast form can"
                )
            end = min(start + one.length, length)
            keys[:, start:end] = one.absent(self._tokens)[:, : end - start]
        return keys
