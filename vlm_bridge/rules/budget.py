"""The same number of forward passes for every rule."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Rule, nested_plans, score_units


def within_passes(
    rule: Rule, evidence: Evidence, mode: str, passes: float
) -> tuple[Rule, Evidence]:
    """A rule and the part of the evidence it can look at for `passes` passes over all of it.

    `Rule.within` does what the rule can do itself: `skip-it-runs` runs as many candidates as fit.
    What any rule then still costs it costs for every question, so it looks at the first so many
    images: the price of one image is measured on the first, by the evidence's own account.

    Args:
        rule: the rule.
        evidence: with the model.
        mode: one of the rule's modes.
        passes: forward-pass equivalents, 1 being a full pass over all questions of the evidence.

    Raises:
        BridgeError: passes not positive, or too few for a single image.

    Example:
        >>> rule, part = within_passes(find_rule("shortv"), evidence, "freeze", 4.0)
        ... # doctest: +SKIP
        >>> len(part.items) / len(evidence.items)  # it costs 16.5 on 30 layers # doctest: +SKIP
        0.24
    """
    if not passes > 0:
        raise BridgeError(f"a budget is a positive number of forward passes, got {passes}")
    rule = rule.within(passes)
    images = list(dict.fromkeys(evidence.groups))
    trial = evidence.part(images[:1])
    score_units(rule, trial, mode)
    nested_plans(rule, trial, mode)
    price = sum(trial.spent.get(rule.name, {}).values())
    questions = passes * len(evidence.items)
    kept: list[str] = []
    for image in images:
        questions -= price * evidence.groups.count(image)
        if questions < -1e-9:
            break
        kept.append(image)
    if not kept:
        raise BridgeError(
            f"rule '{rule.name}' costs {price:.1f} forward passes for every question; {passes:g} "
            f"passes over {len(evidence.items)} questions do not pay for one image"
        )
    return rule, evidence if len(kept) == len(images) else evidence.part(kept)
