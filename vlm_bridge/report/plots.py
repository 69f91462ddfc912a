"""The figures of the report: results in, PNG files out, no global plotting state.

Every function returns the path it wrote, or None where its data is missing.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import NDArray
from scipy import stats

from estimators import Estimate, Profile
from vlm_bridge.comparison import Comparison
from vlm_bridge.plan import SkipPlan

DPI = 130
# Okabe and Ito's palette, which colour-blind readers can tell apart.
_BLUE, _VERMILLION, _GREEN = "#0072B2", "#D55E00", "#009E73"
_PURPLE, _SKY, _GREY, _INK = "#CC79A7", "#56B4E9", "#767676", "#222222"
_GROUPS = {"image": _VERMILLION, "text": _BLUE, "special": _GREEN}
_MODES = {"block": (_VERMILLION, "s"), "freeze": (_BLUE, "o")}
_PLAN_SHADE = "#F0E442"
_TICKS = [-1, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
_LINEAR_TO = 0.02  # a share below this is drawn on a linear scale, so that zero has a place
_LAYER = "layer (0-based)"

Grid = list[list[Axes]]


def skipped_layers(plan: SkipPlan) -> tuple[int, ...]:
    """Layers a plan leaves out, for all tokens or for the image's.

    Example:
        >>> skipped_layers(SkipPlan("early_exit", n_layers=4, exit=2))
        (2, 3)
    """
    return plan.layers or plan.text_only_layers


def by_position(sweep: Sequence[Comparison], mode: str) -> list[tuple[int, Comparison]]:
    """The comparisons of one mode with their layer or depth, ascending.

    Block and freeze plans of several layers are left out.
    """
    found = []
    for one in sweep:
        plan = one.plan
        if plan.mode == mode:
            at = plan.layers[0] if len(plan.layers) == 1 else None
            at = {"early_exit": plan.exit, "late_entry": plan.entry}.get(mode, at)
            if at is not None:
                found.append((at, one))
    return sorted(found, key=lambda pair: pair[0])


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rho; NaN where one side is constant.

    Example:
        >>> rank_correlation([1, 2, 3], [0.1, 0.2, 0.9])
        1.0
    """
    if len(x) < 2 or len(set(x)) == 1 or len(set(y)) == 1:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


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
    figure, grid = _figure(rows, min(2, len(panels)), height=2.6 * rows + 0.6)
    spread = _spread(profile.quantile_levels)
    for ax, (group, measure) in zip(_flat(grid), panels, strict=False):
        estimates = profile.estimates(group, measure)
        layers = np.arange(profile.n_layers)
        colour = _GROUPS.get(group, _PURPLE)
        _shade(ax, plan)
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
            ax.plot(layers, values, color=_GREY, ls="--", lw=1.6, label="random weights (mean)")
        value, low_end, high_end = _columns(estimates, 0.0, 2.0)
        ax.fill_between(layers, low_end, high_end, color=colour, alpha=0.45, lw=0)
        ax.plot(
            layers,
            value,
            color=colour,
            marker="o",
            ms=3,
            lw=1.6,
            label=_with_level("mean", estimates[0]),
        )
        if distance:
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(FuncFormatter(_plain))
            ax.set_ylabel("cosine distance, 1 − cos")
            _title(ax, f"{group} tokens: change of state in the layer")
        else:
            ax.set_ylim(bottom=0)
            ax.set_ylabel("attention mass on image (VAR)")
            _title(ax, f"{group} tokens: attention paid to the image")
        _layer_axis(ax, profile.n_layers)
    distances = [ax for ax, (_, m) in zip(_flat(grid), panels, strict=False) if m != "var"]
    _share_log_limits(distances)
    for ax in _flat(grid)[len(panels) :]:
        ax.set_axis_off()
    _legend(figure, grid)
    return _save(figure, path)


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
    figure, grid = _figure(len(rows), len(columns), height=2.7 * len(rows) + 0.6)
    for column, (mode, found) in enumerate(columns):
        depths = [depth for depth, _ in found]
        for ax, row in zip([line[column] for line in grid], rows, strict=True):
            if row == "accuracy":
                _references(ax, found[0][1].accuracy_full, blind, no_vision)
                values = [one.accuracy_skipped for _, one in found if one.accuracy_skipped]
                _bars(ax, depths, values, _BLUE, "o", "skipped model", line=True)
                ax.set_ylabel("accuracy (% of answers)")
            else:
                values = [one.disagreement for _, one in found]
                _bars(ax, depths, values, _VERMILLION, "s", "disagreement", line=True)
                ax.set_ylabel("disagreement (% of answers)")
            ax.yaxis.set_major_formatter(FuncFormatter(_percent))
            _title(ax, f"{texts[mode][0]}: {row}")
            ax.set_xlabel(f"{texts[mode][1]} (0-based)")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for row_axes in grid:
        low = min(ax.get_ylim()[0] for ax in row_axes)
        high = max(ax.get_ylim()[1] for ax in row_axes)
        for ax in row_axes:
            ax.set_ylim(low, high)
    _legend(figure, grid)
    return _save(figure, path)


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
    series = {mode: found for mode in _MODES if (found := by_position(sweep, mode))}
    if not series:
        return None
    labelled = all(one.drop is not None for found in series.values() for _, one in found)
    rows = ["disagreement", "drop"] if labelled else ["disagreement"]
    figure, grid = _figure(len(rows), 1, height=3.0 * len(rows) + 0.5)
    for ax, row in zip(_flat(grid), rows, strict=True):
        _shade(ax, plan)
        ax.axhline(epsilon, color=_INK, ls="--", lw=1.2, label=f"epsilon = {100 * epsilon:g} %")
        for shift, (mode, found) in zip((-0.16, 0.16), series.items(), strict=False):
            at = [layer + (shift if len(series) > 1 else 0.0) for layer, _ in found]
            estimates = [e for _, one in found if (e := getattr(one, row)) is not None]
            verb = (
                "block: left out for all tokens"
                if mode == "block"
                else "freeze: image tokens not updated"
            )
            _bars(ax, at, estimates, *_MODES[mode], verb)
        _share_axis(ax)
        if row == "drop":
            ax.axhline(0, color=_GREY, lw=0.8)
            ax.set_ylabel("accuracy drop, full − skipped\n(percentage points)")
        else:
            ax.set_ylabel("disagreement\n(% of answers)")
        _layer_axis(ax, plan.n_layers)
    _title(grid[0][0], "one layer skipped at a time (linear below 2 %, logarithmic above)")
    _legend(figure, grid)
    return _save(figure, path)


