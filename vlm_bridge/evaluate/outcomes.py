"""Full and skipped model on the same questions, question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.evaluate.answers import is_correct


@dataclass(frozen=True)
class Outcomes:
    """Both models' results on every question."""

    items: tuple[Item, ...]
    disagree: tuple[float, ...]  # 1.0 where the two answers differ, else 0.0
    correct_full: tuple[float, ...] | None  # 1.0 where right; None if a label is missing
    correct_skipped: tuple[float, ...] | None
    kl_full_skipped: tuple[float, ...] | None  # KL(full || skipped) of the first token, nats
    kl_skipped_full: tuple[float, ...] | None  # KL(skipped || full); None for texts alone

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        full: tuple[Sequence[str], Tensor],
        skipped: tuple[Sequence[str], Tensor],
        judge: Callable[[str, Item], bool | None] = is_correct,
    ) -> Outcomes:
        """Outcomes from both models' answers and (n, vocabulary) log-probabilities.

        `judge` returns whether an answer to an item is right, None without a label.
        """
        return replace(
            cls.of_words(items, full[0], skipped[0], judge),
            kl_full_skipped=_kl(full[1], skipped[1]),
            kl_skipped_full=_kl(skipped[1], full[1]),
        )

    @classmethod
    def of_words(
        cls,
        items: Sequence[Item],
        full: Sequence[str],
        skipped: Sequence[str],
        judge: Callable[[str, Item], bool | None] = is_correct,
    ) -> Outcomes:
        """Outcomes from both models' answers alone; no KL."""

        def correct(texts: Sequence[str]) -> tuple[float, ...] | None:
            judged = [judge(text, item) for text, item in zip(texts, items, strict=True)]
            return None if None in judged else tuple(float(bool(j)) for j in judged)

        disagree = tuple(float(a != b) for a, b in zip(full, skipped, strict=True))
        return cls(tuple(items), disagree, correct(full), correct(skipped), None, None)

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """The outcomes of several batches together; unlabelled if any part is."""

        def column(name: str) -> tuple[float, ...] | None:
            values = [getattr(part, name) for part in parts]
            return None if None in values else tuple(v for part in values for v in part)

        items = tuple(item for part in parts for item in part.items)
        return cls(items, *(column(f.name) for f in fields(cls)[1:]))  # type: ignore[arg-type]

    def columns(self) -> dict[str, tuple[float, ...] | None]:
        """Every field but the items, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)[1:]}

    @classmethod
    def of_columns(cls, items: Sequence[Item], columns: Mapping[str, Any]) -> Outcomes:
        """The inverse of `columns`, also after a round trip through JSON."""
        named: dict[str, Any] = {n: None if v is None else tuple(v) for n, v in columns.items()}
        return cls(items=tuple(items), **named)

    @classmethod
    def of_batches(cls, batches: Iterable[tuple[Sequence[Item], Any]]) -> Outcomes:
        """The outcomes of all batches, each given by its items and its `columns`."""
        return cls.join([cls.of_columns(items, columns) for items, columns in batches])

    @property
    def clusters(self) -> list[str]:
        """The independent unit of every question: its image."""
        return [item.cluster for item in self.items]

    @property
    def drop(self) -> list[float] | None:
        """Accuracy lost on every question: full minus skipped, in {-1, 0, 1}."""
        if self.correct_full is None or self.correct_skipped is None:
            return None
        return [a - b for a, b in zip(self.correct_full, self.correct_skipped, strict=True)]


def _kl(p: Tensor, q: Tensor) -> tuple[float, ...]:
    pointwise = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True)
    return tuple(pointwise.sum(-1).clamp(min=0).tolist())
