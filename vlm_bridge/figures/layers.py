"""Figures of what layers do: the profile, the sweep over depth, and layers one at a time.

Every function returns the path it wrote, or None where its data is missing.
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
    MODES,
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
from vlm_bridge.plan.skip_plan import SkipPlan

_GROUPS = {"image": VERMILLION, "text": BLUE, "special": GREEN}


def plot_profile(path: Path, profile: Profile, null: Profile | None, plan: SkipPlan) -> Path | None:
    """Cosine distance and VAR per layer, against a copy with random weights.

    Args:
        path: the PNG to write.
        profile: of the model.
        null: of the copy; left out where None.
        plan: whose layers are shaded.

    Example:
        >>> plot_profile(Path("profile.png"), profile, null, plan)  # doctest: +SKIP
    """
    panels = [
        (group, measure)
        for measure in ("cosine_distance", "var")
        for group in sorted(profile.groups, key=_place)
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
            low, high = profile.quantile_levels[spread[0]], profile.quantile_levels[spread[1]]
            label = f"{100 * low:g}–{100 * high:g} % of tokens"
            ax.fill_between(
                layers,
                np.maximum(table[:, spread[0]], 1e-6),
                np.maximum(table[:, spread[1]], 1e-6),
                color=colour,
                alpha=0.16,
                lw=0,
                label=label,
            )
        if null is not None and measure in null.measures.get(group, {}):
            values = null.values(group, measure)
            ax.plot(layers, values, color=GREY, ls="--", lw=1.6, label="random weights (mean)")
        value, low_end, high_end = with_ends(estimates, 0.0, 2.0)
        ax.fill_between(layers, low_end, high_end, color=colour, alpha=0.45, lw=0)
        ax.plot(
            layers,
            value,
            color=colour,
            marker="o",
            ms=3,
            lw=1.6,
            label=with_level("mean", estimates[0]),
        )
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
    distances = [ax for ax, (_, m) in zip(flat(grid), panels, strict=False) if m != "var"]
    _share_log_limits(distances)
    for ax in flat(grid)[len(panels) :]:
        ax.set_axis_off()
    legend(figure, grid)
    return save(figure, path)


def plot_depth(
    path: Path, sweep: Sequence[Comparison], *, blind: float | None, no_vision: float | None
) -> Path | None:
    """Accuracy and disagreement against the depth where vision leaves or enters.

    Args:
        path: the PNG to write.
        sweep: comparisons; those of early exit and late entry are drawn.
        blind: accuracy of guessing from the question text, or None.
        no_vision: accuracy of the model without vision tokens, or None.

    Example:
        >>> plot_depth(Path("depth.png"), sweep, blind=0.66, no_vision=None)  # doctest: +SKIP
    """
    texts = {
        "early_exit": ("early exit", "exit depth e: image tokens absent from layers ≥ e"),
        "late_entry": ("late entry", "entry depth a: image tokens absent from layers < a"),
    }
    columns = [(mode, found) for mode in texts if (found := by_position(sweep, mode))]
    if not columns:
        return None
    labelled = all(one.accuracy_skipped is not None for _, found in columns for _, one in found)
    rows = ["accuracy", "disagreement"] if labelled else ["disagreement"]
    figure, grid = panels_figure(len(rows), len(columns), height=2.7 * len(rows) + 0.6)
    for column, (mode, found) in enumerate(columns):
        depths = [depth for depth, _ in found]
        for ax, row in zip([line[column] for line in grid], rows, strict=True):
            if row == "accuracy":
                _references(ax, found[0][1].accuracy_full, blind, no_vision)
                values = [one.accuracy_skipped for _, one in found if one.accuracy_skipped]
                bars(ax, depths, values, BLUE, "o", "skipped model", line=True)
                ax.set_ylabel("accuracy (% of answers)")
            else:
                values = [one.disagreement for _, one in found]
                bars(ax, depths, values, VERMILLION, "s", "disagreement", line=True)
                ax.set_ylabel("disagreement (% of answers)")
            ax.yaxis.set_major_formatter(FuncFormatter(percent))
            title(ax, f"{texts[mode][0]}: {row}")
            ax.set_xlabel(f"{texts[mode][1]} (0-based)")
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
    """What skipping each layer alone does to the answers, blocked and frozen.

    Args:
        path: the PNG to write.
        sweep: comparisons; those of one blocked or frozen layer are drawn.
        plan: whose layers are shaded.
        epsilon: disagreement allowed to the whole plan, a share.

    Example:
        >>> plot_layers(Path("layers.png"), sweep, plan, 0.02)  # doctest: +SKIP
    """
    series = {mode: found for mode in MODES if (found := by_position(sweep, mode))}
    if not series:
        return None
    labelled = all(one.drop is not None for found in series.values() for _, one in found)
    rows = ["disagreement", "drop"] if labelled else ["disagreement"]
    figure, grid = panels_figure(len(rows), 1, height=3.0 * len(rows) + 0.5)
    for ax, row in zip(flat(grid), rows, strict=True):
        shade(ax, plan)
        ax.axhline(epsilon, color=INK, ls="--", lw=1.2, label=f"epsilon = {100 * epsilon:g} %")
        for shift, (mode, found) in zip((-0.16, 0.16), series.items(), strict=False):
            at = [layer + (shift if len(series) > 1 else 0.0) for layer, _ in found]
            estimates = [e for _, one in found if (e := getattr(one, row)) is not None]
            verb = (
                "block: left out for all tokens"
                if mode == "block"
                else "freeze: image tokens not updated"
            )
            bars(ax, at, estimates, *MODES[mode], verb)
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


def _place(token_group: str) -> int:
    known = list(_GROUPS)
    return known.index(token_group) if token_group in known else len(known)


def _references(
    ax: Axes, full: Estimate | None, blind: float | None, no_vision: float | None
) -> None:
    if full is not None:
        ax.axhspan(
            *full.interval, color=GREEN, alpha=0.25, lw=0, label=with_level("full model", full)
        )
        ax.axhline(full.value, color=GREEN, lw=1)
    for value, style, name in (
        (blind, "--", "blind baseline"),
        (no_vision, ":", "no image tokens"),
    ):
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
