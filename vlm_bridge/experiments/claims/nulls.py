"""Null models: rankings and control plans without training, and without the right image.

*Random weights*: the same architecture, untrained. A ranking that also appears here comes from the
architecture. *Shuffled images*: every question is asked about another image. A result that also
appears here does not depend on the content of the image.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from estimators import Estimate
from estimators.rank_correlation import spearman
from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.experiments.claims.accuracy import accuracy_of
from vlm_bridge.experiments.claims.coincidence import Coincidence, coincidence
from vlm_bridge.experiments.claims.comparisons import compared_size
from vlm_bridge.experiments.claims.control import Control, controls
from vlm_bridge.experiments.rule_benchmark import (
    Case,
    ModelBenchmark,
    RuleResult,
    Settings,
    Store,
    ranked,
)
from vlm_bridge.observe.profile import random_copy
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, find_rule

RANDOM, SHUFFLED = "random weights", "shuffled images"


@dataclass(frozen=True)
class NullScore(Record):
    """A rule's ranking on the null against its ranking on the model.

    Attributes:
        rule, mode: a rule that requires forward passes alone, and the mode of its units.
        spearman: rank correlation of the scores; NaN if a ranking is constant.
        sets: overlap of the sets of safest units, at equal size.
        reason: why the rule has no ranking on the null; `spearman` and `sets` are then None.
    """

    rule: str
    mode: str
    spearman: float | None
    sets: Coincidence | None
    reason: str = ""


@dataclass(frozen=True)
class Null(Record):
    """A null of a model.

    Attributes:
        kind: `RANDOM` or `SHUFFLED`.
        n_profiling: number of images that the rules read.
        accuracy: accuracy of the first answer token; None without labels.
        scores: one entry for each rule that requires forward passes alone.
        controls: the model's control plans, run on the null.
    """

    kind: str
    n_profiling: int
    accuracy: Estimate | None
    scores: tuple[NullScore, ...]
    controls: tuple[Control, ...]


def shuffled_images(items: Sequence[Item], *, seed: int = 0) -> list[Item]:
    """Every question with another image or recording; questions of one image stay together.

    Example:
        >>> from pathlib import Path
        >>> items = [Item(Path(name), "?", "yes") for name in ("a.png", "b.png")]
        >>> [item.image.name for item in shuffled_images(items)]
        ['b.png', 'a.png']
    """
    of_cluster = {item.cluster: item for item in items}
    order = list(of_cluster)
    if len(order) < 2:
        raise BridgeError(f"images are shuffled among at least two, got {len(order)}")
    if texts := [item for item in items if not item.files]:
        raise BridgeError(f"the question {shown(texts[0].question)} has no image to shuffle")
    random.Random(seed).shuffle(order)
    partner = dict(zip(order, [*order[1:], order[0]], strict=True))
    others = [of_cluster[partner[item.cluster]] for item in items]
    return [
        replace(item, image=other.image, audio=other.audio, cluster=other.cluster)
        for item, other in zip(items, others, strict=True)
    ]


def measure_null(
    kind: str, case: Case, benchmark: ModelBenchmark, settings: Settings, *, images: int
) -> Null:
    """Rankings and control plans on a null, compared with those of the model.

    `kind` is `RANDOM` or `SHUFFLED`; `images` is the number for profiling, and for the test.
    """
    vlm = random_copy(case.vlm) if kind == RANDOM else case.vlm
    profiling, test = case.splits.profiling[:images], case.splits.test[:images]
    if kind == SHUFFLED:
        profiling, test = tuple(shuffled_images(profiling)), tuple(shuffled_images(test))
    splits = {"profiling": profiling, "test": test}
    store = Store(vlm, splits, settings.checkpoint, batch_size=settings.batch_size)
    evidence = Evidence(vlm, profiling, batch_size=settings.batch_size)
    (full,) = store.outcomes("test", [SkipPlan("block", benchmark.n_layers)])
    passive = [result for result in benchmark.rules if result.score.requires == "forward pass"]
    return Null(
        kind=kind,
        n_profiling=len({item.cluster for item in profiling}),
        accuracy=accuracy_of(full),
        scores=tuple(_score(result, evidence, store) for result in passive),
        controls=tuple(controls(benchmark, store)),
    )


def _score(result: RuleResult, evidence: Evidence, store: Store) -> NullScore:
    rule, mode = result.score.rule, result.score.mode
    try:
        scores = ranked(find_rule(rule), mode, evidence, store).scores
    except BridgeError as error:
        return NullScore(rule, mode, None, None, str(error))
    sets = coincidence(result.scores, scores, compared_size(result), names=("model", "null"))
    return NullScore(rule, mode, spearman(result.scores, scores), sets)
