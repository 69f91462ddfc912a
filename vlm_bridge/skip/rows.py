"""Layers that run on some rows only: text, or text and the modality tokens kept by pruning.

Hidden states keep their full length between layers, so that hooks see whole sequences. The layer
gathers its rows, runs, and scatters them back; other rows keep their value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.skip import tensors
from vlm_bridge.skip.cache import UNUSED, PartialLayer
from vlm_bridge.skip.pass_state import Rows
from vlm_bridge.skip.patching import Forward
from vlm_bridge.skip.tracker import PassTracker


@dataclass(frozen=True)
class OnRows:
    """The layer on the rows that its `operation` leaves, text or text and `kept` tokens.

    Other rows leave no keys.
    """

    index: int
    forward: Forward
    tracker: PassTracker
    operation: Operation

    @property
    def nested(self) -> bool:
        """A part of the layer runs on text alone, and needs a mask and its own pass state."""
        return self.operation.of_modality

    def __call__(self, hidden_states: Tensor, **kwargs: Any) -> Any:
        """The layer's output at full length."""
        now, past = self.tracker.current, kwargs.get("past_key_values")
        tensors.check_mask(kwargs.get("attention_mask"), self.index)
        store = PartialLayer.take_over(past, self.index) if past is not None else None
        length = hidden_states.shape[1]
        tokens, stage = self.operation.tokens, self.operation.stage
        rows = now.rows(tokens, hidden_states.device, stage) if now.has_modality else None
        if rows is not None and len(rows) == 0:  # a chunk of modality tokens only
            if store is not None:
                store.advance(length)
            return hidden_states
        mask = self._mask(hidden_states, rows, store, kwargs.get("attention_mask"))
        if rows is None:
            return self.forward(hidden_states, **{**kwargs, "attention_mask": mask})
        cut = tensors.cut_keywords(kwargs, rows.index, length, now.share)
        cut["attention_mask"] = mask
        states = rows.gather(hidden_states)
        if self.nested:
            inner = now.within_kept(stage)
            output = self.tracker.within(inner, lambda: self.forward(states, **cut))
        else:
            output = self.forward(states, **cut)
        return tensors.like(output, rows.scatter(hidden_states, tensors.first_of(output)))

    def _mask(
        self, states: Tensor, rows: Rows | None, store: PartialLayer | None, mask: Tensor | None
    ) -> Tensor | None:
        """The mask of the rows on the held keys; None only if it would be causal."""
        now, (batch, length, _) = self.tracker.current, states.shape
        start = store.seen if store is not None else 0
        queries = keys = now.share(_positions, rows, start, batch, length, states.device)
        full = rows is None or rows.full
        if store is not None:
            if store.positions is not None:
                keys = now.share(_joined, store.positions, queries)
                full = full and store.full
            store.expect(keys, length, full)
        if mask is not None:
            offset = max(start + length - mask.shape[-1], 0)
            return now.share(_cut, mask, rows, keys, offset, full)
        if full and not self.nested and (queries.shape[1] == 1 or start == 0):
            return None
        return now.share(_causal, queries, keys, states.dtype)


def _positions(
    rows: Rows | None, start: int, batch: int, length: int, device: torch.device
) -> Tensor:
    if rows is None:
        return torch.arange(start, start + length, device=device).expand(batch, -1)
    return rows.index + start if rows.full else torch.where(rows.valid, rows.index + start, UNUSED)


def _joined(before: Tensor, now: Tensor) -> Tensor:
    return torch.cat([before, now], dim=1)


def _cut(mask: Tensor, rows: Rows | None, keys: Tensor, offset: int, full: bool) -> Tensor:
    """Rows of a mask whose first column is position `offset`, at the columns of `keys`."""
    mask = mask.expand(len(keys), *mask.shape[1:])
    if rows is not None:
        mask = tensors.cut_queries(mask, rows.index)
    columns = (keys - offset).clamp(min=0)[:, None, None, :]
    mask = mask.gather(3, columns.expand(*mask.shape[:3], -1))
    if full and offset == 0:
        return mask
    return tensors.hide(mask, (keys < offset)[:, None, None, :])


def _causal(queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask of queries on keys, both given by position."""
    seen = (keys[:, None, :] <= queries[:, :, None]) & (keys != UNUSED)[:, None, :]
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]
