"""Every single-layer skip, exit depth and entry depth against the full model; resumable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison, check_images
from vlm_bridge.evaluate.first_token import DECISION, first_tokens, starts_right, words
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.given import check_items, check_vlm, given_plans
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import MODES, RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.skip.support import check_support

#: Modes swept by default: whole layers, and depths.
SWEPT = ("block", "freeze", "early_exit", "late_entry")
#: Shares of vision tokens that token prunings keep by default.
SHARES = (0.5, 0.25, 0.1)


def sweep_plans(
    n_layers: int,
    *,
    step: int = 1,
    modes: Sequence[str] = SWEPT,
    keep: Sequence[float] = SHARES,
    stack: str = DECODER,
) -> list[SkipPlan]:
    """All single-layer and single-depth plans, every `step`-th of them, ends included.

    Args:
        n_layers: number of layers of the stack.
        step: distance between layers and between depths.
        modes: some of `RULE_MODES`. `sublayer` leaves out each attention, then each MLP;
            `token_pruning` pairs every depth from 1 on with every share in `keep`.
        keep: shares of vision tokens kept, for `token_pruning`.
        stack: the stack that the plans are about; encoders have the modes block and sublayer.

    Raises:
        BridgeError: `step` below 1, a mode that is unknown or that the stack does not have, or a
            share outside (0, 1).

    Example:
        >>> [plan.describe() for plan in sweep_plans(2, modes=["sublayer"])][1]
        'skip attention of layer 1 (sublayer, 2 layers)'
    """
    if step < 1:
        raise BridgeError(f"the step of a sweep must be at least 1, got {step}")
    unknown = set(modes) - set(RULE_MODES)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise BridgeError(f"a sweep has no mode {names}; it has {', '.join(RULE_MODES)}")
    layers = sorted({*range(0, n_layers, step), n_layers - 1})
    depths = sorted({*range(0, n_layers + 1, step), n_layers})
    prunings = sorted({*depths[1:-1], 1, n_layers - 1} - {0})
    plans = []
    for mode in map(MODES.__getitem__, modes):
        prunes = "keep" in mode.takes
        places = layers if mode.by == "layer" else prunings if prunes else depths
        for share in keep if prunes else (1.0,):
            parts = zip(*(mode.at(place, share) for place in places), strict=True)
            fields = [at for part in parts for at in part]
            plans += [SkipPlan(mode.name, n_layers, stack=stack, **at) for at in fields]
    return plans


def sweep(
    vlm: VLM,
    items: Iterable[Item],
    plans: Sequence[SkipPlan | str],
    *,
    checkpoint: Path | None = None,
    batch_size: int = 16,
) -> list[Comparison]:
    """Compare every plan with the full model by the first answer token of the same items.

    Two first tokens agree if they are the same token. One is right if it begins the true answer;
    without labels there is no accuracy.
    Each plan starts from the full model's states at the first layer that it changes, so the plans
    of `sweep_plans` share most of their computation. Under `torchrun` the batches are shared among
    the ranks, and every rank gets all comparisons. Finished batches are added to the file
    `checkpoint`; a second call with the same model, items and plans continues from it.

    Raises:
        BridgeError: the model cannot do a plan, there are no items, the checkpoint is of another
            run, or another rank died.
    """
    check_vlm(vlm)
    items = check_items(items)
    check_images(items)
    chosen = given_plans(vlm, plans)
    outcomes = sweep_outcomes(vlm, items, chosen, checkpoint=checkpoint, batch_size=batch_size)
    return [Comparison.of(p, o, DECISION, vlm) for p, o in zip(chosen, outcomes, strict=True)]


def sweep_outcomes(
    vlm: VLM,
    items: Iterable[Item],
    plans: Sequence[SkipPlan],
    *,
    checkpoint: Path | None = None,
    batch_size: int = 16,
) -> list[Outcomes]:
    """The outcomes of each plan, question by question; arguments and errors as `sweep`."""
    items = list(items)
    for plan in plans:
        check_support(vlm, plan)
    hashes = [plan.hash() for plan in plans]
    results = run_batches(
        vlm,
        items,
        lambda batch: [outcomes.columns() for outcomes in _run_batch(vlm, batch, plans)],
        lambda result, n: (
            is_list_of(result, dict, len(plans))
            and all(Outcomes.are_columns(each, n, kl=True, at_limit=False) for each in result)
        ),
        batch_size=batch_size,
        title=f"sweep of {len(plans)} plans",
        checkpoint=checkpoint,
        key=run_key("sweep", vlm, items, plans=hashes, batch_size=batch_size),
    )
    places = range(len(plans))
    return [Outcomes.of_batches((asked, columns[i]) for asked, columns in results) for i in places]


def _run_batch(vlm: VLM, batch: Batch, plans: Sequence[SkipPlan]) -> list[Outcomes]:
    full, skipped = first_tokens(vlm, batch, plans)
    judge, answers, ids = starts_right(vlm), (words(vlm, full), full), full.argmax(-1)

    def outcomes(of_plan: Tensor) -> Outcomes:
        made = Outcomes.of(batch.items, answers, (words(vlm, of_plan), of_plan), judge=judge)
        # Two tokens may have one text: parts of a character, or the same word after a space.
        changed = tuple((of_plan.argmax(-1) != ids).double().tolist())
        # One token is no transcript.
        return replace(made, disagree=changed, errors_full=None, errors_skipped=None)

    return [outcomes(of_plan) for of_plan in skipped]
