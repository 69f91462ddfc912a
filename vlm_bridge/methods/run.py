"""Run a method end to end beside the full model: quality by image, FLOPs and latency."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.cost import Cost, cost_inside
from vlm_bridge.data import Item, check_disjoint, items_hash
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS, answer_batch
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.methods.protocol import Method
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence
from vlm_bridge.skip import skipping


@dataclass(frozen=True)
class MethodResult(Record):
    """Quality and cost of a model under a method; intervals are by image, ratios method/full.

    Attributes:
        method, source, deviation, settings: of the method.
        model: name of the model.
        plan: the chosen plan; None if the method decides while the model runs.
        forward_cost: of the choice, in passes over the profiling questions.
        data_hash: of the answered questions.
        max_new_tokens: longest answer, in tokens.
        share_at_limit: share of the full model's answers that reached it without ending.
        n_unlabelled: number of questions without a label; accuracies are of the others.
        disagreement: share of answers that changed.
        accuracy_full, accuracy, drop: without and with the method, and their paired difference;
            None without labels.
        cost: of a batch of these questions.
        fingerprint: of the model.
    """

    method: str
    source: str
    deviation: str
    settings: dict[str, float]
    model: str
    plan: SkipPlan | None
    forward_cost: float
    data_hash: str
    max_new_tokens: int
    share_at_limit: float | None
    n_unlabelled: int
    disagreement: Estimate
    accuracy_full: Estimate | None
    accuracy: Estimate | None
    drop: Estimate | None
    cost: Cost
    fingerprint: str = ""


def skipping_plan(vlm: VLM, _: Method, plan: SkipPlan | None) -> AbstractContextManager[Any]:
    """`skipping(vlm, plan)`: the runtime of methods that choose a plan."""
    assert plan is not None
    return skipping(vlm, plan)


def run_method(
    vlm: VLM,
    profiling: Sequence[Item],
    items: Sequence[Item],
    method: Method,
    *,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    pairs: int = 15,
    tokens: int = 4,
    folder: Path | None = None,
) -> MethodResult:
    """Let a method choose on `profiling`, then answer `items` with it and with the full model.

    The method reads labels of `profiling` only if it requires them; `items` are about other images.
    Cost is measured from timed `pairs` and `tokens` as in `vlm_bridge.measure_cost`. `folder`
    stores finished batches, from which the same call resumes.
    """
    profiling, items = list(profiling), list(items)
    check_disjoint(items, profiling, "are in both profiling and answered questions")
    evidence = Evidence(vlm, profiling, batch_size=batch_size)
    plan = method.choose(evidence)
    file = folder and folder / "full.jsonl"
    full = FullAnswers.ask(
        vlm, items, batch_size=batch_size, max_new_tokens=max_new_tokens, checkpoint=file
    )
    key = run_key(  # the fingerprint is that of the full model
        f"method {method.name}",
        vlm,
        items,
        settings=method.settings,
        plan=None if plan is None else plan.hash(),
        full=full.hash,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
    )
    with method.applying(vlm, plan):
        answered = run_batches(
            vlm,
            items,
            lambda batch: answer_batch(vlm, batch, max_new_tokens=max_new_tokens).texts,
            lambda result, n: is_list_of(result, str, n),
            batch_size=batch_size,
            title=method.name,
            checkpoint=folder and folder / f"{method.name}.jsonl",
            key=key,
        )
    texts = [text for _, part in answered for text in part]
    outcomes = Outcomes.of_words(
        *(full.items, full.texts, texts), at_limit=full.at_limit, max_new_tokens=max_new_tokens
    )
    labelled = outcomes.labelled
    inputs = next(batches(vlm, items[:batch_size], batch_size=batch_size)).inputs
    cost = cost_inside(vlm, lambda: method.applying(vlm, plan), inputs, pairs=pairs, tokens=tokens)

    def mean(values: Any, low: float) -> Estimate | None:
        if labelled is None:
            return None
        return clustered_mean(values, labelled.clusters, bounds=(low, 1), unit="1")

    return MethodResult(
        method=method.name,
        source=method.source,
        deviation=method.deviation,
        settings=method.settings,
        model=vlm.name,
        plan=plan,
        forward_cost=sum(evidence.cost.values()),
        data_hash=items_hash(items),
        max_new_tokens=max_new_tokens,
        share_at_limit=outcomes.share_at_limit,
        n_unlabelled=outcomes.n_unlabelled,
        disagreement=clustered_mean(outcomes.disagree, outcomes.clusters, bounds=(0, 1), unit="1"),
        accuracy_full=mean(labelled and labelled.correct_full, 0),
        accuracy=mean(labelled and labelled.correct_skipped, 0),
        drop=mean(labelled and labelled.drop, -1),
        cost=cost,
        fingerprint=vlm.fingerprint,
    )
