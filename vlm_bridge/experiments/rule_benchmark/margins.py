"""How much better our rules rank units than other rules with no less evidence, and than depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vlm_bridge.experiments.rule_benchmark.results import Margin, ModelBenchmark, RuleResult
from vlm_bridge.experiments.scoring import Truth, spearman_difference
from vlm_bridge.rules import RULES
from vlm_bridge.rules.account import REQUIREMENTS

#: The rule of depth alone.
DEPTH = RULES["deepest-first"].name


def margins(results: Sequence[RuleResult], truth: Truth, *, seed: int) -> list[Margin]:
    """Every rule of ours against depth, and against every published rule that needs no more.

    `results` are those of one mode, scored against `truth`.
    """
    found = []
    for ours in (result for result in results if result.origin == "ours"):
        for other in results:
            if other.score.rule == DEPTH or _is_rival(other, ours):
                difference = spearman_difference(
                    np.array(ours.scores), np.array(other.scores), truth, seed=seed
                )
                mode, names = ours.score.mode, (ours.score.rule, other.score.rule)
                found.append(Margin(mode, ours.keep, *names, difference))
    return found


def best_rival(benchmark: ModelBenchmark, ours: RuleResult) -> RuleResult | None:
    """The published rule with the highest Spearman among those that need no more than `ours`.

    It is chosen on the test images, which favours it; None if there is no such rule.
    """
    rivals = [
        other
        for other in benchmark.rules_in(ours.score.mode)
        if other.keep == ours.keep and _is_rival(other, ours)
    ]
    defined = [rival for rival in rivals if not math.isnan(rival.score.spearman.value)]
    return max(defined, key=lambda rival: rival.score.spearman.value, default=None)


def _is_rival(other: RuleResult, ours: RuleResult) -> bool:
    needs = REQUIREMENTS.index
    return other.origin == "published" and needs(other.score.requires) <= needs(ours.score.requires)
