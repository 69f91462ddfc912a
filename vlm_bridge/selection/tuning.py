"""The path of a search, from tuning images: largest savings first, harmful plans given up early."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from estimators.clustered import image_mean
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.savings import saving
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.path import RUNGS, Step, lazy_path
from vlm_bridge.skip import supported_modes


def tuned_path(
    vlm: VLM,
    candidates: Sequence[SkipPlan],
    tuning: Iterable[Item],
    *,
    epsilon: float,
    rungs: Sequence[float] = RUNGS,
    batch_size: int = 16,
    max_new_tokens: int = 8,
    checkpoint: Path | None = None,
) -> list[Step]:
    """The steps that certification images will test, the safest first; see `pareto_path`.

    Candidates answer the tuning questions in the order of what they save, the largest first. One
    is given up as soon as too many answers have changed, and none is asked that could not be on
    the path.

    Args:
        vlm: the model.
        candidates: plans of any modes; those the model cannot do are left out.
        tuning: questions that choose.
        epsilon: what is to be promised.
        rungs: tuning rates of the path, as shares of epsilon.
        batch_size: questions in a batch.
        max_new_tokens: longest answer.
        checkpoint: a folder in which finished batches are kept, so that a second call continues.

    Raises:
        BridgeError: no candidates or none that the model supports, epsilon outside (0, 1), or no
            items.
    """
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie in (0, 1), got {epsilon}")
    tuning, plans = list(tuning), supported_only(vlm, candidates)
    share = vision_share(vlm, tuning)
    full = FullAnswers.ask(
        vlm,
        tuning,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        checkpoint=checkpoint and checkpoint / "tuning-full.jsonl",
    )

    def rate(plan: SkipPlan) -> float:
        outcomes = full.outcomes(
            vlm,
            plan,
            batch_size=batch_size,
            limit=max(rungs) * epsilon,
            checkpoint=checkpoint and checkpoint / f"tuning-{plan.hash()[:12]}.jsonl",
        )
        # Of a plan that was given up this is the mean over images seen, above the limit too.
        return float(image_mean(np.array(outcomes.disagree), outcomes.clusters))

    steps = lazy_path(
        plans, [saving(plan, vision=share) for plan in plans], rate, epsilon=epsilon, rungs=rungs
    )
    source = tuned_source(candidates, tuning, epsilon)
    return [
        replace(step, plan=replace(step.plan, source={**step.plan.source, **source}))
        for step in steps
    ]


def supported_only(vlm: VLM, candidates: Sequence[SkipPlan]) -> list[SkipPlan]:
    """The candidates that the model can do.

    Raises:
        BridgeError: there are none.
    """
    modes = supported_modes(vlm)
    found = [plan for plan in candidates if not any(modes[m] for m in plan.mode.split("+"))]
    if not found:
        raise BridgeError(f"none of {len(candidates)} candidates is supported by {vlm.name}")
    return found


def tuned_source(
    candidates: Sequence[SkipPlan], tuning: Sequence[Item], epsilon: float
) -> dict[str, Any]:
    """Where a plan on the path came from, for its record."""
    return {
        "tuning_hash": items_hash(tuning),
        "tuning_images": image_hashes(tuning),
        "epsilon": epsilon,
        "candidates": len(candidates),
    }


def vision_share(vlm: VLM, items: Sequence[Item]) -> float:
    """Share of the first prompt that is vision tokens."""
    inputs = next(batches(vlm, items[:1], batch_size=1)).inputs
    ids = inputs["input_ids"]
    vision = sum(int((ids == one).sum()) for one in vlm.layout.vision_ids)
    return vision / ids.numel()
