"""Certificates of a plan for every kind of question, and for several risks, at one joint delta."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from theory import Certificate
from theory import certify_groups as groups_of_values
from theory import certify_risks as risks_of_values
from theory.certificates import GroupCertificates, RiskCertificates
from vlm_bridge.data import Item, items_hash, unit_word
from vlm_bridge.errors import BridgeError, among
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.certify import check_certifiable
from vlm_bridge.evaluate.from_outcomes import of_answers, signed
from vlm_bridge.evaluate.of_plan import GroupsOfPlan, RisksOfPlan
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.paired import paired_outcomes
from vlm_bridge.evaluate.spending import check_answerable, spend_on
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger, Spending

#: Ways to group questions, none of which reads an answer.
GROUPINGS: Mapping[str, Callable[[Item], str]] = {
    "opening": lambda item: " ".join(item.question.lower().split()[:2]),
    "question": lambda item: " ".join(item.question.lower().split()),
}


def certify_groups(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan | str,
    per: str | Callable[[Item], str] = "opening",
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    **run: Any,
) -> GroupsOfPlan:
    """Bound the disagreement of every kind of question, all bounds true together.

    `theory.certify_groups` on the answers of both models: each of G kinds has its own certificate
    at delta / G, with the image as the independent unit of each. It is the certificate that
    `certify` gives for the questions of that kind alone.

    Args:
        vlm: the model.
        items: certification questions, as for `certify`.
        plan: chosen without looking at `items`.
        per: how to group them: "opening" (first two words of a question), "question" (its text), or
            a function from an item to the name of its group, which must not depend on answers.
        epsilon: tolerance for each group.
        delta: probability that any of the bounds is wrong.
        **run: `batch_size`, `max_new_tokens`, `checkpoint` and `ledger` of `certify`; the ledger is
            charged delta once.

    Raises:
        BridgeError: as `certify`, or an unknown grouping.
    """
    grouping = GROUPINGS.get(per) if isinstance(per, str) else per
    if grouping is None:
        raise BridgeError(f"unknown grouping '{per}'; {among(per, GROUPINGS)}")
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = tuple(check_items(items))
    names = [grouping(item) for item in items]
    kind = {"quantity": "groups", "groups": names}
    outcomes, delta, spending = _outcomes(vlm, items, plan, delta, kind, **run)
    try:
        made = groups_of_values(
            outcomes.disagree,
            outcomes.clusters,
            names,
            quantity="disagreement",
            epsilon=epsilon,
            delta=delta,
            plan_hash=plan.hash(),
            unit_word=unit_word(items, 1),
        )
    except ValueError as error:
        raise BridgeError(str(error)) from None

    def of_group(name: str) -> Certificate:
        of = outcomes.at([place for place, each in enumerate(names) if each == name])
        plain = replace(made.certificates[name], data_hash=items_hash(of.items))
        return signed(of_answers(plain, of, drop=False), vlm, plan, spending)

    whole = {**_fields(made), "certificates": {name: of_group(name) for name in made.certificates}}
    return GroupsOfPlan(**whole, data_hash=items_hash(items))


def certify_risks(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan | str,
    limits: Mapping[str, float],
    *,
    delta: float = 0.05,
    control: str = "holm",
    **run: Any,
) -> RisksOfPlan:
    """Certify several risks of a plan at once: disagreement, accuracy_drop, length_change.

    `theory.certify_risks` on the answers of both models, by one run of them.

    Args:
        vlm: the model.
        items: certification questions, as for `certify`; an accuracy drop needs some labels.
        plan: chosen without looking at `items`.
        limits: quantity -> largest value; in the order of a fixed sequence.
        delta: probability that any certified risk is beyond its limit.
        control: "holm", "fixed-sequence", "bonferroni" or "all".
        **run: `batch_size`, `max_new_tokens`, `checkpoint` and `ledger` of `certify`; the ledger is
            charged delta once.

    Raises:
        BridgeError: as `certify`; unknown risks, control or limits.
    """
    known = ("disagreement", "accuracy_drop", "length_change")
    for name in limits:
        if name not in known:
            raise BridgeError(f"unknown risk '{name}'; {among(name, known)}")
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = tuple(check_items(items))
    if "accuracy_drop" in limits and all(item.answer is None for item in items):
        raise BridgeError("an accuracy drop needs answers in the data; leave that risk out")
    kind = {"quantity": "risks", "limits": list(limits.items()), "control": control}
    outcomes, delta, spending = _outcomes(vlm, items, plan, delta, kind, **run)
    values = {name: _losses(outcomes, name) for name in limits}
    word = unit_word(items, 1)
    try:
        made = risks_of_values(
            values, outcomes.clusters, limits=limits, delta=delta, control=control, unit_word=word
        )
    except (TypeError, ValueError) as error:
        raise BridgeError(str(error)) from None
    certificate = RisksOfPlan(**_fields(made), data_hash=items_hash(items), plan_hash=plan.hash())
    certificate = of_answers(certificate, outcomes, drop="accuracy_drop" in limits)
    return signed(certificate, vlm, plan, spending)


def _fields(record: GroupCertificates | RiskCertificates) -> dict[str, Any]:
    """The fields of a record by name, for one that adds to them."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _losses(outcomes: Outcomes, name: str) -> Sequence[float]:
    """One loss for each question."""
    losses = {
        "disagreement": outcomes.disagree,
        "accuracy_drop": outcomes.drop,
        "length_change": outcomes.length_change,
    }[name]
    assert losses is not None  # labels were checked; lengths are those of answers in words
    return losses


def _outcomes(
    vlm: VLM,
    items: Sequence[Item],
    plan: SkipPlan,
    delta: float,
    kind: Mapping[str, Any],
    *,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> tuple[Outcomes, float, Spending | None]:
    """Outcomes of both models, the delta that a ledger grants, and what it says of it."""
    check_certifiable(vlm, plan, items)
    sizes: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    spending = None
    if ledger is not None:
        check_answerable(vlm, items, plan, **sizes)
        run: Any = {"delta": delta, "plans": [plan.hash()], **kind, **sizes}
        spending = spend_on(ledger, "certification", vlm, items, **run)
        delta = spending.delta
    outcomes = paired_outcomes(vlm, items, plan, checkpoint=checkpoint, **sizes)
    return outcomes, delta, spending
