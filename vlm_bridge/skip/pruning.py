"""Token pruning: where the modality tokens that stay are chosen; by attention here."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip import tensors
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.patching import Forward, forward_of
from vlm_bridge.skip.selectors import Choose
from vlm_bridge.skip.selectors.raters import Raters, last_token
from vlm_bridge.skip.sublayers import attention_of
from vlm_bridge.skip.thin import twin, with_attention
from vlm_bridge.skip.tracker import PassTracker

_SCORE = "skipit_score"


@dataclass(frozen=True)
class Scored:
    """Layer `after - 1` of token pruning: it runs unchanged, then its attention scores tokens.

    The score of a modality token is the attention of the `raters` on it, mean over heads, in
    float32. The layer is called again on their rows, with the keys it made, and an attention
    function registered here takes queries and keys and interrupts it. So sdpa and eager models,
    plain and fast forms, choose by the same numbers.
    """

    index: int
    tracker: PassTracker
    raters: Raters
    _forward: Forward
    _scoring: nn.Module

    @classmethod
    def of(
        cls, index: int, layer: nn.Module, tracker: PassTracker, raters: Raters = last_token
    ) -> Scored:
        """The form of `layer`, which is layer `index`."""
        AttentionInterface.register(_SCORE, _interrupt_with_scores)
        return cls(index, tracker, raters, forward_of(layer), _scoring(layer))

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output; sets `kept_flags` of the current pass."""
        now = self.tracker.current
        if not now.has_modality:
            return self._forward(hidden_states, **kwargs)
        past, length = kwargs.get("past_key_values"), hidden_states.shape[1]
        start = past.get_seq_length(self.index) if past is not None else 0
        # A static layer counts in a tensor that it changes in place.
        start = start.clone() if isinstance(start, Tensor) else start
        watch = _Watch(past)
        output = self._forward(hidden_states, **{**kwargs, "past_key_values": watch})
        if watch.result is None:
            raise BridgeError(
                f"layer {self.index} passes no keys to its cache, so token pruning has no score"
            )
        keys, values = watch.result
        if kwargs.get("attention_mask") is None and (isinstance(start, Tensor) or start == 0):
            keys = keys[:, :, :length]  # of a static layer's first pass, which no mask closes
        scores = self._scores(hidden_states, (keys, values), kwargs)
        offset = 0 if isinstance(start, Tensor) else max(start + length - scores.shape[1], 0)
        own = torch.arange(length, device=scores.device) + (start - offset)
        now.kept_flags = chosen(scores[:, own].to(now.flags.device), now)
        return output

    def _scores(
        self, states: Tensor, keys_and_values: tuple[Tensor, Tensor], kwargs: dict[str, Any]
    ) -> Tensor:
        """(batch, keys): attention of the raters by their weights, mean over heads."""
        now, mask = self.tracker.current, kwargs.get("attention_mask")
        tensors.check_mask(mask, self.index)
        rows, weights = self.raters(states, now)
        cut = tensors.cut_keywords(kwargs, rows, states.shape[1], now.share)
        if mask is None:  # every row sees itself and all before it
            keys = keys_and_values[0].shape[2]
            seen = torch.arange(keys, device=states.device) + (states.shape[1] - keys)
            cut["attention_mask"] = (seen <= rows[..., None])[:, None]
        else:
            cut["attention_mask"] = tensors.cut_queries(mask, rows)
        cut["past_key_values"] = SimpleNamespace(update=lambda *_, **__: keys_and_values)
        try:
            self._scoring.forward(tensors.cut_rows(states, rows), **cut)
        except tensors.Interrupt as stopped:
            (scores,) = stopped.tensors
            return torch.einsum("bqk,bq->bk", scores, weights.to(scores))
        raise BridgeError(
            f"layer {self.index} computes its attention without transformers' AttentionInterface, "
            "so token pruning has no score"
        )


@dataclass(frozen=True)
class Selecting:
    """The first layer that token pruning runs on some tokens; it chooses them from its input."""

    forward: Forward
    tracker: PassTracker
    choose: Choose

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output; sets `kept_flags` of the current pass."""
        now = self.tracker.current
        if now.has_modality:
            now.kept_flags = self.choose(hidden_states, now).to(now.flags.device)
        return self.forward(hidden_states, **kwargs)


def _scoring(layer: nn.Module) -> nn.Module:
    """The layer with an attention function of our own; it shares all weights.

    The layer itself stays as it is, for other threads that run it.
    """
    inner = twin(attention_of(layer))
    config: Any = copy.copy(inner.config)
    config._attn_implementation_internal = _SCORE
    inner.config = config
    return with_attention(layer, inner)


def chosen(scores: Tensor, now: PassState) -> Tensor:
    """(batch, t) bool: the `now.quota` positions of highest score, the earlier of equals."""
    scores = scores.masked_fill(~now.flags, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    first = torch.arange(scores.shape[1], device=scores.device) < now.quota
    return torch.zeros_like(now.flags).scatter(1, order, first)


class _Watch:
    """The layer's cache; it records the keys and values that attention gets."""

    def __init__(self, past: Any) -> None:
        self._past = past
        self.result: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kw: Any) -> tuple[Tensor, Tensor]:
        whole = keys, values
        self.result = whole if self._past is None else self._past.update(*whole, *args, **kw)
        return self.result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._past, name)


def _interrupt_with_scores(
    _: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    scaling, softcap = options.get("scaling"), options.get("softcap")
    scores = tensors.probabilities(query, key, attention_mask, scaling, softcap)
    raise tensors.Interrupt(scores.mean(1))
