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
from vlm_bridge.figures.axes import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MODE_STYLES,
    PURPLE,
    VERMILLION,
    bars,
    by_position,
    flat,
    layer_axis,
    legend,
    panels_figure,
    percent,
    plain,
    save,
    shade,
    share_axis,
    title,
    with_ends,
    with_level,
)
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan

_GROUPS = {"image": VERMILLION, "text": BLUE, "special": GREEN}


def plot_profile(path: Path, profile: Profile, null: Profile | None, plan: SkipPlan) -> Path | None:
    """Draw cosine distance and VAR of each layer beside those of a copy with random weights.

    Args:
        path: the PNG to write.
        profile: profile of the model.
        null: profile of the copy, or None.
        plan: the plan whose layers are shaded.

    Example:
        >>> plot_profile(Path("profile.png"), profile, null, plan)  # doctest: +SKIP
    """
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
    figure, grid = panels_figure(rows, min(2, len(panels)), height=2.6 * rows + 0.6)
    spread = spread_levels(profile.quantile_levels)
    for ax, (group, measure) in zip(flat(grid), panels, strict=False):
        estimates = profile.estimates(group, measure)
        layers = np.arange(profile.n_layers)
        colour = _GROUPS.get(group, PURPLE)
        shade(ax, plan)
        distance = measure == "cosine_distance"
        if distance and spread and group in profile.quantiles:
            table = np.array(profile.quantiles[group])
            low, high = (profile.quantile_levels[i] for i in spread)
            label = f"{100 * low:g}–{100 * high:g} % of tokens"
            ends = np.maximum(table[:, list(spread)], 1e-6).T
            ax.fill_between(layers, *ends, color=colour, alpha=0.16, lw=0, label=label)
        if null is not None and measure in null.measures.get(group, {}):
            values = null.values(group, measure)
            ax.plot(layers, values, color=GREY, ls="--", lw=1.6, label="random weights (mean)")
        value, low_end, high_end = with_ends(estimates, 0.0, 2.0)
        ax.fill_between(layers, low_end, high_end, color=colour, alpha=0.45, lw=0)
        label = with_level("mean", estimates[0])
        ax.plot(layers, value, color=colour, marker="o", ms=3, lw=1.6, label=label)
        if distance:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(FuncFormatter(plain))
            ax.set_ylabel("cosine distance, 1 − cos")
            title(ax, f"{group} tokens: change of state in the layer")
        else:
            ax.set_ylim(bottom=0)
            ax.set_ylabel("attention mass on image (VAR)")
            title(ax, f"{group} tokens: attention paid to the image")
        layer_axis(ax, profile.n_layers)
    _share_log_limits([ax for ax, (_, m) in zip(flat(grid), panels, strict=False) if m != "var"])
    legend(figure, grid)
    return save(figure, path)


def plot_depth(
    path: Path, sweep: Sequence[Comparison], *, blind: float | None, no_vision: float | None
) -> Path | None:
    """Draw accuracy and disagreement against the depth of each mode of depths.

    Args:
        path: the PNG to write.
        sweep: comparisons, of all modes.
        blind: accuracy of guessing from the question text, or None.
        no_vision: accuracy of the model without vision tokens, or None.

    Example:
        >>> plot_depth(Path("depth.png"), sweep, blind=0.66, no_vision=None)  # doctest: +SKIP
    """
    modes = [mode for mode in MODES.values() if mode.by == "depth"]
    columns = [(mode, placed) for mode in modes if (placed := by_position(sweep, mode.name))]
    if not columns:
        return None
    labelled = all(c.accuracy_skipped is not None for _, placed in columns for _, c in placed)
    rows = ["accuracy", "disagreement"] if labelled else ["disagreement"]
    figure, grid = panels_figure(len(rows), len(columns), height=2.7 * len(rows) + 0.6)
    for column, (mode, placed) in enumerate(columns):
        depths = [depth for depth, _ in placed]
        for ax, row in zip([line[column] for line in grid], rows, strict=True):
            if row == "accuracy":
                _references(ax, placed[0][1].accuracy_full, blind, no_vision)
                values = [c.accuracy_skipped for _, c in placed if c.accuracy_skipped]
                bars(ax, depths, values, BLUE, "o", "skipped model", line=True)
                ax.set_ylabel("accuracy (% of answers)")
            else:
                values = [c.disagreement for _, c in placed]
                bars(ax, depths, values, VERMILLION, "s", "disagreement", line=True)
                ax.set_ylabel("disagreement (% of answers)")
            ax.yaxis.set_major_formatter(FuncFormatter(percent))
            title(ax, f"{mode.title}: {row}")
            deeper = "less" if mode.deeper_skips_less else "more"
            ax.set_xlabel(f"{mode.axis} (0-based; deeper skips {deeper})")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for row_axes in grid:
        low = min(ax.get_ylim()[0] for ax in row_axes)
        high = max(ax.get_ylim()[1] for ax in row_axes)
        for ax in row_axes:
            ax.set_ylim(low, high)
    legend(figure, grid)
    return save(figure, path)


def plot_layers(
    path: Path, sweep: Sequence[Comparison], plan: SkipPlan, epsilon: float
) -> Path | None:
    """Draw disagreement and accuracy drop of each layer skipped alone, by mode.

    Args:
        path: the PNG to write.
        sweep: comparisons, of all modes.
        plan: the plan whose layers are shaded.
        epsilon: disagreement allowed to the whole plan, a share.

    Example:
        >>> plot_layers(Path("layers.png"), sweep, plan, 0.02)  # doctest: +SKIP
    """
    series = {mode: placed for mode in MODE_STYLES if (placed := by_position(sweep, mode))}
    if not series:
        return None
    labelled = all(c.drop is not None for placed in series.values() for _, c in placed)
    rows = ["disagreement", "drop"] if labelled else ["disagreement"]
    figure, grid = panels_figure(len(rows), 1, height=3.0 * len(rows) + 0.5)
    for ax, row in zip(flat(grid), rows, strict=True):
        shade(ax, plan)
        ax.axhline(epsilon, color=INK, ls="--", lw=1.2, label=f"epsilon = {100 * epsilon:g} %")
        for shift, (mode, placed) in zip((-0.16, 0.16), series.items(), strict=False):
            at = [layer + (shift if len(series) > 1 else 0.0) for layer, _ in placed]
            estimates = [e for _, c in placed if (e := getattr(c, row)) is not None]
            bars(ax, at, estimates, *MODE_STYLES[mode], f"{mode}: {MODES[mode].title}")
        share_axis(ax)
        if row == "drop":
            ax.axhline(0, color=GREY, lw=0.8)
            ax.set_ylabel("accuracy drop, full − skipped\n(percentage points)")
        else:
            ax.set_ylabel("disagreement\n(% of answers)")
        layer_axis(ax, plan.n_layers)
    title(grid[0][0], "one layer skipped at a time (linear below 2 %, logarithmic above)")
    legend(figure, grid)
    return save(figure, path)


def _references(
    ax: Axes, full: Estimate | None, blind: float | None, no_vision: float | None
) -> None:
    if full is not None:
        label = with_level("full model", full)
        ax.axhspan(*full.interval, color=GREEN, alpha=0.25, lw=0, label=label)
        ax.axhline(full.value, color=GREEN, lw=1)
    baselines = ((blind, "--", "blind baseline"), (no_vision, ":", "no image tokens"))
    for value, style, name in baselines:
        if value is not None:
            ax.axhline(value, color=INK, ls=style, lw=1.3, label=name)


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
