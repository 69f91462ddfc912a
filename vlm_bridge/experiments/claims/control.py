"""The negative control: a plan outside the conditions, as large as the one inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.claims.comparisons import LAYERWISE, control_size, order_of
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, RuleResult, Store
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import union


@dataclass(frozen=True)
class Measured(Record):
    """What a plan did on untouched images.

    Attributes:
        plan: the plan.
        disagreement: share of changed answers.
        drop: of accuracy; None without labels.
    """

    plan: SkipPlan
    disagreement: Estimate
    drop: Estimate | None

    @classmethod
    def of(cls, plan: SkipPlan, outcomes: Outcomes) -> Measured:
        """Summarise outcomes, by image."""
        found = Comparison.of(plan, outcomes, DECISION)
        return cls(plan, found.disagreement, found.drop)


@dataclass(frozen=True)
class Control(Record):
    """The units a rule calls safest, all left out, and as many that it calls least safe.

    Attributes:
        rule: ours.
        mode: of the units.
        size: how many each plan leaves out.
        safe: the plan of the safest.
        unsafe: the plan of the least safe.
        difference: disagreement of the unsafe plan minus that of the safe one, paired by image.
    """

    rule: str
    mode: str
    size: int
    safe: Measured
    unsafe: Measured
    difference: Estimate


def control_plans(result: RuleResult, units: Sequence[SkipPlan]) -> tuple[SkipPlan, SkipPlan]:
    """(safe, unsafe): the union of the safest units and of as many of the least safe.

    Raises:
        BridgeError: a mode of depths, where a plan of given size lies in one place only.
    """
    if result.score.mode not in LAYERWISE:
        raise BridgeError(
            f"a plan of {result.score.mode} of given size lies in one place only, so there is no "
            f"control; modes with one are {', '.join(LAYERWISE)}"
        )
    order, size = order_of(result.scores), control_size(result)
    return union([units[i] for i in order[:size]]), union([units[i] for i in order[-size:]])


def controls(
    benchmark: ModelBenchmark, results: Sequence[RuleResult], store: Store
) -> list[Control]:
    """The control of each result of a layer-wise mode, on the test images."""
    asked = [one for one in results if one.score.mode in LAYERWISE]
    pairs = [control_plans(one, benchmark.truth_of(one).units) for one in asked]
    store.outcomes("test", [plan for pair in pairs for plan in pair])
    return [_control(one, pair, store) for one, pair in zip(asked, pairs, strict=True)]


def _control(result: RuleResult, pair: tuple[SkipPlan, SkipPlan], store: Store) -> Control:
    safe, unsafe = store.outcomes("test", pair)
    apart = [b - a for a, b in zip(safe.disagree, unsafe.disagree, strict=True)]
    return Control(
        rule=result.score.rule,
        mode=result.score.mode,
        size=control_size(result),
        safe=Measured.of(pair[0], safe),
        unsafe=Measured.of(pair[1], unsafe),
        difference=clustered_mean(apart, safe.clusters, bounds=(-1, 1)),
    )
