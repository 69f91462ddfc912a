"""An equal budget of forward passes for every rule."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Rule, nested_plans, score_units


def within_forward_cost(
    rule: Rule, evidence: Evidence, mode: str, forward_cost: float
) -> tuple[Rule, Evidence]:
    """The rule and the part of the evidence that fit a budget of forward passes over all of it.

    `Rule.within` adjusts the rule: `skip-it-runs` runs as many candidates as fit. The remaining
    cost per question is measured on the first image, and the rule reads as many images as fit.

    Raises:
        BridgeError: forward_cost is not positive, or does not pay for one image.

    Example:
        >>> rule, part = within_forward_cost(find_rule("shortv"), evidence, "freeze", 4.0)
        ... # doctest: +SKIP
        >>> len(part.items) / len(evidence.items)  # it costs 16.5 on 30 layers # doctest: +SKIP
        0.24
    """
    if not forward_cost > 0:
        raise BridgeError(f"a budget is a positive number of forward passes, got {forward_cost}")
    rule = rule.within(forward_cost)
    images = list(dict.fromkeys(evidence.clusters))
    trial = evidence.part(images[:1])
    score_units(rule, trial, mode)
    nested_plans(rule, trial, mode)
    price = sum(trial.spent.get(rule.name, {}).values())
    questions = forward_cost * len(evidence.items)
    affordable: list[str] = []
    for image in images:
        questions -= price * evidence.clusters.count(image)
        if questions < -1e-9:
            break
        affordable.append(image)
    if not affordable:
        raise BridgeError(
            f"rule '{rule.name}' costs {price:.1f} forward passes for every question; "
            f"{forward_cost:g} passes over {len(evidence.items)} questions do not pay for one image"
        )
    return rule, evidence if len(affordable) == len(images) else evidence.part(affordable)
