"""The path of a search: candidates on tuning images, largest savings first, with early stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from estimators.clustered import image_mean
from vlm_bridge.cost import count_flops
from vlm_bridge.data import Item, image_ids, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.encoder_decoder import with_decoder_start
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.savings import saving
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.selection.path import RUNGS, Step, lazy_path
from vlm_bridge.skip import skipping, supported_modes
from vlm_bridge.skip.support import check_model

P = TypeVar("P", SkipPlan, AdaptivePlan)


def tuned_path(
    vlm: VLM,
    tuning: Iterable[Item],
    candidates: Sequence[SkipPlan],
    *,
    epsilon: float,
    rungs: Sequence[float] = RUNGS,
    stairs: Sequence[float] = (),
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

    work = None
    if any(plan.stack != DECODER for plan in plans):
        work = work_by_stack(vlm, tuning)
    savings = [saving(plan, modality=share, work=work) for plan in plans]
    steps = lazy_path(plans, savings, rate, epsilon=epsilon, rungs=rungs, stairs=stairs)
    settings = {"epsilon": epsilon, "candidates": len(candidates)}
    length = {"max_new_tokens": max_new_tokens}
    chosen = [tuned_on(vlm, step.plan, tuning, **length, settings=settings) for step in steps]
    return [replace(step, plan=plan) for step, plan in zip(steps, chosen, strict=True)]


def supported_only(vlm: VLM, candidates: Sequence[SkipPlan]) -> list[SkipPlan]:
    """The candidates that the model supports, at least one; all are of this model or of none."""
    modes = {stack: supported_modes(vlm, stack) for stack in vlm.layout.stacks}
    for plan in candidates:
        check_model(vlm, plan)

    def reasons(plan: SkipPlan) -> list[str]:
        lacks: dict[str, str] = {}
        return [
            reason
            for part in plan.parts or (plan,)
            if (reason := modes.get(part.stack, lacks).get(part.mode, f"no stack '{part.stack}'"))
        ]

    plans = [plan for plan in candidates if not reasons(plan)]
    if not plans:
        why = next((f": {reason}" for plan in candidates for reason in reasons(plan)), "")
        raise BridgeError(f"none of {len(candidates)} candidates is supported by {vlm.name}{why}")
    return plans


def tuned_on(
    vlm: VLM,
    plan: P,
    tuning: Sequence[Item],
    *,
    max_new_tokens: int,
    settings: Mapping[str, Any],
) -> P:
    """The plan with the model, images and settings that chose it in its provenance."""
    provenance = plan.provenance.adding(
        model=vlm.name,
        fingerprint=vlm.fingerprint,
        tuned=image_ids(tuning),
        max_new_tokens=max_new_tokens,
        settings={"tuning_hash": items_hash(tuning), **settings},
    )
    return replace(plan, provenance=provenance)


def work_by_stack(vlm: VLM, items: Sequence[Item]) -> dict[str, float]:
    """Share of each stack in the FLOPs of all layers, in the prefill of the first prompt.

    The work of a stack is what the prefill needs less if all its layers are skipped; a stack of
    which none can be skipped is left out.
    """
    batch = next(batches(vlm, items[:1], batch_size=1))
    inputs = with_decoder_start(vlm, batch.inputs)

    @torch.no_grad()
    def flops() -> int:
        return count_flops(lambda: vlm.model(**inputs, use_cache=False))

    with vlm.whole():
        full = flops()
    work = {}
    for name, stack in vlm.layout.stacks.items():
        if supported_modes(vlm, name)["block"]:
            continue
        plan = SkipPlan("block", stack.n_layers, tuple(range(stack.n_layers)), stack=name)
        with skipping(vlm, plan):
            work[name] = full - flops()
    return {name: of_stack / sum(work.values()) for name, of_stack in work.items()}


def modality_share(vlm: VLM, items: Sequence[Item]) -> float:
    """Share of the first prompt that is modality tokens; 0 for text-only models and Whisper."""
    if vlm.layout.encoder_decoder:
        return 0.0
    ids = next(batches(vlm, items[:1], batch_size=1)).inputs["input_ids"]
    return float(vlm.layout.modality_flags(ids).double().mean())
