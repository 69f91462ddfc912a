"""Figures of `skipit claims`: single layers, AUC per rule, overlap and controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from estimators import Estimate
from vlm_bridge.experiments.claims.comparisons import control_size, order_of, our_conditions
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures import axes

#: origin -> colour, name in the legend.
_ORIGINS = {
    "ours": (axes.BLUE, "ours"),
    "framework": (axes.PURPLE, "a part of ours"),
    "published": (axes.VERMILLION, "published"),
    "control": (axes.GREY, "control"),
}


def plot_layers(path: Path, claims: ModelClaims) -> Path | None:
    """Disagreement after skipping each layer, coloured by its place in each layer-wise ranking."""
    benchmark = claims.benchmark
    results = our_conditions(benchmark, layerwise=True)
    if not results:
        return None
    figure, grid = axes.panels_figure(len(results), 1, height=2.2 * len(results) + 0.6)
    for ax, result in zip(axes.flat(grid), results, strict=True):
        truth, order = benchmark.truth_of(result), order_of(result.scores)
        size = control_size(result)
        for units, colour, label in (
            (order[:size], axes.GREEN, "our safest"),
            (order[size:-size], axes.GREY, "between"),
            (order[-size:], axes.VERMILLION, "our least safe"),
        ):
            mean = np.array([truth.mean[i] for i in units])
            ends = np.array([[truth.low[i], truth.high[i]] for i in units]).reshape(-1, 2)
            ax.errorbar(units, mean, yerr=np.abs(ends.T - mean), label=label, **_marks(colour, 3.8))
        ax.axhline(benchmark.epsilon, color=axes.GREY, ls="--", lw=1, label="epsilon")
        axes.layer_axis(ax, benchmark.n_layers)
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(FuncFormatter(axes.percent))
        ax.set_ylabel("changed first answer tokens (%)")
        axes.title(ax, f"{result.score.mode}, ranked by {result.score.rule}: one layer at a time")
    return _saved(figure, grid, path)


def plot_auc(path: Path, claims: ModelClaims) -> Path | None:
    """AUC of every rule in every mode, with intervals; None if no AUC is defined."""
    results = [r for r in claims.benchmark.rules if not math.isnan(r.score.auc.value)]
    if not results:
        return None
    results.sort(key=lambda r: (r.score.mode, r.score.auc.value))
    figure, grid = axes.panels_figure(1, 1, height=0.26 * len(results) + 1.1)
    ax = grid[0][0]
    for at, result in enumerate(results):
        _across(ax, at, result.score.auc, *_ORIGINS[result.origin])
    ax.axvline(0.5, color=axes.GREY, ls=":", lw=1)
    _name_rows(ax, [f"{result.score.mode}: {result.score.rule}" for result in results])
    ax.set_xlabel("AUC of harmful against safe units, 95 % interval over images")
    axes.title(ax, f"{claims.benchmark.model}: how well rules predict the effect of skipping")
    return _saved(figure, grid, path)


def plot_overlap(path: Path, claims: ModelClaims) -> Path | None:
    """Jaccard index of our set with each published method's, and by chance; None without pairs."""
    pairs = [(overlap, peer) for overlap in claims.overlaps for peer in overlap.peers]
    if not pairs:
        return None
    figure, grid = axes.panels_figure(1, 1, height=0.26 * len(pairs) + 1.1)
    ax, at = grid[0][0], np.arange(len(pairs))
    ax.barh(at, [peer.jaccard for _, peer in pairs], color=axes.BLUE, height=0.6, label="measured")
    ax.plot([peer.expected for _, peer in pairs], at, "k|", ms=9, mew=1.6, label="chance (mean)")
    _name_rows(ax, [f"{own.mode}, {own.size}: {own.rule} and {p.theirs}" for own, p in pairs])
    ax.set_xlim(left=0)
    ax.set_xlabel("Jaccard index of the skipped sets at equal size")
    axes.title(ax, f"{claims.benchmark.model}: do the sets coincide?")
    return _saved(figure, grid, path)


def plot_controls(path: Path, models: Sequence[ModelClaims]) -> Path | None:
    """Plans inside and outside the conditions at equal size; None without controls."""
    rows = [(claims.benchmark.model, control) for claims in models for control in claims.controls]
    if not rows:
        return None
    figure, grid = axes.panels_figure(1, 1, height=0.34 * len(rows) + 1.1)
    ax = grid[0][0]
    for at, (_, control) in enumerate(rows):
        safe, unsafe = control.safe.disagreement, control.unsafe.disagreement
        _across(ax, at + 0.12, safe, axes.GREEN, "inside the conditions")
        _across(ax, at - 0.12, unsafe, axes.VERMILLION, "outside the conditions")
    ax.set_ylim(-0.6, len(rows) - 0.4)
    _name_rows(ax, [f"{model}: {own.rule}, {own.mode}, {own.size}" for model, own in rows])
    ax.xaxis.set_major_formatter(FuncFormatter(axes.percent))
    ax.set_xlabel("changed first answer tokens on test images (%), 95 % interval")
    axes.title(ax, "As many layers, inside and outside the conditions")
    return _saved(figure, grid, path)


def _saved(figure: Figure, grid: axes.Grid, path: Path) -> Path:
    axes.legend(figure, grid)
    return axes.save(figure, path)


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)  # a $ is a $
    ax.set_xlim(-0.02, 1.02)


def _across(ax: Axes, at: float, estimate: Estimate, colour: str, label: str) -> None:
    value, low, high = axes.with_ends([estimate], 0.0, 1.0)
    ax.errorbar(value, [at], xerr=[value - low, high - value], label=label, **_marks(colour, 4))


def _marks(colour: str, size: float) -> dict[str, Any]:
    return {"fmt": "o", "ms": size, "elinewidth": 1, "capsize": 1.8, "color": colour}
