"""A promise about a plan on images that chose nothing, with a probability attached."""

from __future__ import annotations

from collections.abc import Sequence

from theory import Certificate, certify_mean
from vlm_bridge.comparison import Outcomes, paired_outcomes
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan import SkipPlan
from vlm_bridge.vlm import VLM

QUANTITIES = ("disagreement", "accuracy_drop")


def certify(
    vlm: VLM,
    plan: SkipPlan,
    items: Sequence[Item],
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    quantity: str = "disagreement",
    method: str = "auto",
    size: int = 16,
    max_new_tokens: int = 8,
) -> Certificate:
    """Bound what `plan` does to the answers, with probability at least `1 - delta`.

    `disagreement` needs no labels and bounds the accuracy drop too, since an accuracy can
    only fall where an answer changes. The independent unit is the image.

    Args:
        vlm: the model.
        plan: chosen without looking at `items`.
        items: certification questions, drawn like those of later use.
        epsilon: what is asked; `holds` says whether the bound is at most this.
        delta: probability with which the bound may be wrong.
        quantity: `disagreement` or `accuracy_drop`.
        method: `auto`, `betting`, `clopper-pearson` (disagreement only) or `hoeffding`; see
            `theory.certify_mean`.
        size: batch size.
        max_new_tokens: longest answer.

    Raises:
        BridgeError: bad arguments, labels missing for a drop, images that also tuned the plan.
    """
    if plan.source.get("tuning_hash") == items_hash(items):
        raise BridgeError("these items chose the plan, so they cannot certify it; use other images")
    outcomes = paired_outcomes(vlm, plan, items, size=size, max_new_tokens=max_new_tokens)
    return certificate_of(
        plan, outcomes, epsilon=epsilon, delta=delta, quantity=quantity, method=method
    )


def certificate_of(
    plan: SkipPlan,
    outcomes: Outcomes,
    *,
    epsilon: float,
    delta: float,
    quantity: str = "disagreement",
    method: str = "auto",
) -> Certificate:
    """The certificate from outcomes already at hand; see `certify`."""
    if quantity not in QUANTITIES:
        raise BridgeError(f"unknown quantity '{quantity}'; choose from {', '.join(QUANTITIES)}")
    values = outcomes.disagree if quantity == "disagreement" else outcomes.drop
    if values is None:
        raise BridgeError("an accuracy drop needs answers in the data; certify disagreement")
    try:
        return certify_mean(
            values,
            outcomes.clusters,
            quantity=quantity,
            epsilon=epsilon,
            delta=delta,
            method=method,
            data_hash=items_hash(outcomes.items),
            plan_hash=plan.hash(),
        )
    except ValueError as error:
        raise BridgeError(str(error)) from None
