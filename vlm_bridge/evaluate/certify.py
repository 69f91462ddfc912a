"""Certificates: bounds on what a plan changes, from images that were not used to choose it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from theory import Certificate
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.from_outcomes import UNLABELLED, certificate_of, signed
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.paired import paired_outcomes
from vlm_bridge.evaluate.reach import Reach, check_method, check_quantity, log_reach, reach
from vlm_bridge.evaluate.scorers import EXACT, Function, Scorer, find_scorer
from vlm_bridge.evaluate.scorers.protocol import certifiable, method_of_drop
from vlm_bridge.evaluate.spending import check_answerable, check_unspent, granted_to, spend_on
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.skip import check_support

#: Methods that certify only an accuracy drop.
DROP_ONLY = ("harm", "label-free")


def certify(
    vlm: VLM,
    items: Iterable[Item] | FullAnswers,
    plan: SkipPlan | str,
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    quantity: str | None = None,
    method: str = "auto",
    scorer: str | Function | Scorer = EXACT,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> Certificate:
    """Bound the share of answers that `plan` changes, with probability at least `1 - delta`.

    It is the mean over images of the share of an image's questions whose answer changes: every
    image counts once, however many questions it has. Questions about several images that share one,
    directly or through others, are one unit and count once: if one image is in half of all
    questions, the certificate says little about a new question, and it says how large that unit is.

    An answer is the greedy text up to `max_new_tokens` tokens, without special tokens and outer
    white space; it changes if that text does. Where more than 1 % of the full model's answers reach
    that length, the certificate says that it does not speak of what follows.

    `disagreement` needs no labels and bounds the accuracy drop too; the method `label-free` turns
    it into a certificate of the drop. With labels `accuracy_drop` is never looser than that
    (`theory.certify_drop`); a question without one counts as lost if its answer changed. An answer
    is right if its `normalise`d form is that of a label. Another `scorer` in [0, 1] puts the drop
    of its mean in place of that of accuracy. The independent unit is the image.

    Before the run a log line of `vlm_bridge` says which epsilon the images can reach (`reach`), as
    a warning if the one asked for is out of reach. `theory.what_it_takes` explains a failure.

    Args:
        vlm: the model.
        items: certification questions, drawn like those of later use; or the full model's
            answers to them, which several plans can share (`max_new_tokens` is then theirs).
        plan: chosen without looking at `items`.
        epsilon: the certificate's `holds` says whether the bound is at most this.
        delta: probability that the bound is wrong.
        quantity: `disagreement` or `accuracy_drop`; None is the drop with a scorer other than
            `exact`, else the disagreement.
        method: one of `theory.certify_mean` (`clopper-pearson`: disagreement only) or, for a
            drop, of `theory.certify_drop`; or `label-free` (drop only), which certifies the
            disagreement with `auto`.
        scorer: of an accuracy drop, a name or a function as `find_scorer` takes them; `auto` is
            betting for a score between 0 and 1.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        checkpoint: a file to which finished batches are added; a second call continues from it.
        ledger: a file that knows what was spent on these images; see `Ledger`. The certificate
            gets at most the delta that is left. Without one it assumes that the images were not
            used before, and its sentence says so.

    Raises:
        BridgeError: bad arguments, no labels for a drop, a score that depends on several questions,
            one with the quantity disagreement, a broken model, a plan of another model,
            images or clusters that also chose, tuned or certified the plan, no delta left, a
            checkpoint of another run, or, under `torchrun`, a rank that died.
    """
    levels: Any = {"epsilon": epsilon, "delta": delta}
    scorer = find_scorer(scorer)
    if quantity is None:
        quantity = "accuracy_drop" if scorer.settings else "disagreement"
    check_quantity(quantity, method)
    if quantity == "disagreement" and scorer.settings:
        raise BridgeError(
            f"the score {scorer.name} is of an accuracy_drop, not of a disagreement; leave the "
            "quantity out, or the scorer"
        )
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = items if isinstance(items, FullAnswers) else tuple(check_items(items))
    asked, longest = _asked(items, max_new_tokens)
    check_certifiable(vlm, plan, asked)
    scorer = certifiable(scorer, asked, method)
    if quantity == "accuracy_drop":
        method = method_of_drop(scorer, method)
        if method != "label-free":
            _check_labelled(asked, scorer)
    kind: Any = {"quantity": quantity, "method": method}
    sizes: Any = {"batch_size": batch_size, "max_new_tokens": longest}
    run: Any = {"delta": delta, **kind, "plans": [plan.hash()], **sizes, **scorer.settings}
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
    outcomes = _outcomes(vlm, items, plan, batch_size, max_new_tokens, checkpoint, scorer)
    made = certificate_of(plan, outcomes, **levels, **kind, scorer=scorer)
    return signed(made, vlm, plan, spending)


def certify_both(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan | str,
    *,
    epsilon: float = 0.02,
    delta: float = 0.05,
    method: str = "auto",
    scorer: str | Function | Scorer = EXACT,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> list[Certificate]:
    """Certificates of disagreement and, where there is any label, of the accuracy drop.

    Both come from one run of the two models; with the method `label-free` the drop needs no
    labels. The bound of the drop is at most that of the disagreement, except with
    `empirical-bernstein`, with `harm` and several questions per image, or with a score between 0
    and 1, whose bound is by betting where that of the disagreement counts. Each holds with
    probability `1 - delta`; for both at once pass half of delta. A ledger is charged twice delta
    where both are made, unless the one follows from the other (`label-free`). Arguments and errors
    are those of `certify`.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    asked = tuple(check_items(items))
    check_certifiable(vlm, plan, asked)
    sizes: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    scorer = certifiable(find_scorer(scorer), asked, method)
    shared: Any = {"delta": delta, "method": method, "ledger": ledger, **sizes, "scorer": scorer}
    found = reach_of_both(vlm, asked, plan, epsilon=epsilon, **shared)
    log_reach(found.sentence(), found.possible)
    spending = None
    if ledger is not None:
        check_answerable(vlm, asked, plan, **sizes)
        times, run = _run_of_both(asked, plan, scorer, delta=delta, method=method, **sizes)
        spending = spend_on(ledger, "certification", vlm, asked, **run)
        delta = spending.delta / times
    outcomes = _outcomes(vlm, asked, plan, batch_size, max_new_tokens, checkpoint, scorer)
    # Clopper-Pearson counts changed answers; of a drop it counts the harmed ones.
    methods = {"disagreement": "auto" if method in DROP_ONLY else method}
    if outcomes.drop is not None or method == "label-free":
        by = "harm" if method == "clopper-pearson" else method
        methods["accuracy_drop"] = method_of_drop(scorer, by)
    levels: Any = {"epsilon": epsilon, "delta": delta, "scorer": scorer}
    certificates = (
        certificate_of(plan, outcomes, quantity=name, method=chosen, **levels)
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
    scorer: str | Function | Scorer = EXACT,
) -> Reach:
    """What `certify_both` can reach at the delta that the ledger would grant; none is spent."""
    asked = tuple(items)
    check_method(method)
    if ledger is not None:
        sizes: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        found = find_scorer(scorer)
        times, run = _run_of_both(asked, plan, found, delta=delta, method=method, **sizes)
        delta = granted_to(ledger, "certification", vlm, asked, **run).delta / times
    return reach(asked, epsilon=epsilon, delta=delta, method=method)


