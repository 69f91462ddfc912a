"""Which rankings are compared, and at which size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, RuleResult
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.rules import Origin


def of_origin(results: Iterable[RuleResult], origin: Origin) -> list[RuleResult]:
    """The results of rules with an origin."""
    return [result for result in results if result.origin == origin]


def our_conditions(benchmark: ModelBenchmark, *, layerwise: bool = False) -> list[RuleResult]:
    """Results of our rules that require forward passes alone, in all or in layer-wise modes.

    Rules with candidate runs measure the disagreement that they are to predict, so no clause rests
    on them.
    """
    return [
        result
        for result in of_origin(benchmark.rules, "ours")
        if result.score.requires == "forward pass"
        and (result.score.mode in LAYERWISE or not layerwise)
    ]


def peers_of(benchmark: ModelBenchmark, ours: RuleResult) -> list[RuleResult]:
    """Published methods to compare one of our rankings with: those of its mode.

    If our rule ranks frozen layers but not blocks, methods that skip blocks are peers too: both
    select layers. A method with both modes is compared in the same mode.
    """
    rule, mode = ours.score.rule, ours.score.mode
    published = of_origin(benchmark.rules, "published")
    peers = [peer for peer in published if peer.score.mode == mode]
    has_block = any(result.score.rule == rule for result in benchmark.rules_in("block"))
    if mode != "freeze" or has_block:
        return peers
    same_mode = {peer.score.rule for peer in peers}
    return [
        peer
        for peer in published
        if peer.score.mode == mode
        or (peer.score.mode == "block" and peer.score.rule not in same_mode)
    ]


def units_skipped(result: RuleResult) -> int:
    """Number of units in the certified plan of a rule, 0 without one; of depths, the layers."""
    plan = result.chosen.plan
    if plan.is_empty:
        return 0
    if plan.entry is not None:
        return plan.entry
    for depth in (plan.exit, plan.after):
        if depth is not None:
            return plan.n_layers - depth
    return len(plan.layers) + len(plan.attention) + len(plan.mlp)


def quarter(result: RuleResult) -> int:
    """A quarter of the units, about what ShortGPT removes; at least one."""
    return max(1, round(len(result.scores) / 4))


def control_size(result: RuleResult) -> int:
    """Number of units in a plan and its control: as many as are certified, else a quarter.

    At most half of the units, since the two sets are disjoint.
    """
    return max(1, min(units_skipped(result) or quarter(result), len(result.scores) // 2))


def compared_size(result: RuleResult) -> int:
    """Number of units in two sets whose overlap is measured: `control_size`, at least a quarter.

    The overlap of smaller sets says little about two rankings.
    """
    return max(control_size(result), quarter(result))


def order_of(scores: Sequence[float]) -> list[int]:
    """Units from the safest to the least safe; ties keep their order.

    >>> order_of([0.2, 0.1, 0.2])
    [1, 0, 2]
    """
    return sorted(range(len(scores)), key=lambda unit: scores[unit])
