"""Certificates: bounds on what a plan changes, from images that were not used to choose it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from theory import Certificate, certify_mean, label_free_drop
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import paired_outcomes
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan

QUANTITIES = ("disagreement", "accuracy_drop")
#: Methods that certify only an accuracy drop.
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
    """Bound the share of answers that `plan` changes, with probability at least `1 - delta`.

    `disagreement` needs no labels and bounds the accuracy drop too
    (`theory.conditions.drop_bound_from_disagreement`); the method `label-free` turns it into
    a certificate of the drop. The independent unit is the image.

    Args:
        vlm: the model.
        items: certification questions, drawn like those of later use; or the full model's
            answers to them, which several plans can share (`max_new_tokens` is then theirs).
        plan: chosen without looking at `items`.
        epsilon: the certificate's `holds` says whether the bound is at most this.
        delta: probability that the bound is wrong.
        quantity: `disagreement` or `accuracy_drop`.
        method: one of `theory.certify_mean` (`clopper-pearson`: disagreement only, `harm`: drop
            only); or `label-free` (drop only), which certifies the disagreement with `auto`.
        batch_size: questions in a batch.
        max_new_tokens: longest answer.
        checkpoint: a file to which finished batches are added; a second call continues from it.

    Raises:
        BridgeError: bad arguments, labels missing for a drop, images that also tuned the plan,
            a checkpoint of another run, or, under `torchrun`, a rank that died.
    """
    outcomes = _untouched_outcomes(vlm, items, plan, batch_size, max_new_tokens, checkpoint)
    levels = {"epsilon": epsilon, "delta": delta}
    return certificate_of(plan, outcomes, **levels, quantity=quantity, method=method)


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

    Both come from one run of the two models; with the method `label-free` the drop needs no
    labels. Each holds with probability `1 - delta`; for both at once pass half of delta.
    Arguments and errors are those of `certify`.
    """
    outcomes = _untouched_outcomes(vlm, items, plan, batch_size, max_new_tokens, checkpoint)
    # Clopper-Pearson counts failures, a drop is a difference; some methods certify drops only.
    methods = {"disagreement": "auto" if method in DROP_ONLY else method}
    if outcomes.drop is not None or method == "label-free":
        methods["accuracy_drop"] = "auto" if method == "clopper-pearson" else method
    return [
        certificate_of(plan, outcomes, epsilon=epsilon, delta=delta, quantity=name, method=chosen)
        for name, chosen in methods.items()
    ]


def _untouched_outcomes(
    vlm: VLM,
    items: Iterable[Item] | FullAnswers,
    plan: SkipPlan,
    batch_size: int,
    longest: int,
    checkpoint: Path | None,
) -> Outcomes:
    """Outcomes of `plan`; refuses images that chose it."""
    asked = items.items if isinstance(items, FullAnswers) else tuple(items)
    shared = set(plan.source.get("tuning_images", ())) & set(image_hashes(asked))
    if shared:
        raise BridgeError(f"{len(shared)} of these images chose the plan; certify it on others")
    run: dict[str, Any] = {"batch_size": batch_size, "checkpoint": checkpoint}
    if isinstance(items, FullAnswers):
        return items.outcomes(vlm, plan, **run)
    return paired_outcomes(vlm, asked, plan, max_new_tokens=longest, **run)


def certificate_of(
    plan: SkipPlan,
    outcomes: Outcomes,
    *,
    epsilon: float,
    delta: float,
    quantity: str = "disagreement",
    method: str = "auto",
) -> Certificate:
    """The certificate from given outcomes; see `certify`."""
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
