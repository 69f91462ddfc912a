"""Candidate plans: all contiguous bands, and greedy growth."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import union
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Rule, check_mode, score_units, units_of


def bands(n_layers: int, *, step: int = 1) -> list[SkipPlan]:
    """Every contiguous band [entry, exit) of layers with vision tokens, about L^2 / 2 plans.

    Entry 0 is an early exit and exit L a late entry; the full model, with both, is left out.
    Depths are `step` apart, with the first and the last included.

    Raises:
        BridgeError: a step below 1.

    Example:
        >>> [(plan.entry, plan.exit) for plan in bands(3) if plan.mode == "band"]
        [(1, 2)]
    """
    if step < 1:
        raise BridgeError(f"the step of a search must be at least 1, got {step}")
    depths = sorted({*range(0, n_layers + 1, step), n_layers})
    plans = []
    for entry, exit in combinations(depths, 2):
        if entry == 0 and exit < n_layers:
            plans.append(SkipPlan("early_exit", n_layers, exit=exit))
        elif entry > 0 and exit == n_layers:
            plans.append(SkipPlan("late_entry", n_layers, entry=entry))
        elif entry > 0:
            plans.append(SkipPlan("band", n_layers, entry=entry, exit=exit))
    return plans


def greedy_plans(
    rule: Rule,
    evidence: Evidence,
    mode: str | None = None,
    *,
    width: int = 4,
    most: int | None = None,
) -> list[SkipPlan]:
    """Nested plans grown one unit at a time, each the least harmful of the rule's next best.

    Every round tries the `width` remaining units of lowest score on top of the skipped ones, and
    adds the one with the least `KL(p_skip || p_full)` at the first answer token. With `width` 1
    these are the rule's own nested plans. `most` bounds the units of the largest plan (default:
    all but one). Candidate runs are charged to `evidence`; no labels are read. The default mode is
    that of `score_units`.

    Raises:
        BridgeError: a mode of depths, which has no unions, or width below 1.
    """
    mode = check_mode(rule, mode, evidence.modality)
    if mode not in LAYERWISE:
        raise BridgeError(f"greedy growth joins layers; mode '{mode}' has depths: use bands")
    if width < 1:
        raise BridgeError(f"width counts candidates from 1, got {width}")
    singles = units_of(rule, mode, evidence)
    left = score_units(rule, evidence, mode).argsort(kind="stable").tolist()
    skipped: list[int] = []
    plans: list[SkipPlan] = []
    origin = evidence.provenance(rule.name, "candidate runs")
    for _ in range(min(most or len(singles), len(singles) - 1)):
        tried = [union([singles[j] for j in (*skipped, i)]) for i in left[:width]]
        best = 0
        if len(tried) > 1:
            kl = [run.kl_skipped_full for run in evidence.candidates(tried)]
            best = kl.index(min(kl))
        plans.append(replace(tried[best], provenance=origin))
        skipped.append(left.pop(best))
    return plans
