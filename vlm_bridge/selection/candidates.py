"""Many plans to choose from: contiguous bands, all of them, and greedy growth."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import union
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Rule, score_units, units_of


def bands(n_layers: int, *, step: int = 1) -> list[SkipPlan]:
    """Every contiguous band [entry, exit) of layers that vision tokens may live in.

    Entry 0 or exit L is a plain early exit or late entry; both together, the full model, is left
    out. There are about L^2 / 2 of them, so the search over bands is exact.

    Args:
        n_layers: depth L of the decoder.
        step: every so many depths, ends included.

    Raises:
        BridgeError: a step below 1.

    Example:
        >>> [(plan.entry, plan.exit) for plan in bands(3) if plan.mode == "band"]
        [(1, 2)]
    """
    if step < 1:
        raise BridgeError(f"the step of a search must be at least 1, got {step}")
    depths = sorted({*range(0, n_layers + 1, step), n_layers})
    found = []
    for entry in depths:
        for exit in depths:
            if entry >= exit or (entry, exit) == (0, n_layers):
                continue
            if entry == 0:
                found.append(SkipPlan("early_exit", n_layers, exit=exit))
            elif exit == n_layers:
                found.append(SkipPlan("late_entry", n_layers, entry=entry))
            else:
                found.append(SkipPlan("band", n_layers, entry=entry, exit=exit))
    return found


def greedy_plans(
    rule: Rule, evidence: Evidence, mode: str, *, width: int = 4, most: int | None = None
) -> list[SkipPlan]:
    """Nested plans grown one unit at a time, each the least harmful of the rule's next best.

    In every round the `width` units the rule scores lowest among those left are tried on top of
    what is skipped already; the one with the least `KL(p_skip || p_full)` at the first answer
    token stays. With `width` 1 these are the rule's own nested plans. Candidate runs are paid on
    the evidence's account; no labels are read.

    Args:
        rule: orders the units.
        evidence: on tuning images.
        mode: a layer-wise one: `block`, `freeze` or `sublayer`.
        width: candidates a round.
        most: stop after so many units (default: all but one).

    Raises:
        BridgeError: a mode of depths, which has no unions, or width below 1.
    """
    if mode not in LAYERWISE:
        raise BridgeError(f"greedy growth joins layers; mode '{mode}' has depths: use bands")
    if width < 1:
        raise BridgeError(f"width counts candidates from 1, got {width}")
    singles = units_of(rule, mode, evidence.n_layers)
    left = score_units(rule, evidence, mode).argsort(kind="stable").tolist()
    taken: list[int] = []
    found: list[SkipPlan] = []
    for _ in range(min(most or len(singles), len(singles) - 1)):
        tried = [(i, union([singles[j] for j in (*taken, i)])) for i in left[:width]]
        best = tried[0]
        if width > 1 and len(tried) > 1:
            runs = evidence.candidates([plan for _, plan in tried])
            best = tried[min(range(len(tried)), key=lambda at: runs[at].kl_skipped_full)]
        taken.append(best[0])
        left.remove(best[0])
        found.append(best[1])
    return found
