"""Certificates from given outcomes, and whose they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from theory import Certificate, certify_drop, certify_mean, label_free_drop
from theory.certificates import AT_LIMIT
from theory.certificates.certificate import unused
from vlm_bridge.data import items_hash, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.of_plan import RisksOfPlan, of_score
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.reach import check_quantity
from vlm_bridge.evaluate.scorers import EXACT, Scorer
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AnyPlan
from vlm_bridge.runtime.ledger import Spending

#: Certificates that one model and one plan sign.
S = TypeVar("S", Certificate, RisksOfPlan)
UNLABELLED = "an accuracy drop needs answers in the data; use the method label-free"
EMPTY = "the plan skips nothing"
BY_IMAGE = "every image counts once, however many questions it has"
BY_UNIT = (
    "every unit counts once, and a unit is all questions that share an image, directly or through "
    "others: of {} units the largest holds {} of {} questions"
)
NEVER_RIGHT = (
    "the full model answers none of these questions as labelled, so it has no accuracy to lose"
)
HAND_MADE = "the plan is made by hand, it names neither a model nor the data that chose it"


def certificate_of(
    plan: AnyPlan,
    outcomes: Outcomes,
    *,
    epsilon: float,
    delta: float,
    quantity: str = "disagreement",
    method: str = "auto",
    scorer: Scorer = EXACT,
) -> Certificate:
    """The certificate from given outcomes, which `scorer` has scored; see `certify`."""
    check_quantity(quantity, method)
    if method == "label-free":
        free = label_free_drop(certificate_of(plan, outcomes, epsilon=epsilon, delta=delta))
        return of_score(free, scorer)
    options: Any = {
        "epsilon": epsilon,
        "delta": delta,
        "method": method,
        "data_hash": items_hash(outcomes.items),
        "plan_hash": plan.hash(),
        "unit_word": unit_word(outcomes.items, 1),
    }
    changed, drop, clusters = outcomes.disagree, outcomes.drop, outcomes.clusters
    try:
        if quantity == "disagreement":
            made = certify_mean(changed, clusters, quantity=quantity, **options)
        elif drop is None:
            raise BridgeError(UNLABELLED)
        else:
            made = certify_drop(drop, changed, clusters, **options)
    except ValueError as error:
        raise BridgeError(str(error)) from None
    return of_score(of_answers(made, outcomes, drop=quantity == "accuracy_drop"), scorer)


def of_answers(certificate: S, outcomes: Outcomes, *, drop: bool) -> S:
    """The certificate with what was compared; `drop` says whether it is about an accuracy drop."""
    return replace(
        certificate,
        checked=(*certificate.checked, *_said_of_answers(outcomes)),
        max_new_tokens=outcomes.max_new_tokens,
        share_at_limit=outcomes.share_at_limit,
        n_unlabelled=outcomes.n_unlabelled,
        caveats=(*certificate.caveats, *_caveats(outcomes, drop=drop)),
    )


def _caveats(outcomes: Outcomes, *, drop: bool) -> Iterator[str]:
    """What a reader of the certificate could get wrong."""
    counts = Counter(outcomes.clusters)
    if any(len(item.images) > 1 for item in outcomes.items):
        yield BY_UNIT.format(len(counts), max(counts.values()), len(outcomes.items))
    elif len(set(counts.values())) > 1:
        yield BY_IMAGE
    if drop and not any(outcomes.correct_full or [True]):
        yield NEVER_RIGHT


def _said_of_answers(outcomes: Outcomes) -> list[str]:
    """What was compared, and how many answers and labels were incomplete."""
    n, longest, cut = len(outcomes.items), outcomes.max_new_tokens, outcomes.share_at_limit
    if longest == 1:
        return [
            "the likeliest first answer token of both models was compared, and nothing after it"
        ]
    said = [
        f"greedy answers up to {longest} tokens were compared, as text without special tokens and "
        "outer white space"
    ]
    if cut is not None:
        verdict = "more" if cut > AT_LIMIT else "not more"
        number = round(cut * n)
        said.append(
            f"{number} of {n} answers of the full model reach {longest} tokens, "
            f"{verdict} than {AT_LIMIT:.0%}"
        )
    return said


def signed(certificate: S, vlm: VLM, plan: AnyPlan, spending: Spending | None = None) -> S:
    """The certificate with its model, what a ledger granted, and whether the plan has an origin."""
    assumed: tuple[str, ...] = certificate.assumed
    caveats: tuple[str, ...] = certificate.caveats
    if not plan.provenance.fingerprint:
        caveats = (*caveats, HAND_MADE)
    if plan.is_empty:
        caveats = (*caveats, EMPTY)
    if spending is not None:
        known: str = unused(certificate.n_images, certificate.unit_word)
        outside = f"{known} outside the ledger"
        independent = "the plan does not depend on earlier results on this data"
        assumed = (*(each for each in assumed if each != known), outside, independent)
    return replace(
        certificate,
        model=vlm.name,
        fingerprint=vlm.fingerprint,
        ledger="" if spending is None else f"{spending}, assuming no use outside it",
        assumed=assumed,
        caveats=caveats,
    )
