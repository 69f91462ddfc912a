"""Palette, panels, axes and legend of the figures, and the layers that a plan skips."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from estimators import Estimate
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import write_bytes

DPI = 130
# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, GREY, INK = "#CC79A7", "#767676", "#222222"
#: Colour and marker of each mode whose units are whole layers.
_WHOLE_LAYERS = [mode.name for mode in MODES.values() if mode.takes == ("layers",)]
_STYLES = (VERMILLION, "s"), (BLUE, "o"), (GREEN, "^"), (PURPLE, "v")
MODE_STYLES = dict(zip(_WHOLE_LAYERS, _STYLES, strict=True))
_PLAN_SHADE = "#F0E442"
_TICKS = [-1, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
_LINEAR_TO = 0.02  # shares below this are on a linear scale, which has a zero

Grid = list[list[Axes]]


def skipped_layers(plan: SkipPlan) -> tuple[int, ...]:
    """Layers that a plan skips, for all tokens or for vision tokens.

    Example:
        >>> skipped_layers(SkipPlan("early_exit", n_layers=4, exit=2))
        (2, 3)
    """
    return plan.layers or plan.text_only_layers


def by_position(sweep: Sequence[Comparison], mode: str) -> list[tuple[int, Comparison]]:
    """The comparisons of one mode with their layer or depth, ascending; no plans of many layers."""
    field = MODES[mode].takes[0]
    placed = []
    for comparison in sweep:
        if comparison.plan.mode == mode:
            place = getattr(comparison.plan, field)
            places = place if isinstance(place, tuple) else (place,)
            placed += [(at, comparison) for at in places if len(places) == 1]
    return sorted(placed, key=lambda pair: pair[0])


def panels_figure(rows: int, columns: int, *, height: float) -> tuple[Figure, Grid]:
    """A page-wide figure of empty panels, and the panels by row and column."""
    figure = Figure(figsize=(9.2, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid: Grid = figure.subplots(rows, columns, squeeze=False).tolist()
    for ax in flat(grid):
        ax.set_facecolor("white")
        ax.grid(True, color="#E4E4E4", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8.5)
        ax.xaxis.label.set_fontsize(9)
        ax.yaxis.label.set_fontsize(9)
    return figure, grid


def title(ax: Axes, text: str) -> None:
    """Write the title of a panel at its left."""
    ax.set_title(text, fontsize=10, loc="left", color=INK)


def flat(grid: Grid) -> list[Axes]:
    """All panels, row by row."""
    return [ax for line in grid for ax in line]


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG without date or version, so that equal figures are equal files.

    A dollar sign in a name is a dollar sign, not the start of a formula.
    """
    for text in cast(list[Text], figure.findobj(Text)):
        if r"\mathdefault" not in text.get_text():
            text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return write_bytes(path, buffer.getvalue())


def legend(figure: Figure, grid: Grid) -> None:
    """Draw one legend below all panels, in the first colour of a label; hide empty panels."""
    entries: dict[str, Artist] = {}
    for ax in flat(grid):
        if not ax.has_data():
            ax.set_axis_off()
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


def with_ends(
    estimates: Sequence[Estimate], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Values, lower and upper interval ends; the ends are cut to [low, high] but enclose values."""
    values = np.array([estimate.value for estimate in estimates])
    ends = np.clip([estimate.interval for estimate in estimates], low, high)
    return values, np.minimum(ends[:, 0], values), np.maximum(ends[:, 1], values)


def bars(
    ax: Axes,
    at: Sequence[float],
    estimates: Sequence[Estimate],
    colour: str,
    marker: str,
    label: str,
    *,
    line: bool = False,
) -> None:
    """Draw estimates as markers, and their intervals as error bars."""
    values, low, high = with_ends(estimates, -1.0, 1.0)
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
        label=with_level(label, estimates[0]),
    )


def with_level(name: str, estimate: Estimate) -> str:
    """A legend entry with the level of the interval."""
    return f"{name}, {100 * estimate.level:g} % interval".removeprefix(", ")


def shade(ax: Axes, plan: SkipPlan) -> None:
    """Shade the layers that the plan skips."""
    layers = skipped_layers(plan)
    edges = [i for i, (a, b) in enumerate(pairwise(layers), 1) if b != a + 1]
    for start, end in pairwise([0, *edges, len(layers)]):
        if start < end:
            first, last = layers[start] - 0.5, layers[end - 1] + 0.5
            ax.axvspan(first, last, color=_PLAN_SHADE, alpha=0.3, lw=0, label="skipped by the plan")


def layer_axis(ax: Axes, n_layers: int) -> None:
    """Give the panel an x axis of layer numbers."""
    ax.set_xlim(-0.7, n_layers - 0.3)
    ax.set_xlabel("layer (0-based)")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))


def share_axis(ax: Axes) -> None:
    """Give the panel a y axis of shares, linear around zero and logarithmic above."""
    ax.set_yscale("symlog", linthresh=_LINEAR_TO, linscale=0.7)
    low, high = ax.dataLim.intervaly
    low, high = min(0.0, float(low)), max(0.05, float(high))
    ax.set_ylim(low * 1.15 - 0.0015, high * 1.2)
    ax.yaxis.set_major_locator(FixedLocator([t for t in _TICKS if low * 1.15 <= t <= high * 1.2]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(percent))


def percent(value: float, _: object = None) -> str:
    """Tick label of a share, in percent, with a true minus sign."""
    return f"{100 * value:g}".replace("-", "−")


def plain(value: float, _: object = None) -> str:
    """Tick label of a number, with a true minus sign."""
    return f"{value:g}".replace("-", "−")


def plain_between(ax: Axes) -> FuncFormatter:
    """Tick labels between powers of ten, where a logarithmic y axis spans less than one."""

    def label(value: float, _: object = None) -> str:
        low, high = ax.get_ylim()
        return plain(value) if high < 10 * low else ""

    return FuncFormatter(label)


def png_uri(path: Path) -> str:
    """A PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