def plot_prediction(
    path: Path,
    scores: Mapping[str, Sequence[float]],
    modes: Mapping[str, str],
    sweep: Sequence[Comparison],
    plan: SkipPlan,
) -> Path | None:
    """Every rule's score of a layer against the disagreement measured when it is skipped.

    Args:
        path: the PNG to write.
        scores: rule -> score per layer, lower meaning safer.
        modes: rule -> "block" or "freeze"; rules without a mode are left out.
        sweep: comparisons of single layers.
        plan: whose layers are drawn filled where it is of the rule's mode.

    Example:
        >>> plot_prediction(Path("p.png"), scores, modes, sweep, plan)  # doctest: +SKIP
    """
    panels = []
    for rule, row in scores.items():
        found = by_position(sweep, modes[rule]) if modes.get(rule) in _MODES else []
        points = [
            (at, float(row[at]), one.disagreement)
            for at, one in found
            if at < len(row) and math.isfinite(row[at])
        ]
        if len(points) >= 3:
            panels.append((rule, modes[rule], points))
    if not panels:
        return None
    rows = math.ceil(len(panels) / 2)
    figure, grid = _figure(rows, min(2, len(panels)), height=3.9 * rows + 0.5)
    for ax, (rule, mode, points) in zip(_flat(grid), panels, strict=False):
        colour, marker = _MODES[mode]
        x = [score for _, score, _ in points]
        values = [estimate for _, _, estimate in points]
        y, low, high = _columns(values, 0.0, 1.0)
        ax.vlines(x, low, high, color=colour, alpha=0.3, lw=1, label=_with_level("", values[0]))
        chosen = skipped_layers(plan) if plan.mode == mode else ()
        for name, keep in (("layer (0-based number)", False), ("layer of the plan", True)):
            which = [i for i, (at, _, _) in enumerate(points) if (at in chosen) == keep]
            if which:
                ax.plot(
                    [x[i] for i in which],
                    [y[i] for i in which],
                    ls="none",
                    marker=marker,
                    ms=5,
                    mec=colour,
                    mfc=colour if keep else "white",
                    label=name,
                )
        positive = [one for one in x if one > 0]
        if positive and min(x) >= 0:
            ax.set_xscale("symlog" if min(x) == 0 else "log", **_linear_to(x))
            ax.xaxis.set_major_formatter(FuncFormatter(_plain))
            ax.xaxis.set_minor_formatter(NullFormatter())
            if max(x) < 100 * min(x):
                ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        _share_axis(ax)
        ax.set_xlabel(f"score of {rule} (its own unit; lower = safer)")
        ax.set_ylabel(f"measured disagreement, one layer: {mode}\n(% of answers)")
        rho = rank_correlation(x, y.tolist())
        said = "undefined" if math.isnan(rho) else f"{rho:.2f}".replace("-", "−")
        _title(ax, f"{rule}: Spearman ρ = {said}, n = {len(points)} layers")
    for ax in _flat(grid)[len(panels) :]:
        ax.set_axis_off()
    _legend(figure, grid)
    figure.canvas.draw()  # positions are final from here on
    for ax, (_, _, points) in zip(_flat(grid), panels, strict=False):
        _label(ax, [(score, one.value, str(at)) for at, score, one in points])
    return _save(figure, path)


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all; a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _figure(rows: int, columns: int, *, height: float) -> tuple[Figure, Grid]:
    figure = Figure(figsize=(9.2, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid: Grid = figure.subplots(rows, columns, squeeze=False).tolist()
    for ax in _flat(grid):
        ax.set_facecolor("white")
        ax.grid(True, color="#E4E4E4", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8.5)
        ax.xaxis.label.set_fontsize(9)
        ax.yaxis.label.set_fontsize(9)
    return figure, grid


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, fontsize=10, loc="left", color=_INK)


def _place(group: str) -> int:
    known = list(_GROUPS)
    return known.index(group) if group in known else len(known)


def _flat(grid: Grid) -> list[Axes]:
    return [ax for line in grid for ax in line]


def _save(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return write_atomically(path, buffer.getvalue())


def _legend(figure: Figure, grid: Grid) -> None:
    """One legend below all panels; several colours under one name are shown in the first."""
    entries: dict[str, Artist] = {}
    for ax in _flat(grid):
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    one_line = sum(len(label) + 8 for label in entries) <= 120
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=len(entries) if one_line else math.ceil(len(entries) / 2),
        frameon=False,
        fontsize=8.5,
    )


def _columns(
    estimates: Sequence[Estimate], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Values and interval ends, the ends cut to the range and never inside the value."""
    values = np.array([one.value for one in estimates])
    ends = np.clip([one.interval for one in estimates], low, high)
    return values, np.minimum(ends[:, 0], values), np.maximum(ends[:, 1], values)


def _bars(
    ax: Axes,
    at: Sequence[float],
    estimates: Sequence[Estimate],
    colour: str,
    marker: str,
    label: str,
    *,
    line: bool = False,
) -> None:
    values, low, high = _columns(estimates, -1.0, 1.0)
    ax.errorbar(
        at,
        values,
        yerr=np.array([values - low, high - values]),
        color=colour,
        fmt=marker,
        ls="-" if line else "none",
        lw=1.1,
        ms=3.6,
        elinewidth=1,
        capsize=1.8,
        label=_with_level(label, estimates[0]),
    )


def _with_level(name: str, estimate: Estimate) -> str:
    return f"{name}, {100 * estimate.level:g} % interval".removeprefix(", ")


def _references(
    ax: Axes, full: Estimate | None, blind: float | None, no_vision: float | None
) -> None:
    if full is not None:
        ax.axhspan(
            *full.interval, color=_GREEN, alpha=0.25, lw=0, label=_with_level("full model", full)
        )
        ax.axhline(full.value, color=_GREEN, lw=1)
    for value, style, name in (
        (blind, "--", "blind baseline"),
        (no_vision, ":", "no image tokens"),
    ):
        if value is not None:
            ax.axhline(value, color=_INK, ls=style, lw=1.3, label=name)


def _shade(ax: Axes, plan: SkipPlan) -> None:
    layers = skipped_layers(plan)
    edges = [i for i, (a, b) in enumerate(pairwise(layers), 1) if b != a + 1]
    for start, end in pairwise([0, *edges, len(layers)]):
        if start < end:
            first, last = layers[start] - 0.5, layers[end - 1] + 0.5
            ax.axvspan(first, last, color=_PLAN_SHADE, alpha=0.3, lw=0, label="skipped by the plan")


def _layer_axis(ax: Axes, n_layers: int) -> None:
    ax.set_xlim(-0.7, n_layers - 0.3)
    ax.set_xlabel(_LAYER)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))


def _share_axis(ax: Axes) -> None:
    """A share on a scale that is linear around zero and logarithmic above."""
    ax.set_yscale("symlog", linthresh=_LINEAR_TO, linscale=0.7)
    low, high = ax.dataLim.intervaly
    low, high = min(0.0, float(low)), max(0.05, float(high))
    ax.set_ylim(low * 1.15 - 0.0015, high * 1.2)
    ax.yaxis.set_major_locator(FixedLocator([t for t in _TICKS if low * 1.15 <= t <= high * 1.2]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(_percent))


def _share_log_limits(axes: Sequence[Axes]) -> None:
    if axes:
        low = max(1e-4, min(float(ax.dataLim.intervaly[0]) for ax in axes))
        high = max(float(ax.dataLim.intervaly[1]) for ax in axes)
        for ax in axes:
            ax.set_ylim(low / 1.3, max(high, 10 * low) * 1.3)


def _linear_to(x: Sequence[float]) -> dict[str, float]:
    return {"linthresh": min(one for one in x if one > 0)} if min(x) == 0 else {}


def _percent(value: float, _: object = None) -> str:
    return f"{100 * value:g}".replace("-", "−")


def _plain(value: float, _: object = None) -> str:
    return f"{value:g}".replace("-", "−")


def _spread(levels: Sequence[float]) -> tuple[int, int] | None:
    """Positions of the pair of levels q and 1 - q nearest to 10 % and 90 %."""
    pairs = [
        (abs(low - 0.1), i, j)
        for i, low in enumerate(levels)
        for j, high in enumerate(levels)
        if low < 0.5 and math.isclose(low + high, 1.0)
    ]
    return min(pairs)[1:] if pairs else None


def _label(ax: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's name beside it, where it covers least; sizes in typographic points."""
    at = ax.transData.transform([(x, y) for x, y, _ in points]) * 72 / DPI
    boxes = [(cx - 3, cy - 3, cx + 3, cy + 3) for cx, cy in at]
    for (x, y, name), (cx, cy) in zip(points, at, strict=True):
        width, height = 4.8 * len(name) + 2.5, 8.0
        best, least, chosen = (0.0, 0.0), math.inf, boxes[0]
        for radius in (8.0, 13.0, 19.0):
            for turn in (1, 3, 0, 2, 5, 7, 4, 6):
                dx = radius * math.cos(turn * math.pi / 4)
                dy = radius * math.sin(turn * math.pi / 4)
                left, bottom = cx + dx - width / 2, cy + dy - height / 2
                box = (left, bottom, left + width, bottom + height)
                covered = sum(_overlap(box, other) for other in boxes) + radius / 20
                if covered < least:
                    best, least, chosen = (dx, dy), covered, box
        boxes.append(chosen)
        far = math.hypot(*best) > 10
        note = ax.annotate(
            name,
            (x, y),
            best,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=_INK,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": _GREY} if far else None,
        )
        note.set_in_layout(False)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    return wide * tall if wide > 0 and tall > 0 else 0.0
