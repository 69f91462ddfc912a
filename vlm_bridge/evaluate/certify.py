"""A promise about a plan on images that chose nothing, with a probability attached."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from theory import Certificate, certify_mean, label_free_drop
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import paired_outcomes
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan

QUANTITIES = ("disagreement", "accuracy_drop")
#: Methods that certify an accuracy drop and nothing else.
DROP_ONLY = ("harm", "label-free")


def certify(
    vlm: VLM,
    items: Iterable[Item] | FullAnswers,
    plan: SkipPlan,
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    quantity: str = "disagreement",
    method: str = "auto",
    batch_size: int = 16,
    max_new_tokens: int = 8,
    checkpoint: Path | None = None,
) -> Certificate:
    """Bound what `plan` does to the answers, with probability at least `1 - delta`.

    `disagreement` needs no labels and bounds the accuracy drop too
    (`theory.conditions.drop_bound_from_disagreement`); the method `label-free` turns it into
    a certificate of the drop. The independent unit is the image.

    Args:
        vlm: the model.
        items: certification questions, drawn like those of later use; or the full model's
            answers to them, which several plans can share (all settings but
            `batch_size` are then those of the answers).
        plan: chosen without looking at `items`.
        epsilon: what is asked; `holds` says whether the bound is at most this.
        delta: probability with which the bound may be wrong.
        quantity: `disagreement` or `accuracy_drop`.
        method: `auto`, `betting`, `empirical-bernstein`, `hoeffding`, `hoeffding-bentkus`,
            `clopper-pearson` (disagreement only), `harm` (drop only); see
            `theory.certify_mean`. `label-free` (drop only) reads no labels and certifies the
            disagreement in the `auto` way.
        batch_size: questions in a batch.
        max_new_tokens: longest answer.
        checkpoint: a file every finished batch is added to, so that a second call continues.

    Raises:
        BridgeError: bad arguments, labels missing for a drop, images that also tuned the plan,
            a checkpoint of another run, or, under `torchrun`, a rank that died.
    """
    outcomes = _outcomes_of_others(vlm, items, plan, batch_size, max_new_tokens, checkpoint)
    return certificate_of(
        plan, outcomes, epsilon=epsilon, delta=delta, quantity=quantity, method=method
    )


def certify_both(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan,
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    method: str = "auto",
    batch_size: int = 16,
    max_new_tokens: int = 8,
    checkpoint: Path | None = None,
) -> list[Certificate]:
    """Certificates of disagreement and, where there are labels, of the accuracy drop.

    One run of both models serves both; with the method `label-free` the drop needs no labels.
    Each holds with probability `1 - delta`; for both at once pass half of delta. Arguments
    and errors as in `certify`.
    """
    outcomes = _outcomes_of_others(vlm, items, plan, batch_size, max_new_tokens, checkpoint)
    # Clopper-Pearson counts failures, a drop is a difference; and some methods know drops only.
    mine = "auto" if method in DROP_ONLY else method
    other = "auto" if method == "clopper-pearson" else method
    first = certificate_of(plan, outcomes, epsilon=epsilon, delta=delta, method=mine)
    if outcomes.drop is None and method != "label-free":
        return [first]
    quantity = "accuracy_drop"
    return [
        first,
        certificate_of(
            plan, outcomes, epsilon=epsilon, delta=delta, quantity=quantity, method=other
        ),
    ]


def _outcomes_of_others(
    vlm: VLM,
    items: Iterable[Item] | FullAnswers,
    plan: SkipPlan,
    batch_size: int,
    max_new_tokens: int,
    checkpoint: Path | None,
) -> Outcomes:
    """Paired outcomes on images of which none tuned the plan."""
    asked = items.items if isinstance(items, FullAnswers) else tuple(items)
    shared = set(plan.source.get("tuning_images", ())) & set(image_hashes(asked))
    if shared:
        raise BridgeError(
            f"{len(shared)} of these images chose the plan, so they cannot certify it; "
            "use other images"
        )
    if isinstance(items, FullAnswers):
        return items.outcomes(vlm, plan, batch_size=batch_size, checkpoint=checkpoint)
    return paired_outcomes(
        vlm,
        asked,
        plan,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        checkpoint=checkpoint,
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
    if method == "label-free":
        if quantity != "accuracy_drop":
            raise BridgeError(f"label-free bounds an accuracy_drop, not a {quantity}; use auto")
        return label_free_drop(certificate_of(plan, outcomes, epsilon=epsilon, delta=delta))
    if quantity not in QUANTITIES:
        raise BridgeError(f"unknown quantity '{quantity}'; choose from {', '.join(QUANTITIES)}")
    values = outcomes.disagree if quantity == "disagreement" else outcomes.drop
    if values is None:
        raise BridgeError("an accuracy drop needs answers in the data; use the method label-free")
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
