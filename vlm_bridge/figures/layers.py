"""Figures of the profile, of the sweep over depth, and of single skipped layers.

Every function returns the path it wrote, or None if its data is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from estimators import Estimate, Profile
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.figures import axes as draw
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan

_GROUPS = {
    "image": draw.VERMILLION,
    "video": draw.VERMILLION,
    "audio": draw.VERMILLION,
    "text": draw.BLUE,
    "special": draw.GREEN,
}


def plot_profile(path: Path, profile: Profile, null: Profile | None, plan: SkipPlan) -> Path | None:
    """Draw cosine distance and VAR of each layer, of the model and of a null model (`null`)."""
    order = {group: number for number, group in enumerate(_GROUPS)}
    panels = [
        (group, measure)
        for measure in ("cosine_distance", "var")
        for group in sorted(profile.groups, key=lambda g: order.get(g, len(order)))
        if measure in profile.measures.get(group, {})
    ]
    if not panels:
        return None
    rows = math.ceil(len(panels) / 2)
    read = " and ".join(
        g for g in _GROUPS if g in ("image", "video", "audio") and g in profile.groups
    )
    figure, grid = draw.panels_figure(rows, min(2, len(panels)), height=2.6 * rows + 0.6)
    spread = spread_levels(profile.quantile_levels)
    for ax, (group, measure) in zip(draw.flat(grid), panels, strict=False):
        estimates = profile.estimates(group, measure)
        layers = np.arange(profile.n_layers)
        colour = _GROUPS.get(group, draw.PURPLE)
        draw.shade(ax, plan)
        distance = measure == "cosine_distance"
        if distance and spread and group in profile.quantiles:
            table = np.array(profile.quantiles[group])
            low, high = (profile.quantile_levels[i] for i in spread)
            label = f"{100 * low:g}–{100 * high:g} % of tokens"
            ends = np.maximum(table[:, list(spread)], 1e-6).T
            ax.fill_between(layers, *ends, color=colour, alpha=0.16, lw=0, label=label)
        if null is not None and measure in null.measures.get(group, {}):
            values = null.values(group, measure)
            ax.plot(layers, values, color=draw.GREY, ls="--", lw=1.6, label="random weights (mean)")
        value, low_end, high_end = draw.with_ends(estimates, 0.0, 2.0)
        ax.fill_between(layers, low_end, high_end, color=colour, alpha=0.45, lw=0)
        label = draw.with_level("mean", estimates[0])
        ax.plot(layers, value, color=colour, marker="o", ms=3, lw=1.6, label=label)
        if distance:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(FuncFormatter(draw.plain))
            ax.yaxis.set_minor_formatter(draw.plain_between(ax))
            ax.set_ylabel("cosine distance, 1 − cos")
            draw.title(ax, f"{group} tokens: change of state in the layer")
        else:
            ax.set_ylim(bottom=0)
            ax.set_ylabel(f"attention mass on {read} (VAR)")
            draw.title(ax, f"{group} tokens: attention paid to the {read}")
        draw.layer_axis(ax, profile.n_layers)
    drawn = zip(draw.flat(grid), panels, strict=False)
    _share_log_limits([ax for ax, (_, measure) in drawn if measure != "var"])
    draw.legend(figure, grid)
    return draw.save(figure, path)


def plot_depth(
    path: Path, sweep: Sequence[Comparison], *, blind: float | None, no_vision: float | None
) -> Path | None:
    """Draw accuracy and disagreement against the depth of each mode of depths.

    `blind` is the accuracy of guessing from the question, `no_vision` that without vision tokens.
    """
    modes = [mode for mode in MODES.values() if mode.by == "depth"]
    columns = [(mode, placed) for mode in modes if (placed := draw.by_position(sweep, mode.name))]
    if not columns:
        return None
    labelled = all(c.accuracy_skipped is not None for _, placed in columns for _, c in placed)
    rows = ["accuracy", "disagreement"] if labelled else ["disagreement"]
    figure, grid = draw.panels_figure(len(rows), len(columns), height=2.7 * len(rows) + 0.6)
    for column, (mode, placed) in enumerate(columns):
        depths = [depth for depth, _ in placed]
        for ax, row in zip([line[column] for line in grid], rows, strict=True):
            if row == "accuracy":
                _references(ax, placed[0][1].accuracy_full, blind, no_vision)
                values = [c.accuracy_skipped for _, c in placed if c.accuracy_skipped]
                draw.bars(ax, depths, values, draw.BLUE, "o", "skipped model", line=True)
                ax.set_ylabel(f"accuracy (% of {placed[0][1].decision}s)")
            else:
                values = [c.disagreement for _, c in placed]
                draw.bars(ax, depths, values, draw.VERMILLION, "s", "disagreement", line=True)
                ax.set_ylabel(f"disagreement (% of {placed[0][1].decision}s)")
            ax.yaxis.set_major_formatter(FuncFormatter(draw.percent))
            draw.title(ax, f"{mode.title}: {row}")
            deeper = "less" if mode.deeper_skips_less else "more"
            ax.set_xlabel(f"{mode.axis} (0-based; deeper skips {deeper})")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for row_axes in grid:
        low = min(ax.get_ylim()[0] for ax in row_axes)
        high = max(ax.get_ylim()[1] for ax in row_axes)
        for ax in row_axes:
            ax.set_ylim(low, high)
    draw.legend(figure, grid)
    return draw.save(figure, path)


def plot_layers(
    path: Path, sweep: Sequence[Comparison], plan: SkipPlan, epsilon: float
) -> Path | None:
    """Draw disagreement and accuracy drop of each layer skipped alone, by mode.

    The layers of `plan` are shaded; `epsilon` is the disagreement that a whole plan may cause.
    """
    series = {mode: draw.by_position(sweep, mode) for mode in draw.MODE_STYLES}
    series = {mode: placed for mode, placed in series.items() if placed}
    if not series:
        return None
    labelled = all(c.drop is not None for placed in series.values() for _, c in placed)
    rows = ["disagreement", "drop"] if labelled else ["disagreement"]
    figure, grid = draw.panels_figure(len(rows), 1, height=3.0 * len(rows) + 0.5)
    for ax, row in zip(draw.flat(grid), rows, strict=True):
        draw.shade(ax, plan)
        ax.axhline(epsilon, color=draw.INK, ls="--", lw=1.2, label=f"epsilon = {100 * epsilon:g} %")
        for shift, (mode, placed) in zip((-0.16, 0.16), series.items(), strict=False):
            at = [layer + (shift if len(series) > 1 else 0.0) for layer, _ in placed]
            estimates = [e for _, c in placed if (e := getattr(c, row)) is not None]
            draw.bars(ax, at, estimates, *draw.MODE_STYLES[mode], f"{mode}: {MODES[mode].title}")
        draw.share_axis(ax)
        if row == "drop":
            ax.axhline(0, color=draw.GREY, lw=0.8)
            ax.set_ylabel("accuracy drop, full − skipped\n(percentage points)")
        else:
            ax.set_ylabel(f"disagreement\n(% of {sweep[0].decision}s)")
        draw.layer_axis(ax, plan.n_layers)
    draw.title(grid[0][0], "one layer skipped at a time (linear below 2 %, logarithmic above)")
    draw.legend(figure, grid)
    return draw.save(figure, path)


def _references(
    ax: Axes, full: Estimate | None, blind: float | None, no_vision: float | None
) -> None:
    if full is not None:
        label = draw.with_level("full model", full)
        ax.axhspan(*full.interval, color=draw.GREEN, alpha=0.25, lw=0, label=label)
        ax.axhline(full.value, color=draw.GREEN, lw=1)
    lines = ((blind, "--", "blind baseline"), (no_vision, ":", "no image tokens"))
    for value, style, name in lines:
        if value is not None:
            ax.axhline(value, color=draw.INK, ls=style, lw=1.3, label=name)


def _share_log_limits(axes: Sequence[Axes]) -> None:
    if axes:
        low = max(1e-4, min(float(ax.dataLim.intervaly[0]) for ax in axes))
        high = max(float(ax.dataLim.intervaly[1]) for ax in axes)
        for ax in axes:
            ax.set_ylim(low / 1.3, max(high, 10 * low) * 1.3)


def spread_levels(levels: Sequence[float]) -> tuple[int, int] | None:
    """Positions of the pair of levels q and 1 - q nearest to 10 % and 90 %."""
    pairs = [
        (abs(low - 0.1), i, j)
        for i, low in enumerate(levels)
        for j, high in enumerate(levels)
        if low < 0.5 and math.isclose(low + high, 1.0)
    ]
    return min(pairs)[1:] if pairs else None
