"""The path of a search: candidates on tuning images, largest savings first, with early stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from estimators.clustered import image_mean
from vlm_bridge.data import Item, image_ids, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.savings import saving
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.path import RUNGS, Step, lazy_path
from vlm_bridge.skip import supported_modes
from vlm_bridge.skip.support import check_model


def tuned_path(
    vlm: VLM,
    tuning: Iterable[Item],
    candidates: Sequence[SkipPlan],
    *,
    epsilon: float,
    rungs: Sequence[float] = RUNGS,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
) -> list[Step]:
    """The steps that certification images will test, the safest first; see `pareto_path`.

    Candidates answer the tuning questions, the largest savings first, until too many answers have
    changed; those that cannot be on the path, or that the model does not support, are not run.
    Arguments are those of `search`.
    """
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie in (0, 1), got {epsilon}")
    tuning, plans = list(tuning), supported_only(vlm, candidates)
    share = modality_share(vlm, tuning)
    file = checkpoint and checkpoint / "tuning-full.jsonl"
    full = FullAnswers.ask(
        vlm, tuning, batch_size=batch_size, max_new_tokens=max_new_tokens, checkpoint=file
    )

    def rate(plan: SkipPlan) -> float:
        file, limit = checkpoint and checkpoint / f"tuning-{plan.hash()[:12]}.jsonl", max(rungs)
        outcomes = full.outcomes(
            vlm, plan, batch_size=batch_size, limit=limit * epsilon, checkpoint=file
        )
        # Of a stopped plan this is the mean over the images asked, which is above the limit too.
        return float(image_mean(np.array(outcomes.disagree), outcomes.clusters))

    savings = [saving(plan, modality=share) for plan in plans]
    steps = lazy_path(plans, savings, rate, epsilon=epsilon, rungs=rungs)
    settings = {"epsilon": epsilon, "candidates": len(candidates)}
    length = {"max_new_tokens": max_new_tokens}
    chosen = [tuned_on(vlm, step.plan, tuning, **length, settings=settings) for step in steps]
    return [replace(step, plan=plan) for step, plan in zip(steps, chosen, strict=True)]


def supported_only(vlm: VLM, candidates: Sequence[SkipPlan]) -> list[SkipPlan]:
    """The candidates that the model supports, at least one; all are of this model or of none."""
    modes = supported_modes(vlm)
    for plan in candidates:
        check_model(vlm, plan)
    plans = [plan for plan in candidates if not any(modes[m] for m in plan.mode.split("+"))]
    if not plans:
        why = next((f": {modes[m]}" for p in candidates for m in p.mode.split("+") if modes[m]), "")
        raise BridgeError(f"none of {len(candidates)} candidates is supported by {vlm.name}{why}")
    return plans


def tuned_on(
    vlm: VLM,
    plan: SkipPlan,
    tuning: Sequence[Item],
    *,
    max_new_tokens: int,
    settings: Mapping[str, Any],
) -> SkipPlan:
    """The plan with the model, images and settings that chose it in its provenance."""
    provenance = plan.provenance.adding(
        model=vlm.name,
        fingerprint=vlm.fingerprint,
        tuned=image_ids(tuning),
        max_new_tokens=max_new_tokens,
        settings={"tuning_hash": items_hash(tuning), **settings},
    )
    return replace(plan, provenance=provenance)


def modality_share(vlm: VLM, items: Sequence[Item]) -> float:
    """Share of the first prompt that is modality tokens; 0 for a text-only model."""
    ids = next(batches(vlm, items[:1], batch_size=1)).inputs["input_ids"]
    return float(vlm.layout.modality_flags(ids).double().mean())
