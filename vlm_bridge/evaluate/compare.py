"""Compare the full and the skipped model on the same questions, with intervals by image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.data import Item, items_hash
from vlm_bridge.evaluate.answers import answer_batch
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping


@dataclass(frozen=True)
class Comparison(Record):
    """The quality that a plan costs. Every interval is by image.

    Attributes:
        plan: what was skipped.
        decision: what was compared: "generated answer" (the whole greedy answer) or "first
            answer token" (its argmax; cheaper, for sweeps).
        n_images: number of images, the independent units.
        n_questions: number of questions about them.
        data_hash: `items_hash` of the questions.
        disagreement: share of answers that changed.
        kl_full_skipped: KL(full || skipped) at the first answer token, nats; None where only the
            texts were compared.
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
        """Means over the outcomes; every image weighs the same."""
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
    items: Iterable[Item],
    plan: SkipPlan,
    *,
    batch_size: int = 16,
    max_new_tokens: int = 8,
    checkpoint: Path | None = None,
) -> Outcomes:
    """Answer every item with the full and with the skipped model, batch by batch.

    Under `torchrun` the batches are shared among the ranks, and every rank gets all outcomes.
    `FullAnswers` runs the full model once for several plans. Finished batches are added to the
    file `checkpoint`; a second call with the same arguments continues from it.

    Raises:
        BridgeError: the model cannot do the plan, there are no items, the checkpoint is of
            another run, or another rank died.
    """
    check_support(vlm, plan)
    items = list(items)

    def columns(batch: Batch) -> dict[str, Any]:
        skipped = full = answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
        if not plan.is_empty:
            with skipping(vlm, plan):
                skipped = answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
        answers, changed = ((model.texts, model.log_probs) for model in (full, skipped))
        return Outcomes.of(batch.items, answers, changed).columns()

    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    results = run_batches(
        vlm,
        items,
        columns,
        batch_size=batch_size,
        title="full and skipped model",
        checkpoint=checkpoint,
        key=run_key("paired outcomes", vlm, items, plan=plan.hash(), **settings),
    )
    return Outcomes.of_batches(results)


def compare(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan,
    *,
    batch_size: int = 16,
    max_new_tokens: int = 8,
    checkpoint: Path | None = None,
) -> Comparison:
    """Accuracy, its drop, disagreement, and KL both ways, full against skipped, by image.

    Without labels the accuracies are None. Arguments and errors are those of `paired_outcomes`.
    """
    sizes = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    outcomes = paired_outcomes(vlm, items, plan, checkpoint=checkpoint, **sizes)
    return Comparison.of(plan, outcomes, "generated answer")
