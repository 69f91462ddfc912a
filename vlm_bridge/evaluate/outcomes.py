"""Full model against skipped model on the same questions, with the image as the unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.evaluate.answers import is_correct


@dataclass(frozen=True)
class Outcomes:
    """What happened to every question, full and skipped side by side.

    Attributes:
        items: the questions.
        disagree: 1.0 where the two answers differ.
        correct_full: 1.0 where the full model is right; None if a label is missing.
        correct_skipped: the same of the skipped model.
        kl_full_skipped: KL(full || skipped) of the first answer token, in nats; None where only
            the words were compared.
        kl_skipped_full: KL(skipped || full), in nats.
    """

    items: tuple[Item, ...]
    disagree: tuple[float, ...]
    correct_full: tuple[float, ...] | None
    correct_skipped: tuple[float, ...] | None
    kl_full_skipped: tuple[float, ...] | None
    kl_skipped_full: tuple[float, ...] | None

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        full: tuple[Sequence[str], Tensor],
        skipped: tuple[Sequence[str], Tensor],
        judge: Callable[[str, Item], bool | None] = is_correct,
    ) -> Outcomes:
        """Outcomes of both models' answers and (n, vocabulary) log-probabilities.

        `judge` says whether an answer to an item is right; None where it has no label.
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
        """Outcomes of both models' answers alone; no KL."""

        def right(texts: Sequence[str]) -> tuple[float, ...] | None:
            judged = [judge(text, item) for text, item in zip(texts, items, strict=True)]
            return None if None in judged else tuple(float(bool(j)) for j in judged)

        return cls(
            items=tuple(items),
            disagree=tuple(float(a != b) for a, b in zip(full, skipped, strict=True)),
            correct_full=right(full),
            correct_skipped=right(skipped),
            kl_full_skipped=None,
            kl_skipped_full=None,
        )

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """The outcomes of several batches as one; unlabelled if any part is."""

        def column(name: str) -> tuple[float, ...] | None:
            values = [getattr(part, name) for part in parts]
            return None if None in values else tuple(v for part in values for v in part)

        names = [f.name for f in fields(cls) if f.name != "items"]
        items = tuple(item for part in parts for item in part.items)
        return cls(items, **{name: column(name) for name in names})  # type: ignore[arg-type]

    def columns(self) -> dict[str, tuple[float, ...] | None]:
        """Everything but the items, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "items"}

    @classmethod
    def of_columns(
        cls, items: Sequence[Item], columns: Mapping[str, Sequence[float] | None]
    ) -> Outcomes:
        """The outcomes back from `columns`, as they come out of JSON."""
        named = {name: None if v is None else tuple(v) for name, v in columns.items()}
        return cls(items=tuple(items), **named)  # type: ignore[arg-type]

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
