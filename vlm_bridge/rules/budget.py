"""The same number of forward passes for every rule."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Rule, nested_plans, score_units


def within_forward_cost(
    rule: Rule, evidence: Evidence, mode: str, forward_cost: float
) -> tuple[Rule, Evidence]:
    """A rule and the part of the evidence it can look at for `forward_cost` passes over all of it.

    `Rule.within` does what the rule can do itself: `skip-it-runs` runs as many candidates as fit.
    What any rule then still costs it costs for every question, so it looks at the first so many
    images: the price of one image is measured on the first, by the evidence's own account.

    Args:
        rule: the rule.
        evidence: with the model.
        mode: one of the rule's modes.
        forward_cost: forward-pass equivalents; 1 is a full pass over all questions of the evidence.

    Raises:
        BridgeError: forward_cost not positive, or too few for a single image.

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
    kept: list[str] = []
    for image in images:
        questions -= price * evidence.clusters.count(image)
        if questions < -1e-9:
            break
        kept.append(image)
    if not kept:
        raise BridgeError(
            f"rule '{rule.name}' costs {price:.1f} forward passes for every question; "
            f"{forward_cost:g} passes over {len(evidence.items)} questions do not pay for one image"
        )
    return rule, evidence if len(kept) == len(images) else evidence.part(kept)
