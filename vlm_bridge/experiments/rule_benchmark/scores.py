"""A rule's scores and plans in one mode, measured once and kept."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_bridge.experiments.rule_benchmark.store import Store
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, Rule, nested_plans, score_units, within_forward_cost
from vlm_bridge.runtime.files import read_json, write_json

#: Of what rules share (`vlm_bridge.rules.measure`, the estimators): raise it when that changes the
#: scores of several rules; a rule of its own raises its `version`.
SCORES_VERSION = 1


@dataclass(frozen=True)
class Ranked:
    """What a rule says of one mode.

    Attributes:
        scores: one for each unit, the lower, the safer.
        spent: what its measurements cost in forward-pass equivalents, by name.
        plans: its nested plans, from the smallest to the largest.
    """

    scores: list[float]
    spent: dict[str, float]
    plans: list[SkipPlan]


def ranked(
    rule: Rule, mode: str, evidence: Evidence, store: Store, *, forward_cost: float | None = None
) -> Ranked:
    """Scores and plans of a rule; those of the same versions on the same images are read.

    Args:
        rule: any that has the mode.
        mode: of the units.
        evidence: on the split `profiling` of the store.
        store: of the model.
        forward_cost: what the rule may cost, in forward passes over all of the evidence; a dearer
            one sees fewer images (`within_forward_cost`). None is whatever it takes.

    Raises:
        BridgeError: the rule cannot be measured, or not for so little.
    """
    key = [repr(rule), rule.version, SCORES_VERSION, store.hashes["profiling"], forward_cost]
    path = store.kept(f"{rule.name}-{mode}", key)
    if path is not None and path.is_file():
        body = read_json(path, "scores of a rule")
        plans = [SkipPlan.from_json(one) for one in body["plans"]]
        return Ranked(body["scores"], body["spent"], plans)
    part = evidence
    if forward_cost is not None:
        rule, part = within_forward_cost(rule, evidence, mode, forward_cost)
    part.spent.pop(rule.name, None)  # its account in this mode alone
    scores = score_units(rule, part, mode).tolist()
    plans = nested_plans(rule, part, mode)
    share = len(part.items) / len(evidence.items)
    spent = {name: cost * share for name, cost in part.spent.get(rule.name, {}).items()}
    found = Ranked(scores, spent, plans)
    if path is not None:
        made = [plan.to_json() for plan in plans]
        write_json(path, {"scores": scores, "spent": found.spent, "plans": made})
    return found
