"""Scores and plans of a rule in one mode, measured once and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from estimators.record import Record
from vlm_bridge.experiments.rule_benchmark.store import Store
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, Rule, nested_plans, score_units, within_forward_cost
from vlm_bridge.runtime.files import read_or_make

#: Version of the code that rules share (`vlm_bridge.rules.measure`, the estimators): raise it when
#: a change there alters the scores of several rules. A change of one rule raises its `version`.
SCORES_VERSION = 1


@dataclass(frozen=True)
class Ranked(Record):
    """Ranking of the units of a mode by a rule.

    Attributes:
        scores: (n_units,) scores; the lower, the safer.
        spent: measurement -> its cost in forward-pass equivalents.
        plans: nested plans of the rule, from the smallest to the largest.
    """

    scores: tuple[float, ...]
    spent: Mapping[str, float]
    plans: tuple[SkipPlan, ...]


def ranked(
    rule: Rule, mode: str, evidence: Evidence, store: Store, *, forward_cost: float | None = None
) -> Ranked:
    """Scores and plans of a rule; read if stored for the same versions and images.

    `evidence` is of the profiling split. `forward_cost` limits the forward passes over it: a rule
    that costs more reads fewer images (`within_forward_cost`). A BridgeError if the rule cannot be
    measured within that budget.
    """

    def measure() -> Ranked:
        within, part = rule, evidence
        if forward_cost is not None:
            within, part = within_forward_cost(rule, evidence, mode, forward_cost)
        part.spent.pop(rule.name, None)  # count the cost of this mode alone
        scores, plans = score_units(within, part, mode), nested_plans(within, part, mode)
        share = len(part.items) / len(evidence.items)
        spent = {name: cost * share for name, cost in part.spent.get(rule.name, {}).items()}
        return Ranked(tuple(scores.tolist()), spent, tuple(plans))

    key = [repr(rule), rule.version, SCORES_VERSION, store.hashes["profiling"], forward_cost]
    return read_or_make(store.path(f"ranking-{rule.name}-{mode}", key), Ranked, measure)
