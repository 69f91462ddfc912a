"""Measures of adaptive plans in words."""

from __future__ import annotations

from collections.abc import Sequence

from estimators import Estimate
from vlm_bridge.data import Item, unit_word
from vlm_bridge.evaluate.adaptive_cost import AdaptiveMeasure
from vlm_bridge.evaluate.by_token import TokenMeasure


def said(measured: AdaptiveMeasure | TokenMeasure, items: Sequence[Item]) -> str:
    """Changed answers and cost, with intervals, in one line."""
    n = measured.changed.n
    changed = f"{interval(measured.changed, 100)} % of answers changed"
    if isinstance(measured, TokenMeasure):
        of_plan = (
            f"{interval(measured.plan_share, 100)} % of tokens behind the first by the plan, work "
            f"of the passes behind the prompt {interval(measured.passes)} of the full model's"
        )
    else:
        of_plan = (
            f"{interval(measured.full, 100)} % by the full model, expected FLOPs "
            f"{interval(measured.cost)} of the full model's"
        )
    return f"{changed}, {of_plan} ({n} {unit_word(items, n)})"


def interval(estimate: Estimate, scale: float = 1.0) -> str:
    """Value and interval with three digits.

    >>> from estimators import clustered_mean
    >>> interval(clustered_mean([0, 1] * 50, range(100), bounds=(0, 1)))
    '0.5 (0.367 to 0.633)'
    """
    low, high = estimate.interval
    return f"{scale * estimate.value:.3g} ({scale * low:.3g} to {scale * high:.3g})"
