"""Every single-layer skip, every exit and entry depth, against the full model; resumable.

What plans share is computed once: a plan starts from the full model's states at the first
layer it touches (token pruning: at the layer whose attention it reads), and an entry at layer
a starts from the text-only states of the entry before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.first_token import DECISION, _words, first_tokens, starts_right
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import run_batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import MODES, RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.support import check_support

#: What is swept unless modes are named: one layer or one depth a plan.
SWEPT = ("block", "freeze", "early_exit", "late_entry")
#: Shares of vision tokens that swept token prunings keep.
SHARES = (0.5, 0.25, 0.1)


def sweep_plans(
    n_layers: int,
    *,
    step: int = 1,
    modes: Sequence[str] = SWEPT,
    keep: Sequence[float] = SHARES,
) -> list[SkipPlan]:
    """All single-layer and single-depth plans, every `step`-th of them, ends included.

    Args:
        n_layers: depth of the decoder.
        step: every so many layers and depths.
        modes: some of `RULE_MODES`. `sublayer` leaves out each attention, then each MLP;
            `token_pruning` crosses every depth from 1 on with every share in `keep`.
        keep: shares of vision tokens kept, for `token_pruning`.

    Raises:
        BridgeError: `step` below 1, an unknown mode, or a share outside (0, 1).

    Example:
        >>> [plan.describe() for plan in sweep_plans(2, modes=["sublayer"])][1]
        'skip attention of layers 1 (sublayer, 2 layers)'
    """
    if step < 1:
        raise BridgeError(f"the step of a sweep must be at least 1, got {step}")
    unknown = set(modes) - set(RULE_MODES)
    if unknown:
        raise BridgeError(
            f"a sweep has no mode {', '.join(sorted(unknown))}; it has {', '.join(RULE_MODES)}"
        )
    layers = sorted({*range(0, n_layers, step), n_layers - 1})
    depths = sorted({*range(0, n_layers + 1, step), n_layers})
    prunings = sorted({*depths[1:-1], 1, n_layers - 1} - {0})
    made = []
    for mode in map(MODES.__getitem__, modes):
        prunes = "keep" in mode.takes
        places = layers if mode.by == "layer" else prunings if prunes else depths
        for share in keep if prunes else (1.0,):
            at_each = [mode.at(place, share) for place in places]
            made += [
                SkipPlan(mode.name, n_layers, **fields)
                for same_part in zip(*at_each, strict=True)
                for fields in same_part
            ]
    return made


def sweep(
    vlm: VLM,
    items: Iterable[Item],
    plans: Sequence[SkipPlan],
    *,
    checkpoint: Path | None = None,
    batch_size: int = 16,
) -> list[Comparison]:
    """Compare every plan with the full model on the same items.

    What is compared is the first answer token (its argmax, and its whole distribution);
    it counts as right where it is the first token of the true answer. Under `torchrun` the
    batches are dealt out to the ranks, and every rank gets all comparisons.

    Args:
        vlm: the model.
        items: the questions, with answers where accuracy is wanted.
        plans: as `sweep_plans` makes them; any plan works, those share most.
        checkpoint: a file every finished batch is added to; a second call with the same
            model, items and plans continues after the last one.
        batch_size: questions in a batch.

    Raises:
        BridgeError: the model cannot do a plan, there are no items, the checkpoint is of another
            run, or another rank died.
    """
    found = sweep_outcomes(vlm, items, plans, checkpoint=checkpoint, batch_size=batch_size)
    return [Comparison.of(p, o, DECISION) for p, o in zip(plans, found, strict=True)]


def sweep_outcomes(
    vlm: VLM,
    items: Iterable[Item],
    plans: Sequence[SkipPlan],
    *,
    checkpoint: Path | None = None,
    batch_size: int = 16,
) -> list[Outcomes]:
    """As `sweep`, question by question: what scores of rules are held against.

    Raises:
        BridgeError: as `sweep`.
    """
    items = list(items)
    for plan in plans:
        check_support(vlm, plan)
    found = run_batches(
        vlm,
        items,
        lambda batch: [outcomes.columns() for outcomes in _run_batch(vlm, batch, plans)],
        batch_size=batch_size,
        title=f"sweep of {len(plans)} plans",
        checkpoint=checkpoint,
        key={
            "run": "sweep",
            "model": vlm.name,
            "data": items_hash(items),
            "plans": [plan.hash() for plan in plans],
            "batch_size": batch_size,
        },
    )
    parts = [[Outcomes.of_columns(chosen, c) for c in columns] for chosen, columns in found]
    return [Outcomes.join(per_plan) for per_plan in zip(*parts, strict=True)]


def _run_batch(vlm: VLM, batch: Batch, plans: Sequence[SkipPlan]) -> list[Outcomes]:
    full, skipped = first_tokens(vlm, batch, plans)
    judge = starts_right(vlm)
    said = (_words(vlm, full), full)
    return [Outcomes.of(batch.items, said, (_words(vlm, one), one), judge=judge) for one in skipped]
