"""What lossless generation returns: the tokens, and how many of them were drafted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from estimators.record import Record


@dataclass(frozen=True)
class LosslessTokens(Record):
    """Generated tokens of a batch, with what the draft contributed to each row.

    Attributes:
        tokens: generated token ids of every row, the end of text included, without prompt and
            padding.
        drafted: tokens that were drafted for every row before it ended.
        accepted: drafted tokens that are in its answer.
        rejected: drafted tokens that the full model replaced. Those behind a replaced token, and
            those behind the end of an answer, were not judged: they are in `drafted` alone.
        full_passes: passes of the full model, the prefill and every verification.
        draft_passes: passes of the skipped model, one drafted token of every row each.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("acceptance_rate",)

    tokens: tuple[tuple[int, ...], ...]
    drafted: tuple[int, ...]
    accepted: tuple[int, ...]
    rejected: tuple[int, ...]
    full_passes: int
    draft_passes: int

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted over judged tokens, `accepted / (accepted + rejected)`; None if none was.

        Example:
            >>> LosslessTokens(((5, 7),), (4,), (3,), (1,), 2, 4).acceptance_rate
            0.75
        """
        judged = sum(self.accepted) + sum(self.rejected)
        return sum(self.accepted) / judged if judged else None
