"""What a ranking and a plan come to where there is nothing to find.

*Random weights*: the same architecture, untrained. A ranking that it shows too comes from the
architecture, not from what the model learned. *Shuffled images*: every question is asked about
the image of another one; what is measured there does not depend on what the image shows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from estimators import Estimate
from estimators.rank_correlation import spearman
from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.experiments.claims.accuracy import accuracy_of
from vlm_bridge.experiments.claims.coincidence import Coincidence, coincidence
from vlm_bridge.experiments.claims.comparisons import LAYERWISE, compared_size
from vlm_bridge.experiments.claims.control import control_plans
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, RuleResult, Splits, Store, ranked
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, find_rule

RANDOM, SHUFFLED = "random weights", "shuffled images"


@dataclass(frozen=True)
class NullScore(Record):
    """A rule's ranking on the null beside that on the model.

    Attributes:
        rule: any that needs forward passes alone.
        mode: of the units.
        spearman: rank correlation of the scores, NaN where one ranking is constant.
        sets: overlap of the sets at equal size.
        reason: why the rule gives no ranking there; the others are then None.
    """

    rule: str
    mode: str
    spearman: float | None
    sets: Coincidence | None
    reason: str = ""


@dataclass(frozen=True)
class NullPlan(Record):
    """Disagreement that the two plans of a control bring about on the null."""

    rule: str
    mode: str
    safe: Estimate
    unsafe: Estimate


@dataclass(frozen=True)
class Null(Record):
    """One null of one model.

    Attributes:
        kind: `RANDOM` or `SHUFFLED`.
        n_profiling: images the rules looked at.
        accuracy: of the first answer token there; None without labels.
        scores: of every rule that needs forward passes alone.
        plans: of every control.
    """

    kind: str
    n_profiling: int
    accuracy: Estimate | None
    scores: tuple[NullScore, ...]
    plans: tuple[NullPlan, ...]


def shuffled_images(items: Sequence[Item], *, seed: int = 0) -> list[Item]:
    """Every question with the image of another one; an image's questions go to one image.

    Raises:
        BridgeError: fewer than two images.

    Example:
        >>> asked = [Item(Path(name), "?", "yes") for name in ("a.png", "b.png")]
        >>> [item.image.name for item in shuffled_images(asked)]
        ['b.png', 'a.png']
    """
    images = {item.cluster: item.image for item in items}
    order = list(images)
    if len(order) < 2:
        raise BridgeError(f"images are shuffled among at least two, got {len(order)}")
    random.Random(seed).shuffle(order)
    other = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [
        replace(item, image=images[other[item.cluster]], cluster=other[item.cluster])
        for item in items
    ]


def measure_null(
    kind: str,
    vlm: VLM,
    splits: Splits,
    benchmark: ModelBenchmark,
    ours: Sequence[RuleResult],
    *,
    images: int,
    folder: Path | None,
    batch_size: int = 16,
) -> Null:
    """Rankings and control plans on a null, held against those of the model.

    Args:
        kind: `RANDOM` or `SHUFFLED`; for the latter images are shuffled here.
        vlm: the model, or its copy with random weights.
        splits: of the benchmark.
        benchmark: of the model.
        ours: results whose control plans are run.
        images: so many that rules look at, and so many test images.
        folder: where finished work is kept.
        batch_size: questions in a batch.

    Raises:
        BridgeError: fewer than two images.
    """
    profiling, test = splits.profiling[:images], splits.test[:images]
    if kind == SHUFFLED:
        profiling, test = tuple(shuffled_images(profiling)), tuple(shuffled_images(test))
    store = Store(vlm, {"profiling": profiling, "test": test}, folder, batch_size=batch_size)
    asked = [one for one in benchmark.rules if one.score.requires == "forward pass"]
    evidence = Evidence(vlm, profiling, batch_size=batch_size)
    layerwise = [one for one in ours if one.score.mode in LAYERWISE]
    plans = [control_plans(one, benchmark.truth_of(one).units) for one in layerwise]
    every = [SkipPlan("block", benchmark.n_layers), *(plan for pair in plans for plan in pair)]
    found = dict(zip(every, store.outcomes("test", every), strict=True))

    def changed(plan: SkipPlan) -> Estimate:
        return Comparison.of(plan, found[plan], DECISION).disagreement

    return Null(
        kind=kind,
        n_profiling=len({item.cluster for item in profiling}),
        accuracy=accuracy_of(found[every[0]]),
        scores=tuple(_score(one, evidence, store) for one in asked),
        plans=tuple(
            NullPlan(one.score.rule, one.score.mode, changed(safe), changed(unsafe))
            for one, (safe, unsafe) in zip(layerwise, plans, strict=True)
        ),
    )


def _score(result: RuleResult, evidence: Evidence, store: Store) -> NullScore:
    rule, mode = result.score.rule, result.score.mode
    try:
        scores = ranked(find_rule(rule), mode, evidence, store).scores
    except BridgeError as error:
        return NullScore(rule, mode, None, None, str(error))
    return NullScore(
        rule,
        mode,
        spearman(result.scores, scores),
        coincidence(result.scores, scores, compared_size(result), names=("model", "null")),
    )
