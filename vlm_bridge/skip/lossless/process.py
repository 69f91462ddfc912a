"""Scores of the next token: logits as the generation settings alter them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlm_bridge.skip.lossless.batch import GrowingBatch


class Process:
    """What the generation settings make of logits, by the row's own tokens."""

    def __init__(self, batch: GrowingBatch, processors: Any) -> None:
        self._batch, self._processors = batch, processors

    def __call__(self, logits: Tensor, drafted: Tensor) -> Tensor:
        """(batch, vocabulary) scores behind `drafted` (batch, i) tokens."""
        scores = logits.to(dtype=torch.float32, device=drafted.device, copy=True)
        if not len(self._processors):
            return scores
        lengths = torch.tensor(self._batch.lengths, device=scores.device)
        processed = scores.clone()
        for length in set(self._batch.lengths):
            # Some processors know the row by its place in the batch, so that all rows go in.
            ids = torch.cat([self._batch.last_ids(length), drafted], 1)
            of_these = (lengths == length)[:, None]
            processed = torch.where(of_these, self._processors(ids, scores.clone()), processed)
        return processed
