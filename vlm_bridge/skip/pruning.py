"""Pruning: where a stage chooses the modality tokens that stay; by attention here."""

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
from vlm_bridge.skip.pass_state import PassState, Rows
from vlm_bridge.skip.patching import Forward, forward_of, twin
from vlm_bridge.skip.selectors import Choose
from vlm_bridge.skip.selectors.raters import Raters, last_token
from vlm_bridge.skip.sublayers import attention_of
from vlm_bridge.skip.thin import with_attention
from vlm_bridge.skip.tracker import PassTracker

_SCORE = "skipit_score"


@dataclass(frozen=True)
class Scored:
    """The layer before a stage of pruning: it runs unchanged, then its attention scores tokens.

    The score of a modality token is the attention of the `raters` on it, mean over heads, in
    float32. The layer is called again on their rows, with the keys it made, and an attention
    function registered here takes queries and keys and interrupts it. So sdpa and eager models,
    plain and fast forms, choose by the same numbers.

    `stage` is the number of the stage. With `cut` the layer gets the rows of text and of the tokens
    that the stage before keeps, else whole sequences, of which the mask hides the other tokens.
    """

    index: int
    tracker: PassTracker
    raters: Raters
    stage: int
    cut: bool
    _forward: Forward
    _scoring: nn.Module

    @classmethod
    def of(
        cls,
        index: int,
        layer: nn.Module,
        tracker: PassTracker,
        raters: Raters = last_token,
        *,
        stage: int = 0,
        cut: bool = False,
    ) -> Scored:
        """The form of `layer`, which is layer `index`."""
        AttentionInterface.register(_SCORE, _interrupt_with_scores)
        return cls(index, tracker, raters, stage, cut, forward_of(layer), _scoring(layer))

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output; sets what the stage keeps in the running pass."""
        now = self.tracker.whole
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
        rows = now.rows("kept", hidden_states.device, self.stage - 1) if self.cut else None
        rated = self._rated(now, rows, hidden_states)
        scores = self._scores(hidden_states, rated, (keys, values), kwargs)
        if rows is None:
            offset = 0 if isinstance(start, Tensor) else max(start + length - scores.shape[1], 0)
            own = torch.arange(length, device=scores.device) + (start - offset)
            scores = scores[:, own]
        else:  # the keys of the rows are the last ones
            nowhere = scores.new_zeros(now.flags.shape)
            scores = nowhere.scatter(1, rows.index, scores[:, scores.shape[1] - length :])
        now.stages[self.stage].flags = chosen(scores.to(now.flags.device), now, self.stage)
        return output

    def _rated(self, now: PassState, rows: Rows | None, states: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of `states` that rate, and their weights, (batch, k) each."""
        if rows is None:
            return self.raters(states, now, self.stage)
        whole = rows.among_zeros(states, now.length)
        places, weights = self.raters(whole, now, self.stage)
        numbers = torch.arange(len(rows), device=states.device).expand_as(rows.index)
        at = torch.zeros(now.flags.shape, dtype=torch.long, device=states.device)
        return at.scatter(1, rows.index, numbers).gather(1, places), weights

    def _scores(
        self,
        states: Tensor,
        rated: tuple[Tensor, Tensor],
        keys_and_values: tuple[Tensor, Tensor],
        kwargs: dict[str, Any],
    ) -> Tensor:
        """(batch, keys): attention of the raters by their weights, mean over heads."""
        now, mask = self.tracker.whole, kwargs.get("attention_mask")
        tensors.check_mask(mask, self.index)
        rows, weights = rated
        cut = tensors.cut_keywords(kwargs, rows, states.shape[1], now.share)
        if mask is not None:
            cut["attention_mask"] = tensors.cut_queries(mask, rows)
        elif getattr(attention_of(self._scoring), "is_causal", True):
            # Guesses of assisted decoding lie behind the last token.
            cut["attention_mask"] = _up_to(rows, states, keys_and_values[0].shape[2])
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
    """The first layer of a stage of pruning; it chooses the tokens that stay from its input."""

    forward: Forward
    tracker: PassTracker
    stage: int
    choose: Choose

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output; sets what the stage keeps in the running pass."""
        now = self.tracker.current
        if now.has_modality:
            now.stages[self.stage].flags = self.choose(hidden_states, now, self.stage)
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


def _up_to(rows: Tensor, states: Tensor, keys: int) -> Tensor:
    """Additive causal mask (batch, 1, k, keys) of the `rows` (batch, k) of `states`.

    The last of the keys are those of `states`.
    """
    places = torch.arange(keys, device=states.device) + (states.shape[1] - keys)
    hidden = places > rows[..., None]
    mask = states.new_zeros(hidden.shape).masked_fill(hidden, torch.finfo(states.dtype).min)
    return mask[:, None]


def chosen(scores: Tensor, now: PassState, stage: int = 0) -> Tensor:
    """(batch, t) bool: as many positions as the stage keeps, of highest score, the earlier first.

    It chooses among those that the stage before keeps.
    """
    scores = scores.masked_fill(~now.open(stage), -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    first = torch.arange(scores.shape[1], device=scores.device) < now.stages[stage].quota
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
