"""Choice of the rankings that are compared, and of the size of their sets."""

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

    Rules with candidate runs measure the disagreement that they predict, so no clause uses them.
    """
    ours = [r for r in of_origin(benchmark.rules, "ours") if r.score.requires == "forward pass"]
    return [result for result in ours if result.score.mode in LAYERWISE or not layerwise]


def peers_of(benchmark: ModelBenchmark, ours: RuleResult) -> list[RuleResult]:
    """Published methods in the mode of one of our rankings.

    If our rule ranks frozen layers but not blocks, methods that skip blocks are peers too: both
    select layers. A method with both modes is compared in the same mode.
    """
    rule, mode = ours.score.rule, ours.score.mode
    published = of_origin(benchmark.rules, "published")
    in_mode = {peer.score.rule for peer in published if peer.score.mode == mode}
    ours_in_block = any(result.score.rule == rule for result in benchmark.rules_in("block"))
    with_blocks = mode == "freeze" and not ours_in_block

    def is_peer(peer: RuleResult) -> bool:
        unpaired_block = peer.score.mode == "block" and peer.score.rule not in in_mode
        return peer.score.mode == mode or (with_blocks and unpaired_block)

    return [peer for peer in published if is_peer(peer)]


def units_skipped(result: RuleResult) -> int:
    """Number of units in the certified plan of a rule, 0 without a plan; of depths, the layers."""
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
    """A quarter of the units, at least 1; ShortGPT removes about as many."""
    return max(1, round(len(result.scores) / 4))


def control_size(result: RuleResult) -> int:
    """Size of a plan and of its disjoint control: as certified, else a quarter; at most half."""
    return max(1, min(units_skipped(result) or quarter(result), len(result.scores) // 2))


def compared_size(result: RuleResult) -> int:
    """Units in each of two sets whose overlap is measured: `control_size`, at least a quarter."""
    return max(control_size(result), quarter(result))


def order_of(scores: Sequence[float]) -> list[int]:
    """Units from the safest to the least safe; ties keep their order.

    >>> order_of([0.2, 0.1, 0.2])
    [1, 0, 2]
    """
    return sorted(range(len(scores)), key=lambda unit: scores[unit])
