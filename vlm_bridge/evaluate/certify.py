"""Certificates: bounds on what a plan changes, from images that were not used to choose it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from theory import Certificate, certify_drop, certify_mean, label_free_drop
from theory.certificates import AT_LIMIT
from theory.certificates.certificate import unused
from vlm_bridge.data import Item, items_hash, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.compare import paired_outcomes
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.of_plan import RisksOfPlan
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.reach import Reach, check_method, check_quantity, log_reach, reach
from vlm_bridge.evaluate.spending import check_answerable, check_unspent, granted_to, spend_on
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AnyPlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger, Spending
from vlm_bridge.skip import check_support

#: Certificates that one model and one plan sign.
S = TypeVar("S", Certificate, RisksOfPlan)
#: Methods that certify only an accuracy drop.
DROP_ONLY = ("harm", "label-free")
_UNLABELLED = "an accuracy drop needs answers in the data; use the method label-free"
EMPTY = "the plan skips nothing"
BY_IMAGE = "every image counts once, however many questions it has"
NEVER_RIGHT = (
    "the full model answers none of these questions as labelled, so it has no accuracy to lose"
)
HAND_MADE = "the plan is made by hand, it names neither a model nor the data that chose it"


def certify(
    vlm: VLM,
    items: Iterable[Item] | FullAnswers,
    plan: SkipPlan | str,
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    quantity: str = "disagreement",
    method: str = "auto",
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> Certificate:
    """Bound the share of answers that `plan` changes, with probability at least `1 - delta`.

    It is the mean over images of the share of an image's questions whose answer changes: every
    image counts once, however many questions it has.

    An answer is the greedy text up to `max_new_tokens` tokens, without special tokens and outer
    white space; it changes if that text does. Where more than 1 % of the full model's answers reach
    that length, the certificate says that it does not speak of what follows.

    `disagreement` needs no labels and bounds the accuracy drop too; the method `label-free` turns
    it into a certificate of the drop. With labels `accuracy_drop` is never looser than that
    (`theory.certify_drop`); a question without one counts as lost if its answer changed. An answer
    is right if its `normalise`d form is that of the label. The independent unit is the image.

    Before the run a log line of `vlm_bridge` says which epsilon the images can reach (`reach`), as
    a warning if the one asked for is out of reach. `theory.what_it_takes` explains a failure.

    Args:
        vlm: the model.
        items: certification questions, drawn like those of later use; or the full model's
            answers to them, which several plans can share (`max_new_tokens` is then theirs).
        plan: chosen without looking at `items`.
        epsilon: the certificate's `holds` says whether the bound is at most this.
        delta: probability that the bound is wrong.
        quantity: `disagreement` or `accuracy_drop`.
        method: one of `theory.certify_mean` (`clopper-pearson`: disagreement only) or, for a
            drop, of `theory.certify_drop`; or `label-free` (drop only), which certifies the
            disagreement with `auto`.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        checkpoint: a file to which finished batches are added; a second call continues from it.
        ledger: a file that knows what was spent on these images; see `Ledger`. The certificate
            gets at most the delta that is left. Without one it assumes that the images were not
            used before, and its sentence says so.

    Raises:
        BridgeError: bad arguments, no labels for a drop, a broken model, a plan of another model,
            images or clusters that also chose, tuned or certified the plan, no delta left, a
            checkpoint of another run, or, under `torchrun`, a rank that died.
    """
    levels: Any = {"epsilon": epsilon, "delta": delta}
    kind: Any = {"quantity": quantity, "method": method}
    check_quantity(quantity, method)
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = items if isinstance(items, FullAnswers) else tuple(check_items(items))
    asked, longest = _asked(items, max_new_tokens)
    check_certifiable(vlm, plan, asked)
    if quantity == "accuracy_drop" and method != "label-free":
        _check_labelled(asked)
    sizes: Any = {"batch_size": batch_size, "max_new_tokens": longest}
    run: Any = {"delta": delta, **kind, "plans": [plan.hash()], **sizes}
    spending = None
    if ledger is not None:
        levels["delta"] = granted_to(ledger, "certification", vlm, asked, **run).delta
    if not isinstance(items, FullAnswers):  # who asks about several plans has said it already
        found = reach(items, **levels, **kind)
        log_reach(found.sentence(), found.possible)
    if ledger is not None:
        check_answerable(vlm, asked, plan, **sizes)
        spending = spend_on(ledger, "certification", vlm, asked, **run)
        levels["delta"] = spending.delta
    outcomes = _outcomes(vlm, items, plan, batch_size, max_new_tokens, checkpoint)
    return signed(certificate_of(plan, outcomes, **levels, **kind), vlm, plan, spending)


def certify_both(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan | str,
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    method: str = "auto",
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> list[Certificate]:
    """Certificates of disagreement and, where there is any label, of the accuracy drop.

    Both come from one run of the two models; with the method `label-free` the drop needs no
    labels. The bound of the drop is at most that of the disagreement, except with
    `empirical-bernstein`, or with `harm` and several questions per image. Each holds with
    probability `1 - delta`; for both at once pass half of delta. A ledger is charged twice delta
    where both are made, unless the one follows from the other (`label-free`). Arguments and errors
    are those of `certify`.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    asked = tuple(check_items(items))
    check_certifiable(vlm, plan, asked)
    sizes: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    shared: Any = {"delta": delta, "method": method, "ledger": ledger, **sizes}
    found = reach_of_both(vlm, asked, plan, epsilon=epsilon, **shared)
    log_reach(found.sentence(), found.possible)
    spending = None
    if ledger is not None:
        check_answerable(vlm, asked, plan, **sizes)
        times, run = _run_of_both(asked, plan, delta=delta, method=method, **sizes)
        spending = spend_on(ledger, "certification", vlm, asked, **run)
        delta = spending.delta / times
    outcomes = _outcomes(vlm, asked, plan, batch_size, max_new_tokens, checkpoint)
    # Clopper-Pearson counts changed answers; of a drop it counts the harmed ones.
    methods = {"disagreement": "auto" if method in DROP_ONLY else method}
    if outcomes.drop is not None or method == "label-free":
        methods["accuracy_drop"] = "harm" if method == "clopper-pearson" else method
    certificates = (
        certificate_of(plan, outcomes, epsilon=epsilon, delta=delta, quantity=name, method=chosen)
        for name, chosen in methods.items()
    )
    return [signed(certificate, vlm, plan, spending) for certificate in certificates]


