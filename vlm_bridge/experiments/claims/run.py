"""Check the claim on one model (benchmark, then the rest of the evidence) and on several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.accuracy import Accuracies
from vlm_bridge.experiments.claims.certified_plan import best_certified
from vlm_bridge.experiments.claims.control import controls
from vlm_bridge.experiments.claims.converse import converses, rankings
from vlm_bridge.experiments.claims.nulls import RANDOM, SHUFFLED, measure_null
from vlm_bridge.experiments.claims.overlap import overlaps
from vlm_bridge.experiments.claims.results import ClaimsResult, ModelClaims
from vlm_bridge.experiments.rule_benchmark import (
    Case,
    Settings,
    Sizes,
    benchmark_rules,
    load_case,
    open_store,
    plan_cost,
)
from vlm_bridge.rules import Evidence
from vlm_bridge.runtime.machine import machine
from vlm_bridge.runtime.progress import track


@dataclass(frozen=True)
class ClaimsSettings(Settings):
    """Settings of the rule benchmark, of the nulls and of the cost.

    Attributes:
        null_images: images of each null, for profiling and for the test; at least 2.
        tokens: tokens generated to time decoding; 0 leaves it out.
    """

    LEAST: ClassVar[dict[str, int]] = {**Settings.LEAST, "null_images": 2}

    null_images: int = 8
    tokens: int = 8


def check_claims(case: Case, settings: ClaimsSettings | None = None) -> ModelClaims:
    """Measure the evidence on every clause of the claim, on one model.

    The rule benchmark measures truth, scores and certified plans. Its stored outcomes also serve
    control plans, converses, two nulls and the cost of one certified plan. A second call with the
    same `checkpoint` resumes; it also reads a rule benchmark with the same sizes.

    Example:
        >>> claims = check_claims(load_case("toy", "easy-vqa", Sizes(80, 32, 8)))  # doctest: +SKIP
        >>> conclusions(claims)[3].verdict  # doctest: +SKIP
        'supported'
    """
    settings = settings or ClaimsSettings()
    vlm, splits = case.vlm, case.splits
    store = open_store(vlm, splits, settings)
    benchmark = benchmark_rules(vlm, splits, settings, store=store)
    if not benchmark.truths:
        reasons = "; ".join(sorted({refusal.reason for refusal in benchmark.refused}))
        where = ", ".join(settings.modes)
        raise BridgeError(f"{vlm.name}: no rule could be scored in {where}: {reasons}")
    evidence = Evidence(vlm, splits.profiling, batch_size=settings.batch_size)
    cost, nulls = None, []
    with track(f"{vlm.name}: controls, converses, nulls", 5) as advance:
        compared, control = overlaps(benchmark, evidence), controls(benchmark, store)
        advance(1)
        converse = converses(rankings(benchmark, evidence, store), store, epsilon=settings.epsilon)
        advance(1)
        for kind in (RANDOM, SHUFFLED):
            nulls.append(measure_null(kind, case, benchmark, settings, images=settings.null_images))
            advance(1)
        certified = best_certified(benchmark, store)
        if certified is not None:
            plan = certified.tested.plan
            cost = plan_cost(store, plan, pairs=settings.pairs, tokens=settings.tokens)
        advance(1)
    (outcomes,) = store.outcomes("test", benchmark.truths[0].units[:1])
    return ModelClaims(
        data=case.data,
        benchmark=benchmark,
        accuracies=Accuracies.of(outcomes, case.training),
        certified=certified,
        cost=cost,
        overlaps=tuple(compared),
        controls=tuple(control),
        converses=tuple(converse),
        nulls=tuple(nulls),
    )


def check_models(
    names: Sequence[str],
    data: str,
    sizes: Sizes,
    settings: ClaimsSettings,
    *,
    on_model: Callable[[ClaimsResult], None] = lambda _: None,
) -> ClaimsResult:
    """`check_claims` on every model.

    Args:
        names: as for `load`, or "toy".
        data: name of a task set.
        sizes: number of images of each split.
        settings: of every model.
        on_model: called after every model with all results so far.

    Raises:
        BridgeError: no models, a model named twice, or no rule scored in any mode.
    """
    if not names or len(set(names)) < len(names):
        raise BridgeError(f"name models, each once; got {', '.join(names) or 'none'}")
    models: list[ModelClaims] = []
    for name in names:
        models.append(check_claims(load_case(name, data, sizes), settings))
        on_model(ClaimsResult(tuple(models), machine()))
    return ClaimsResult(tuple(models), machine())
