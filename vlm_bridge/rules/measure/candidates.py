"""Candidate plans run beside the full model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estimators.clustered import image_mean
from vlm_bridge.data import Item
from vlm_bridge.evaluate.first_token import first_tokens
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.rules.measure.passes import tracked
from vlm_bridge.skip import check_support


@dataclass(frozen=True)
class CandidateRun:
    """Effect of one plan on the first answer token, mean over images; reads no labels.

    Attributes:
        plan: the candidate.
        kl_skipped_full: `KL(p_skip || p_full)`, nats.
        kl_full_skipped: `KL(p_full || p_skip)`, nats.
        loss: `-log p_skip` of the full model's own first token, nats.
        disagreement: share of questions whose first token changed.
        answer_change: `|p_skip - p_full|` of the full model's own first token.
        forward_cost: of the run, in forward-pass equivalents: layers run over all layers.
    """

    plan: SkipPlan
    kl_skipped_full: float
    kl_full_skipped: float
    loss: float
    disagreement: float
    answer_change: float
    forward_cost: float


def run_candidates(
    vlm: VLM, items: Sequence[Item], plans: Sequence[SkipPlan], *, batch_size: int = 16
) -> list[CandidateRun]:
    """Run every plan on every item, from the first layer that the plan touches."""
    for plan in plans:
        check_support(vlm, plan)
    rows: list[np.ndarray] = []
    clusters: list[str] = []
    for batch in tracked(vlm, items, batch_size, f"{len(plans)} candidates"):
        full, of_plans = first_tokens(vlm, batch, plans)
        own = full.argmax(-1, keepdim=True)
        sure = full.gather(-1, own)[:, 0].exp()
        for skipped in of_plans:
            gap = skipped - full
            columns = [
                (skipped.exp() * gap).sum(-1).clamp(min=0),
                -(full.exp() * gap).sum(-1).clamp(max=0),
                -skipped.gather(-1, own)[:, 0],
                (skipped.argmax(-1) != own[:, 0]).float(),
                (skipped.gather(-1, own)[:, 0].exp() - sure).abs(),
            ]
            rows.append(np.stack([column.cpu().double().numpy() for column in columns], axis=1))
        clusters += [item.cluster for item in batch.items]
    runs = []
    for i, plan in enumerate(plans):
        means = image_mean(np.concatenate(rows[i :: len(plans)]), clusters)
        runs.append(CandidateRun(plan, *map(float, [*means, share_run(plan)])))
    return runs


def share_run(plan: SkipPlan) -> float:
    """The share of a full pass that a candidate runs; one of an encoder starts at the input.

    >>> share_run(SkipPlan("block", 4, layers=(3,)))
    0.25
    """
    return (plan.n_layers - plan.first_layer) / plan.n_layers if plan.stack == DECODER else 1.0