def _run_of_both(
    items: Sequence[Item],
    plan: SkipPlan,
    scorer: Scorer,
    *,
    delta: float,
    method: str,
    **sizes: int,
) -> tuple[int, dict[str, Any]]:
    """How many deltas `certify_both` asks for, and its run, for a ledger."""
    labelled = _has_labels(items, scorer) and method != "label-free"
    times, kind = (2 if labelled else 1), {"quantity": "both", "method": method, **scorer.settings}
    return times, {"delta": times * delta, "plans": [plan.hash()], **kind, **sizes}


def check_certifiable(vlm: VLM, plan: SkipPlan, items: Iterable[Item]) -> None:
    """Raise a `BridgeError` unless `vlm` supports `plan`, and `items` are not spent on it."""
    check_unspent(plan, items)
    check_support(vlm, plan)


def _has_labels(items: Iterable[Item], scorer: Scorer) -> bool:
    """Whether some answers can be scored."""
    return not scorer.needs_labels or any(item.answer is not None for item in items)


def _check_labelled(items: Iterable[Item], scorer: Scorer) -> None:
    """Raise a `BridgeError` if no answer can be scored."""
    if not _has_labels(items, scorer):
        raise BridgeError(UNLABELLED)


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
    scorer: Scorer,
) -> Outcomes:
    """Outcomes of `plan` against the full model."""
    run: Any = {"batch_size": batch_size, "checkpoint": checkpoint, "scorer": scorer}
    if isinstance(items, FullAnswers):
        return items.outcomes(vlm, plan, **run)
    return paired_outcomes(vlm, items, plan, max_new_tokens=longest, **run)
