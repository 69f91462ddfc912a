"""Run a method end to end beside the full model: quality by image, FLOPs and latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.cost import Cost, cost_inside
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer_batch
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.methods.protocol import Method
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.run_batches import run_batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence

#: What every method has beside its settings.
_ABOUT = ("name", "source", "requires", "deviation")


@dataclass(frozen=True)
class MethodResult(Record):
    """What a method does to a model; intervals are by image, ratios method/full.

    Attributes:
        method: its name.
        source: where it comes from.
        deviation: where it is not what was published.
        settings: its settings.
        model: name of the model.
        plan: what it settled on; None where it decides while the model runs.
        forward_cost: what choosing cost, in passes over the questions it chose by.
        data_hash: of the questions it answered.
        disagreement: share of answers that changed.
        accuracy_full: None without labels, as are the next two.
        accuracy: with the method.
        drop: accuracy_full - accuracy, paired.
        cost: of a batch of these questions.
    """

    method: str
    source: str
    deviation: str
    settings: dict[str, float]
    model: str
    plan: SkipPlan | None
    forward_cost: float
    data_hash: str
    disagreement: Estimate
    accuracy_full: Estimate | None
    accuracy: Estimate | None
    drop: Estimate | None
    cost: Cost


def settings_of(method: Method) -> dict[str, Any]:
    """A method's settings by name.

    Example:
        >>> from vlm_bridge.methods import find_method
        >>> settings_of(find_method("delask"))
        {'blend': 0.5, 'threshold': 0.0}
    """
    return {k: v for k, v in asdict(method).items() if k not in _ABOUT}  # type: ignore[call-overload]


def run_method(
    vlm: VLM,
    method: Method,
    profiling: Sequence[Item],
    items: Sequence[Item],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 8,
    pairs: int = 15,
    tokens: int = 4,
    folder: Path | None = None,
) -> MethodResult:
    """Let a method choose on `profiling`, then answer `items` with it and with the full model.

    Args:
        vlm: the model.
        method: what to run.
        profiling: questions it may look at; with answers, if it reads labels.
        items: questions about other images.
        batch_size: questions in a batch.
        max_new_tokens: longest answer.
        pairs: timed pairs of the full model and the method.
        tokens: generated to time a token; 0 leaves that out.
        folder: where finished batches are kept; the same call goes on from there.

    Raises:
        BridgeError: an image in both, labels missing that the method reads, or the model cannot do
            what it settles on.
    """
    profiling, items = list(profiling), list(items)
    both = set(image_hashes(profiling)) & set(image_hashes(items))
    if both:
        raise BridgeError(
            f"{len(both)} images are among those the method chooses by and those it answers about"
        )
    evidence = Evidence(vlm, profiling, batch_size=batch_size)
    plan = method.choose(evidence)

    def kept(name: str) -> Path | None:
        return None if folder is None else folder / f"{name}.jsonl"

    full = FullAnswers.ask(
        vlm, items, batch_size=batch_size, max_new_tokens=max_new_tokens, checkpoint=kept("full")
    )
    with method.applying(vlm, plan):
        found = run_batches(
            vlm,
            items,
            lambda batch: answer_batch(vlm, batch, max_new_tokens=max_new_tokens).texts,
            batch_size=batch_size,
            title=method.name,
            checkpoint=kept(method.name),
            key={
                "run": f"method {method.name}",
                "settings": settings_of(method),
                "plan": None if plan is None else plan.hash(),
                "full": full.hash,
                "batch_size": batch_size,
            },
        )
    texts = [text for _, part in found for text in part]
    outcomes = Outcomes.of_words(full.items, full.texts, texts)
    inputs = next(batches(vlm, items[:batch_size], batch_size=batch_size)).inputs
    cost = cost_inside(vlm, lambda: method.applying(vlm, plan), inputs, pairs=pairs, tokens=tokens)

    def mean(values: Sequence[float] | None, low: float) -> Estimate | None:
        if values is None:
            return None
        return clustered_mean(values, outcomes.clusters, bounds=(low, 1), unit="1")

    return MethodResult(
        method=method.name,
        source=method.source,
        deviation=method.deviation,
        settings=settings_of(method),
        model=vlm.name,
        plan=plan,
        forward_cost=sum(evidence.cost.values()),
        data_hash=items_hash(items),
        disagreement=clustered_mean(outcomes.disagree, outcomes.clusters, bounds=(0, 1), unit="1"),
        accuracy_full=mean(outcomes.correct_full, 0),
        accuracy=mean(outcomes.correct_skipped, 0),
        drop=mean(outcomes.drop, -1),
        cost=cost,
    )
