"""Full and skipped model on the same questions, question by question."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import is_correct
from vlm_bridge.evaluate.word_errors import word_errors


@dataclass(frozen=True)
class Outcomes:
    """Both models' results on every question.

    Attributes:
        items: the questions.
        disagree: 1.0 where the two answers differ, else 0.0.
        correct_full: score of the full model's answer in [0, 1], by accuracy 1.0 where it is right;
            None at a question without a label; None in place of the tuple if no question has a
            label. So is `correct_skipped`.
        kl_full_skipped: KL(full || skipped) of the first answer token, nats; None for texts alone.
        kl_skipped_full: KL(skipped || full).
        at_limit: 1.0 where the full model's answer reached `max_new_tokens` without ending; None
            where that is not known.
        length_change: difference of the lengths of both answers in characters, as a share of the
            longer one, in [0, 1]; None where that is not known.
        errors_full: wrong words of each transcript by the full model, None where the label is no
            transcript; None in place of the tuple if none is one. So is `errors_skipped`.
        max_new_tokens: longest answer, in tokens; 1 where the first answer token is compared.
    """

    items: tuple[Item, ...]
    disagree: tuple[float, ...]
    correct_full: tuple[float | None, ...] | None
    correct_skipped: tuple[float | None, ...] | None
    kl_full_skipped: tuple[float, ...] | None
    kl_skipped_full: tuple[float, ...] | None
    at_limit: tuple[float, ...] | None = None
    errors_full: tuple[float | None, ...] | None = None
    errors_skipped: tuple[float | None, ...] | None = None
    length_change: tuple[float, ...] | None = None
    max_new_tokens: int = 1

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        full: tuple[Sequence[str], Tensor],
        skipped: tuple[Sequence[str], Tensor],
        judge: Callable[[str, Item], float | None] = is_correct,
        *,
        at_limit: Sequence[bool] | None = None,
        max_new_tokens: int = 1,
    ) -> Outcomes:
        """Outcomes from both models' answers and (n, vocabulary) log-probabilities.

        `judge` returns whether an answer to an item is right, or its score, None without a label.
        """
        words = cls.of_words(
            *(items, full[0], skipped[0], judge), at_limit=at_limit, max_new_tokens=max_new_tokens
        )
        return replace(
            words,
            kl_full_skipped=kl(full[1], skipped[1]),
            kl_skipped_full=kl(skipped[1], full[1]),
        )

    @classmethod
    def of_words(
        cls,
        items: Sequence[Item],
        full: Sequence[str],
        skipped: Sequence[str],
        judge: Callable[[str, Item], float | None] = is_correct,
        *,
        at_limit: Sequence[bool] | None = None,
        max_new_tokens: int = 1,
    ) -> Outcomes:
        """Outcomes from both models' answers alone; no KL."""

        def of_labelled(
            score: Callable[[str, Item], float | None], texts: Sequence[str]
        ) -> tuple[float | None, ...] | None:
            scores = [score(text, item) for text, item in zip(texts, items, strict=True)]
            values = tuple(None if value is None else float(value) for value in scores)
            return None if all(value is None for value in values) else values

        return cls(
            items=tuple(items),
            disagree=tuple(float(a != b) for a, b in zip(full, skipped, strict=True)),
            correct_full=of_labelled(judge, full),
            correct_skipped=of_labelled(judge, skipped),
            errors_full=of_labelled(word_errors, full),
            errors_skipped=of_labelled(word_errors, skipped),
            kl_full_skipped=None,
            kl_skipped_full=None,
            length_change=tuple(map(_length_change, full, skipped)),
            at_limit=None if at_limit is None else tuple(map(float, at_limit)),
            max_new_tokens=max_new_tokens,
        )

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """The outcomes of several batches together."""

        def column(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            if name.startswith(_OF_LABELS) and any(value is not None for value in values):
                blanks = ((None,) * len(part.items) for part in parts)
                values = [v if v is not None else b for v, b in zip(values, blanks, strict=True)]
            return None if None in values else tuple(v for part in values for v in part)

        items = tuple(item for part in parts for item in part.items)
        longest = {part.max_new_tokens for part in parts}
        if len(longest) > 1:
            raise BridgeError(f"answers up to {sorted(longest)} tokens cannot be joined")
        columns = {name: column(name) for name in _COLUMNS}
        return cls(items, **columns, max_new_tokens=longest.pop())

    def columns(self) -> dict[str, tuple[float | None, ...] | None]:
        """The fields with one value for each question, by name."""
        return {name: getattr(self, name) for name in _COLUMNS}

    @classmethod
    def of_columns(
        cls, items: Sequence[Item], columns: Mapping[str, Any], *, max_new_tokens: int = 1
    ) -> Outcomes:
        """The inverse of `columns`, also after a round trip through JSON."""
        named: dict[str, Any] = {n: None if v is None else tuple(v) for n, v in columns.items()}
        return cls(items=tuple(items), **named, max_new_tokens=max_new_tokens)

    @staticmethod
    def are_columns(columns: Any, n: int, *, kl: bool, at_limit: bool) -> bool:
        """Whether these are the `columns` of `n` questions, with or without KL and `at_limit`."""
        if not isinstance(columns, dict) or set(columns) != set(_COLUMNS):
            return False
        wanted = {"disagree": True, "at_limit": at_limit}
        wanted |= {"kl_full_skipped": kl, "kl_skipped_full": kl}

        def is_column(name: str, values: Any) -> bool:
            if values is None:
                return not wanted.get(name, False)
            if not wanted.get(name, True) or not isinstance(values, list) or len(values) != n:
                return False
            blank = name.startswith(_OF_LABELS)
            flags = name in ("disagree", "at_limit")
            top = 1.0 if name.startswith(("length", "correct")) else math.inf
            return all(
                (value is None and blank)
                or (type(value) in (int, float) and (value in (0, 1) if flags else value <= top))
                for value in values
            )

        paired = all(
            (columns[f"{name}_full"] is None) == (columns[f"{name}_skipped"] is None)
            for name in _OF_LABELS
        )
        return paired and all(is_column(name, v) for name, v in columns.items())

    @classmethod
    def of_batches(
        cls, batches: Iterable[tuple[Sequence[Item], Any]], *, max_new_tokens: int = 1
    ) -> Outcomes:
        """The outcomes of all batches, each given by its items and its `columns`."""
        longest = max_new_tokens
        return cls.join(
            [cls.of_columns(i, columns, max_new_tokens=longest) for i, columns in batches]
        )

    @property
    def clusters(self) -> list[str]:
        """The independent unit of every question: its image."""
        return [item.cluster for item in self.items]

    @property
    def n_unlabelled(self) -> int:
        """Number of questions without a label."""
        correct = self.correct_full
        return len(self.items) if correct is None else sum(value is None for value in correct)

    @property
    def labelled(self) -> Outcomes | None:
        """The outcomes of the questions that have a label; None if there are none."""
        if self.correct_full is None or not self.n_unlabelled:
            return None if self.correct_full is None else self
        return self.at([i for i, value in enumerate(self.correct_full) if value is not None])

    def at(self, places: Sequence[int]) -> Outcomes:
        """The outcomes of the questions at these places."""

        def chosen(values: Any) -> Any:
            return None if values is None else tuple(values[i] for i in places)

        columns = {name: chosen(values) for name, values in self.columns().items()}
        return replace(self, items=chosen(self.items), **columns)

    @property
    def changes(self) -> Outcomes:
        """Which answers changed, and nothing else about those of the skipped model."""
        return replace(
            self,
            correct_full=None,
            correct_skipped=None,
            kl_full_skipped=None,
            kl_skipped_full=None,
            errors_full=None,
            errors_skipped=None,
            length_change=None,
        )

    @property
    def drop(self) -> list[float] | None:
        """Score lost at each question: full minus skipped, in [-1, 1]; None without labels.

        At a question without a label an answer that changed counts as lost, the worst case.
        """
        if self.correct_full is None or self.correct_skipped is None:
            return None
        columns = zip(self.correct_full, self.correct_skipped, self.disagree, strict=True)
        return [d if a is None or b is None else a - b for a, b, d in columns]

    @property
    def share_at_limit(self) -> float | None:
        """Share of the full model's answers that reached `max_new_tokens`; None if not known."""
        return None if self.at_limit is None else sum(self.at_limit) / len(self.at_limit)


#: Columns, of both models, with a blank where a question has no label (no transcript).
_OF_LABELS = ("correct", "errors")
_COLUMNS = tuple(f.name for f in fields(Outcomes)[1:-1])


def _length_change(full: str, skipped: str) -> float:
    """Difference of two lengths, as a share of the larger one; 0 for two empty texts."""
    longer = max(len(full), len(skipped))
    return abs(len(full) - len(skipped)) / longer if longer else 0.0


def kl(p: Tensor, q: Tensor) -> tuple[float, ...]:
    """KL(p || q) of every row of two (n, vocabulary) tensors of log-probabilities, in nats."""
    pointwise = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True)
    return tuple(pointwise.sum(-1).clamp(min=0).tolist())
