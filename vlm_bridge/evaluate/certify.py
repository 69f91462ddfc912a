"""Certificates: bounds on what a plan changes, from images that were not used to choose it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from theory import Certificate, certify_drop, certify_mean, label_free_drop
from theory.certificates import AT_LIMIT
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.compare import paired_outcomes
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.reach import log_reach
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
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
) -> Certificate:
    """Bound the share of answers that `plan` changes, with probability at least `1 - delta`.

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

    Raises:
        BridgeError: bad arguments, no labels for a drop, a broken model, images that also tuned
            the plan, a checkpoint of another run, or, under `torchrun`, a rank that died.
    """
    levels: Any = {"epsilon": epsilon, "delta": delta}
    if not isinstance(items, FullAnswers):  # who asks about several plans has said it already
        items = tuple(items)
        log_reach(items, **levels, quantity=quantity, method=method)
    outcomes = _untouched_outcomes(vlm, items, plan, batch_size, max_new_tokens, checkpoint)
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
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
) -> list[Certificate]:
    """Certificates of disagreement and, where there is any label, of the accuracy drop.

    Both come from one run of the two models; with the method `label-free` the drop needs no
    labels. The bound of the drop is at most that of the disagreement, except with
    `empirical-bernstein`, or with `harm` and several questions per image. Each holds with
    probability `1 - delta`; for both at once pass half of delta. Arguments and errors are those of
    `certify`.
    """
    asked = tuple(items)
    log_reach(asked, epsilon=epsilon, delta=delta, method=method)
    outcomes = _untouched_outcomes(vlm, asked, plan, batch_size, max_new_tokens, checkpoint)
    # Clopper-Pearson counts changed answers; of a drop it counts the harmed ones.
    methods = {"disagreement": "auto" if method in DROP_ONLY else method}
    if outcomes.drop is not None or method == "label-free":
        methods["accuracy_drop"] = "harm" if method == "clopper-pearson" else method
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
    options: Any = {
        "epsilon": epsilon,
        "delta": delta,
        "method": method,
        "data_hash": items_hash(outcomes.items),
        "plan_hash": plan.hash(),
    }
    changed, drop, clusters = outcomes.disagree, outcomes.drop, outcomes.clusters
    try:
        if quantity == "disagreement":
            made = certify_mean(changed, clusters, quantity=quantity, **options)
        elif drop is None:
            raise BridgeError(
                "an accuracy drop needs answers in the data; use the method label-free"
            )
        else:
            made = certify_drop(drop, changed, clusters, **options)
    except ValueError as error:
        raise BridgeError(str(error)) from None
    return replace(
        made,
        checked=(*made.checked, *_said_of_answers(outcomes)),
        max_new_tokens=outcomes.max_new_tokens,
        share_at_limit=outcomes.share_at_limit,
        n_unlabelled=outcomes.n_unlabelled,
    )


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
