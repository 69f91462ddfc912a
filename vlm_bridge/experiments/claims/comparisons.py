"""Which rules are ours, which are published methods, and how many units are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, RuleResult
from vlm_bridge.rules import Origin

#: Modes whose units can be joined, so that a plan of any size lies anywhere.
LAYERWISE = ("block", "freeze", "sublayer")


def of_origin(results: Iterable[RuleResult], *origins: Origin) -> list[RuleResult]:
    """The results of rules with one of the origins."""
    return [one for one in results if one.origin in origins]


def our_conditions(benchmark: ModelBenchmark) -> list[RuleResult]:
    """Our rules that need forward passes alone: what the framework foresees without a skipped run.

    Rules that run candidates measure what they are to foresee, so no clause rests on them.
    """
    return [
        one for one in of_origin(benchmark.rules, "ours") if one.score.requires == "forward pass"
    ]


def peers_of(benchmark: ModelBenchmark, ours: RuleResult) -> list[RuleResult]:
    """Published methods to hold one of our rankings against: those of its mode.

    A ranking of frozen layers whose rule does not speak of blocks is also held against methods
    that skip blocks: both name layers.
    """
    mode = ours.score.mode
    modes = {one.score.mode for one in benchmark.rules if one.score.rule == ours.score.rule}
    wanted = {mode, "block"} if mode == "freeze" and "block" not in modes else {mode}
    found = [one for one in of_origin(benchmark.rules, "published") if one.score.mode in wanted]
    # A method that has both modes stands in the same one.
    here = {one.score.rule for one in found if one.score.mode == mode}
    return [one for one in found if one.score.mode == mode or one.score.rule not in here]


def units_skipped(result: RuleResult) -> int:
    """How many units the certified plan of a rule amounts to; of depths, all that skip no more.

    0 where nothing was certified.
    """
    plan = result.chosen.plan
    if plan.is_empty:
        return 0
    if plan.exit is not None:
        return plan.n_layers - plan.exit
    if plan.entry is not None:
        return plan.entry
    if plan.after is not None:
        return plan.n_layers - plan.after
    return len(plan.layers) + len(plan.attention) + len(plan.mlp)


def quarter(result: RuleResult) -> int:
    """A quarter of the units, about what ShortGPT removes; at least one."""
    return max(1, round(len(result.scores) / 4))


def control_size(result: RuleResult) -> int:
    """How many units a plan and its control skip: as many as are certified, else a quarter.

    At most half: above that, two disjoint sets of equal size do not exist.
    """
    return max(1, min(units_skipped(result) or quarter(result), len(result.scores) // 2))


def compared_size(result: RuleResult) -> int:
    """How many units two sets hold that are to coincide: `control_size`, at least a quarter.

    One layer of thirty is the same as another or it is not; that says nothing of two rankings.
    """
    return max(control_size(result), quarter(result))


def order_of(scores: Sequence[float]) -> list[int]:
    """Units from the safest to the least safe; equal scores keep their order.

    >>> order_of([0.2, 0.1, 0.2])
    [1, 0, 2]
    """
    return sorted(range(len(scores)), key=lambda unit: scores[unit])
