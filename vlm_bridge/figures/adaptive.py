"""Figure of a search for an adaptive plan: expected cost against changed answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter

from vlm_bridge.evaluate.adaptive_cost import AdaptiveMeasure
from vlm_bridge.figures import axes as draw


def plot_front(
    path: Path,
    front: Sequence[AdaptiveMeasure],
    fixed: Sequence[AdaptiveMeasure],
    tested: Sequence[AdaptiveMeasure],
    *,
    epsilon: float,
) -> Path | None:
    """Draw the front and the fixed plans on tuning images, the tested steps on certification ones.

    None if the front is empty.
    """
    if not front:
        return None
    figure, grid = draw.panels_figure(1, 1, height=3.8)
    (ax,) = draw.flat(grid)
    for measures, colour, marker, label in (
        (front, draw.BLUE, "o", "adaptive, tuning images"),
        (fixed, draw.VERMILLION, "s", "fixed, tuning images"),
        (tested, draw.GREEN, "D", "tested, certification images"),
    ):
        if measures:
            at = [measure.cost.value for measure in measures]
            changed = [measure.changed for measure in measures]
            draw.bars(ax, at, changed, colour, marker, label, line=measures is front)
            costs, low, high = draw.with_ends([m.cost for m in measures], 0.0, np.inf)
            values = [estimate.value for estimate in changed]
            ends = np.array([costs - low, high - costs])
            ax.errorbar(costs, values, xerr=ends, color=colour, fmt="none", elinewidth=0.7)
    ax.axhline(epsilon, color=draw.GREY, ls="--", lw=1, label=f"epsilon {epsilon:g}")
    ax.yaxis.set_major_formatter(FuncFormatter(draw.percent))
    ax.set_ylabel("changed answers (%)")
    ax.set_xlabel("expected prefill FLOPs, fallback included, over the full model's")
    draw.title(ax, "what an adaptive plan costs and changes")
    draw.legend(figure, grid)
    return draw.save(figure, path)
