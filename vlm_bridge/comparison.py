"""Full model against skipped model on the same questions, with the image as the unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.answers import Answers, answer_batch, is_correct
from vlm_bridge.data import Item, items_hash
from vlm_bridge.journal import run_batches
from vlm_bridge.plan import SkipPlan
from vlm_bridge.prompts import Batch
from vlm_bridge.skip import check_support, skipping
from vlm_bridge.vlm import VLM


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
        return [item.group for item in self.items]

    @property
    def drop(self) -> list[float] | None:
        """Accuracy lost on every question: full minus skipped, in {-1, 0, 1}."""
        if self.correct_full is None or self.correct_skipped is None:
            return None
        return [a - b for a, b in zip(self.correct_full, self.correct_skipped, strict=True)]


@dataclass(frozen=True)
class Comparison(Record):
    """What a plan costs in quality. Every interval is by image.

    Attributes:
        plan: what was skipped.
        decision: what was compared: "generated answer" (the whole greedy answer) or "first
            answer token" (the argmax there; a sweep's cheaper question).
        n_images: independent units.
        n_questions: questions asked of them.
        data_hash: `items_hash` of the questions.
        disagreement: share of answers that changed.
        kl_full_skipped: KL(full || skipped) at the first answer token, nats; None where only the
            words were compared.
        kl_skipped_full: KL(skipped || full), nats.
        accuracy_full: None without labels, as are the next two.
        accuracy_skipped: accuracy of the skipped model.
        drop: accuracy_full - accuracy_skipped, paired.
    """

    plan: SkipPlan
    decision: str
    n_images: int
    n_questions: int
    data_hash: str
    disagreement: Estimate
    kl_full_skipped: Estimate | None
    kl_skipped_full: Estimate | None
    accuracy_full: Estimate | None
    accuracy_skipped: Estimate | None
    drop: Estimate | None

    @classmethod
    def of(cls, plan: SkipPlan, outcomes: Outcomes, decision: str) -> Comparison:
        """Summarise outcomes; every image weighs the same."""
        clusters = outcomes.clusters

        def mean(values: Sequence[float], low: float, high: float) -> Estimate:
            return clustered_mean(values, clusters, bounds=(low, high), unit="1")

        def kl(values: Sequence[float] | None) -> Estimate | None:
            return None if values is None else clustered_mean(values, clusters, unit="nats")

        full, skipped, drop = outcomes.correct_full, outcomes.correct_skipped, outcomes.drop
        return cls(
            plan=plan,
            decision=decision,
            n_images=len(set(clusters)),
            n_questions=len(clusters),
            data_hash=items_hash(outcomes.items),
            disagreement=mean(outcomes.disagree, 0, 1),
            kl_full_skipped=kl(outcomes.kl_full_skipped),
            kl_skipped_full=kl(outcomes.kl_skipped_full),
            accuracy_full=None if full is None else mean(full, 0, 1),
            accuracy_skipped=None if skipped is None else mean(skipped, 0, 1),
            drop=None if drop is None else mean(drop, -1, 1),
        )


def paired_outcomes(
    vlm: VLM,
    plan: SkipPlan,
    items: Iterable[Item],
    *,
    size: int = 16,
    max_new_tokens: int = 8,
    journal: Path | None = None,
) -> Outcomes:
    """Answer every item with the full and with the skipped model, batch by batch.

    Under `torchrun` the batches are dealt out to the ranks, and every rank gets all outcomes.
    Several plans on the same questions: `FullAnswers` runs the full model once.

    Args:
        vlm: the model.
        plan: what to skip.
        items: the questions.
        size: batch size.
        max_new_tokens: longest answer.
        journal: a file every finished batch is added to; a second call with the same model,
            plan and items continues after the last one.

    Raises:
        BridgeError: the model cannot do the plan, there are no items, the journal is of
            another run, or another rank died.
    """
    check_support(vlm, plan)
    items = list(items)

    def pair(batch: Batch) -> Outcomes:
        skipped = whole = answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
        if not plan.is_empty:
            with skipping(vlm, plan):
                skipped = answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
        return Outcomes.of(batch.items, _both(whole), _both(skipped))

    found = run_batches(
        vlm,
        items,
        lambda batch: pair(batch).columns(),
        size=size,
        title="full and skipped model",
        journal=journal,
        key={
            "run": "paired outcomes",
            "model": vlm.name,
            "data": items_hash(items),
            "plan": plan.hash(),
            "size": size,
            "max_new_tokens": max_new_tokens,
        },
    )
    return Outcomes.join([Outcomes.of_columns(chosen, columns) for chosen, columns in found])


def compare(
    vlm: VLM,
    plan: SkipPlan,
    items: Iterable[Item],
    *,
    size: int = 16,
    max_new_tokens: int = 8,
    journal: Path | None = None,
) -> Comparison:
    """`paired_outcomes`, summarised: accuracy, drop, disagreement, KL both ways, by image.

    Args:
        vlm: the model.
        plan: what to skip.
        items: questions; without labels the accuracies are None.
        size: batch size.
        max_new_tokens: longest answer.
        journal: as in `paired_outcomes`.

    Raises:
        BridgeError: as `paired_outcomes`.
    """
    outcomes = paired_outcomes(
        vlm, plan, items, size=size, max_new_tokens=max_new_tokens, journal=journal
    )
    return Comparison.of(plan, outcomes, "generated answer")


def _both(answers: Answers) -> tuple[Sequence[str], Tensor]:
    return answers.texts, answers.log_probs


def _kl(p: Tensor, q: Tensor) -> tuple[float, ...]:
    pointwise = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True)
    return tuple(pointwise.sum(-1).clamp(min=0).tolist())
