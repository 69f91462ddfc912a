"""Tokens per second over whole answers, of the full and of the skipped model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from estimators import Estimate
from estimators.clustered import clustered_ratio
from estimators.record import Record
from vlm_bridge.evaluate.paired import PairedAnswers

#: Fewest batches that give an interval: the first warms up, and two have a spread.
FEWEST = 3


@dataclass(frozen=True)
class AnswerSpeed(Record):
    """How fast both models answer, prefill included; intervals are over batches of images.

    Attributes:
        n_batches: timed ones: all but the first, which warms up.
        tokens_full, tokens_skipped: tokens of the answers in them, their ends included.
        full, skipped: tokens per second.
        seconds_ratio: seconds for the same questions, skipped / full. Answers of other lengths
            take other times.
    """

    n_batches: int
    tokens_full: int
    tokens_skipped: int
    full: Estimate
    skipped: Estimate
    seconds_ratio: Estimate

    @classmethod
    def of(cls, said: PairedAnswers) -> AnswerSpeed | None:
        """The speed of all batches but the first; None of fewer than three, without interval."""
        if len(said.batch_sizes) < FEWEST:
            return None
        tokens = [_by_batch(each.n_tokens, said.batch_sizes) for each in (said.full, said.skipped)]
        seconds = [each.seconds[1:] for each in (said.full, said.skipped)]
        units = [str(number) for number in range(len(seconds[0]))]
        full, skipped = (
            clustered_ratio(t, s, units, unit="tokens/s")
            for t, s in zip(tokens, seconds, strict=True)
        )
        return cls(
            n_batches=len(units),
            tokens_full=sum(tokens[0]),
            tokens_skipped=sum(tokens[1]),
            full=full,
            skipped=skipped,
            seconds_ratio=clustered_ratio(seconds[1], seconds[0], units),
        )

    def sentence(self) -> str:
        """Both speeds and the ratio of times, in one line."""
        doubt = self.seconds_ratio.reason
        return (
            f"whole answers: full {_rate(self.full)}, skipped {_rate(self.skipped)} tokens/s; "
            f"seconds skipped/full {_rate(self.seconds_ratio)} ({self.n_batches} batches"
            f"{f'; not reliable: {doubt}' if doubt else ''})"
        )


def _by_batch(values: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Sums over all batches but the first."""
    ends = list(accumulate(sizes))
    return [int(np.sum(values[start:end])) for start, end in pairwise(ends)]


def _rate(rate: Estimate) -> str:
    low, high = rate.interval
    return f"{rate.value:.3g} ({low:.3g} to {high:.3g})"
