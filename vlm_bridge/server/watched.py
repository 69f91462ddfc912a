"""Follow the tokens of a batch as they are generated: send pieces, and end rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import end_ids
from vlm_bridge.model.vlm import VLM
from vlm_bridge.server.growing_text import GrowingText
from vlm_bridge.server.job import Failure, Job, Piece


class Watched(StoppingCriteria):
    """Called by `generate` after every token of a batch: the rows whose jobs are over end.

    Attributes:
        steps: tokens that each row has got so far, padding behind its end included.
        texts: of each row that is streamed.
    """

    def __init__(self, vlm: VLM, jobs: Sequence[Job]) -> None:
        self.steps = 0
        self.texts = {
            row: GrowingText(vlm.tokenizer)
            for row, job in enumerate(jobs)
            if job.request.stream and not job.has_told
        }
        self._jobs, self._ends = jobs, set(end_ids(vlm))
        self._growing = set(self.texts)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """(rows,) whether each row ends here."""
        self.steps += 1
        if self._growing:
            for row, token in enumerate(input_ids[:, -1].tolist()):
                if row in self._growing:
                    self._grow(row, token)
        over = [job.is_over for job in self._jobs]
        return torch.tensor(over, device=input_ids.device)

    def _grow(self, row: int, token: int) -> None:
        job = self._jobs[row]
        if token in self._ends or job.is_over:
            self._growing.discard(row)
            return
        try:
            piece = self.texts[row].add(token)
        except BridgeError as error:
            job.say(Failure(str(error), 500))
            return
        if piece:
            job.say(Piece(piece))

    def finish(self, row: int, whole: str) -> None:
        """Send what is missing of the answer of a row that is streamed."""
        text = self.texts.get(row)
        job = self._jobs[row]
        if text is None or job.is_over:
            return
        try:
            piece = text.rest(whole)
        except BridgeError as error:
            job.say(Failure(str(error), 500))
            return
        if piece:
            job.say(Piece(piece))
