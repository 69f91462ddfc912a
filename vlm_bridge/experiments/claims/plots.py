"""Figures of the protocol: a forest plot of every clause, a heatmap of harm of every model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from estimators import Estimate
from vlm_bridge.experiments.claims.protocol import RANDOM_WEIGHTS, SHUFFLED, Clause
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures import axes

_COLOURS = {RANDOM_WEIGHTS: axes.GREY, SHUFFLED: axes.VERMILLION}
_STEP = 0.22


def plot_clause(path: Path, clause: Clause, models: Sequence[ModelClaims]) -> Path | None:
    """Effect of every run with its interval, its nulls beside it; None if no effect is defined."""
    rows = [
        (run.name if run.name == run.model else f"{run.name}: {run.model}", result)
        for run in models
        for result in run.tests
        if result.id == clause.id and _defined(result.effect)
    ]
    if not rows:
        return None
    figure, grid = axes.panels_figure(1, 1, height=0.45 * len(rows) + 1.3)
    ax = grid[0][0]
    for at, (_, result) in enumerate(rows):
        if result.effect is not None:
            _across(ax, at, result.effect, axes.BLUE, "model")
        for point in result.points:
            if point.null is not None and _defined(point.null):
                place = at - _STEP * (1 + list(_COLOURS).index(point.name))
                _across(ax, place, point.null, _COLOURS[point.name], point.name)
    ax.axvline(0.0, color=axes.INK, ls=":", lw=1)
    ax.set_ylim(-0.8, len(rows) - 0.4)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8, parse_math=False)
    ax.set_xlabel(f"{clause.effect}, 95 % interval")
    axes.title(ax, f"{clause.id}: {clause.claim}")
    axes.legend(figure, grid)
    return axes.save(figure, path)


def plot_harm(path: Path, run: ModelClaims) -> Path | None:
    """Harm of every single skip, layer by mode; None if no mode was measured."""
    if not run.harm:
        return None
    table = np.full((len(run.harm), run.n_layers), np.nan)
    for row, harm in zip(table, run.harm, strict=True):
        for place, value in zip(harm.places, harm.mean, strict=True):
            row[int(place)] = value
    figure, grid = axes.panels_figure(1, 1, height=0.32 * len(run.harm) + 1.4)
    ax = grid[0][0]
    ax.grid(False)
    drawn = ax.imshow(table, aspect="auto", vmin=0.0, vmax=1.0, cmap="cividis")
    bar = figure.colorbar(drawn, ax=ax, shrink=0.9)
    bar.set_label("share of answers changed", fontsize=8.5)
    ax.set_yticks(range(len(run.harm)), [harm.mode for harm in run.harm], fontsize=8)
    axes.layer_axis(ax, run.n_layers)
    ax.set_xlim(-0.5, run.n_layers - 0.5)
    ax.set_xlabel("layer skipped alone, or depth (0-based)")
    axes.title(ax, f"{run.name}: answers changed by every single skip")
    return axes.save(figure, path)


def _defined(estimate: Estimate | None) -> bool:
    return estimate is not None and not math.isnan(estimate.value)


def _across(ax: Axes, at: float, estimate: Estimate, colour: str, label: str) -> None:
    low, high = estimate.interval
    ends = [[estimate.value - low], [high - estimate.value]]
    style: dict[str, Any] = {"fmt": "o", "ms": 4, "elinewidth": 1, "capsize": 1.8, "color": colour}
    ax.errorbar([estimate.value], [at], xerr=ends, label=label, **style)
