"""Which vision tokens token pruning keeps: those the last token attends to most (FastV)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip.pass_state import PassState, PassTracker
from vlm_bridge.skip.patching import Forward
from vlm_bridge.skip.tensors import check_mask, cut_keywords, cut_queries, cut_rows, probabilities

_SCORE = "skipit_score"


class Scored:
    """Layer `after - 1`: it runs as always, then its last query says what is kept.

    The score is the attention of the last token on every vision token, mean over heads. It
    is computed beside the layer, in float32, for that one query only: the layer is called
    again with its last row, with the keys it made, under an attention function of ours that
    takes query and keys and stops. So sdpa and eager models, the plain form and the fast
    one, all choose by the same numbers.

    Args:
        index: of the layer.
        forward: of the layer.
        attention: its attention module, whose configuration says which function it calls.
        tracker: of the passes.
    """

    def __init__(self, index: int, forward: Forward, attention: Any, tracker: PassTracker) -> None:
        self.index, self.forward = index, forward
        self.attention, self.tracker = attention, tracker
        AttentionInterface.register(_SCORE, _stop_with_scores)

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output; the pass knows what is kept afterwards."""
        now = self.tracker.current
        if not now.has_vision:
            return self.forward(hidden_states, **kwargs)
        past, length = kwargs.get("past_key_values"), hidden_states.shape[1]
        start = past.get_seq_length(self.index) if past is not None else 0
        # A static layer counts in a tensor that it changes in place.
        start = start.clone() if isinstance(start, Tensor) else start
        watch = _Watch(past)
        output = self.forward(hidden_states, **{**kwargs, "past_key_values": watch})
        if watch.found is None:
            raise BridgeError(
                f"layer {self.index} hands no keys to its cache, so token pruning has no score"
            )
        keys, values = watch.found
        if kwargs.get("attention_mask") is None and (isinstance(start, Tensor) or start == 0):
            keys = keys[:, :, :length]  # of a static layer's first pass, which no mask closes
        scores = self._scores(hidden_states, (keys, values), kwargs)
        held = scores.shape[1]
        offset = 0 if isinstance(start, Tensor) else max(start + length - held, 0)
        own = torch.arange(length, device=scores.device) + (start - offset)
        now.kept = chosen(scores[:, own].to(now.flags.device), now)
        return output

    def _scores(
        self, states: Tensor, found: tuple[Tensor, Tensor], kwargs: dict[str, Any]
    ) -> Tensor:
        """(batch, keys): attention of the last token, mean over heads."""
        now, mask = self.tracker.current, kwargs.get("attention_mask")
        check_mask(mask, self.index)
        last = now.last.to(states.device)
        cut = cut_keywords(kwargs, last, states.shape[1], now.share)
        cut["attention_mask"] = None if mask is None else cut_queries(mask, last)
        cut["past_key_values"] = _Replay(found)
        config = self.attention.config
        before = config._attn_implementation
        config._attn_implementation = _SCORE
        try:
            self.forward(cut_rows(states, last), **cut)
        except _Scores as scores:
            return scores.mean
        finally:
            config._attn_implementation = before
        raise BridgeError(
            f"layer {self.index} computes its attention past transformers' AttentionInterface, "
            "so token pruning has no score"
        )


def chosen(scores: Tensor, now: PassState) -> Tensor:
    """(batch, t) bool: per sequence the vision positions of highest score, earlier ones first.

    Args:
        scores: (batch, t); only those of vision positions count.
        now: says where vision is and how many of it are kept.
    """
    scores = scores.masked_fill(~now.flags, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    first = torch.arange(scores.shape[1], device=scores.device) < now.quota
    return torch.zeros_like(now.flags).scatter(1, order, first)


class _Watch:
    """The layer's cache, remembering the keys and values that attention sees."""

    def __init__(self, past: Any) -> None:
        self._past = past
        self.found: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kw: Any) -> tuple[Tensor, Tensor]:
        whole = keys, values
        self.found = whole if self._past is None else self._past.update(*whole, *args, **kw)
        return self.found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._past, name)


class _Replay:
    """A cache that answers with keys and values made before."""

    def __init__(self, found: tuple[Tensor, Tensor]) -> None:
        self._found = found

    def update(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self._found


class _Scores(Exception):
    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.mean = mean


def _stop_with_scores(
    _: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    found = probabilities(query, key, attention_mask, scaling, softcap)
    raise _Scores(found[:, :, 0].mean(1))
