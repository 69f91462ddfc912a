"""The negative control: plans inside and outside the conditions, of equal size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.claims.comparisons import control_size, order_of, our_conditions
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, RuleResult, Store, compare_on_test
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import union


@dataclass(frozen=True)
class Control(Record):
    """Two plans of equal size, of the units that a rule ranks safest and least safe.

    Attributes:
        rule, mode: our rule and the mode of its units.
        size: number of units that each plan skips.
        safe, unsafe: the two plans, on test images.
        difference: disagreement of the unsafe minus that of the safe plan, paired by image.
    """

    rule: str
    mode: str
    size: int
    safe: Comparison
    unsafe: Comparison
    difference: Estimate


def control_plans(result: RuleResult, units: Sequence[SkipPlan]) -> tuple[SkipPlan, SkipPlan]:
    """(safe, unsafe): the union of the safest units, and of as many of the least safe."""
    if result.score.mode not in LAYERWISE:
        reason = f"{result.score.mode} has one plan of each size, so it has no control"
        raise BridgeError(f"{reason}; modes with a control are {', '.join(LAYERWISE)}")
    order, size = order_of(result.scores), control_size(result)
    return union([units[i] for i in order[:size]]), union([units[i] for i in order[-size:]])


def controls(benchmark: ModelBenchmark, store: Store) -> list[Control]:
    """The control of each layer-wise ranking of ours, on the test images of the store."""
    results = our_conditions(benchmark, layerwise=True)
    pairs = [control_plans(result, benchmark.truth_of(result).units) for result in results]
    store.outcomes("test", [plan for pair in pairs for plan in pair])  # all in one sweep
    measured = []
    for result, plans in zip(results, pairs, strict=True):
        inside, outside = store.outcomes("test", plans)
        differences = [b - a for a, b in zip(inside.disagree, outside.disagree, strict=True)]
        difference = clustered_mean(differences, inside.clusters, bounds=(-1, 1))
        safe, unsafe = compare_on_test(store, plans)
        head = (result.score.rule, result.score.mode, control_size(result))
        measured.append(Control(*head, safe, unsafe, difference))
    return measured