def reach_of_both(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan,
    *,
    epsilon: float,
    delta: float,
    method: str,
    batch_size: int,
    max_new_tokens: int,
    ledger: Ledger | str | Path | None,
) -> Reach:
    """What `certify_both` can reach at the delta that the ledger would grant; none is spent."""
    asked = tuple(items)
    check_method(method)
    if ledger is not None:
        sizes: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        times, run = _run_of_both(asked, plan, delta=delta, method=method, **sizes)
        delta = granted_to(ledger, "certification", vlm, asked, **run).delta / times
    return reach(asked, epsilon=epsilon, delta=delta, method=method)


def _run_of_both(
    items: Sequence[Item], plan: SkipPlan, *, delta: float, method: str, **sizes: int
) -> tuple[int, dict[str, Any]]:
    """How many deltas `certify_both` asks for, and its run, for a ledger."""
    labelled = any(item.answer for item in items) and method != "label-free"
    times, kind = (2 if labelled else 1), {"quantity": "both", "method": method}
    return times, {"delta": times * delta, "plans": [plan.hash()], **kind, **sizes}


def check_certifiable(vlm: VLM, plan: SkipPlan, items: Iterable[Item]) -> None:
    """Raise a `BridgeError` unless `vlm` supports `plan`, and `items` are not spent on it."""
    check_unspent(plan, items)
    check_support(vlm, plan)


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


def _check_labelled(items: Iterable[Item]) -> None:
    """Raise a `BridgeError` if no question has a label."""
    if all(item.answer is None for item in items):
        raise BridgeError(_UNLABELLED)


def _asked(items: Sequence[Item] | FullAnswers, longest: int) -> tuple[Sequence[Item], int]:
    """The questions, and the longest answer to them."""
    if isinstance(items, FullAnswers):
        return items.items, items.max_new_tokens
    return items, longest


def _outcomes(
    vlm: VLM,
    items: Sequence[Item] | FullAnswers,
    plan: SkipPlan,
    batch_size: int,
    longest: int,
    checkpoint: Path | None,
) -> Outcomes:
    """Outcomes of `plan` against the full model."""
    run: dict[str, Any] = {"batch_size": batch_size, "checkpoint": checkpoint}
    if isinstance(items, FullAnswers):
        return items.outcomes(vlm, plan, **run)
    return paired_outcomes(vlm, items, plan, max_new_tokens=longest, **run)


def certificate_of(
    plan: AnyPlan,
    outcomes: Outcomes,
    *,
    epsilon: float,
    delta: float,
    quantity: str = "disagreement",
    method: str = "auto",
) -> Certificate:
    """The certificate from given outcomes; see `certify`."""
    check_quantity(quantity, method)
    if method == "label-free":
        return label_free_drop(certificate_of(plan, outcomes, epsilon=epsilon, delta=delta))
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
            raise BridgeError(_UNLABELLED)
        else:
            made = certify_drop(drop, changed, clusters, **options)
    except ValueError as error:
        raise BridgeError(str(error)) from None
    return of_answers(made, outcomes, drop=quantity == "accuracy_drop")


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
    if len(set(Counter(outcomes.clusters).values())) > 1:
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
