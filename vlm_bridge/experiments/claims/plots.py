"""Figures of `skipit claims`: single layers, AUC per rule, overlap and controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from estimators import Estimate
from vlm_bridge.experiments.claims.comparisons import control_size, order_of, our_conditions
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.figures.axes import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILLION,
    flat,
    layer_axis,
    legend,
    panels_figure,
    percent,
    save,
    title,
    with_ends,
)

#: origin -> colour, name in the legend.
_ORIGINS = {
    "ours": (BLUE, "ours"),
    "framework": (PURPLE, "a part of ours"),
    "published": (VERMILLION, "published"),
    "control": (GREY, "control"),
}


def plot_layers(path: Path, claims: ModelClaims) -> Path | None:
    """Disagreement after skipping each layer, coloured by the place in our ranking.

    A panel for every layer-wise ranking of ours; None without one.
    """
    benchmark = claims.benchmark
    results = our_conditions(benchmark, layerwise=True)
    if not results:
        return None
    figure, grid = panels_figure(len(results), 1, height=2.2 * len(results) + 0.6)
    for ax, result in zip(flat(grid), results, strict=True):
        truth, order = benchmark.truth_of(result), order_of(result.scores)
        size = control_size(result)
        for units, colour, label in (
            (order[:size], GREEN, "our safest"),
            (order[size:-size], GREY, "between"),
            (order[-size:], VERMILLION, "our least safe"),
        ):
            mean = np.array([truth.mean[i] for i in units])
            ends = np.array([[truth.low[i], truth.high[i]] for i in units]).reshape(-1, 2)
            ax.errorbar(units, mean, yerr=np.abs(ends.T - mean), label=label, **_marks(colour, 3.8))
        ax.axhline(benchmark.epsilon, color=GREY, ls="--", lw=1, label="epsilon")
        layer_axis(ax, benchmark.n_layers)
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(FuncFormatter(percent))
        ax.set_ylabel("changed answers (%)")
        title(ax, f"{result.score.mode}, ranked by {result.score.rule}: one layer at a time")
    legend(figure, grid)
    return save(figure, path)


def plot_auc(path: Path, claims: ModelClaims) -> Path | None:
    """AUC of every rule in every mode, with intervals; None if no AUC is defined."""
    results = [r for r in claims.benchmark.rules if not math.isnan(r.score.auc.value)]
    if not results:
        return None
    results.sort(key=lambda r: (r.score.mode, r.score.auc.value))
    figure, grid = panels_figure(1, 1, height=0.26 * len(results) + 1.1)
    (ax,) = flat(grid)
    for at, result in enumerate(results):
        _across(ax, at, result.score.auc, *_ORIGINS[result.origin])
    ax.axvline(0.5, color=GREY, ls=":", lw=1)
    _name_rows(ax, [f"{result.score.mode}: {result.score.rule}" for result in results])
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("AUC of harmful against safe units, 95 % interval over images")
    title(ax, f"{claims.benchmark.model}: how well rules predict the effect of skipping")
    legend(figure, grid)
    return save(figure, path)


def plot_overlap(path: Path, claims: ModelClaims) -> Path | None:
    """Jaccard index of our set with each published method's, beside chance; None without one."""
    pairs = [(overlap, peer) for overlap in claims.overlaps for peer in overlap.peers]
    if not pairs:
        return None
    figure, grid = panels_figure(1, 1, height=0.26 * len(pairs) + 1.1)
    (ax,) = flat(grid)
    at = np.arange(len(pairs))
    ax.barh(at, [peer.jaccard for _, peer in pairs], color=BLUE, height=0.6, label="measured")
    ax.plot([peer.expected for _, peer in pairs], at, "k|", ms=9, mew=1.6, label="chance (mean)")
    _name_rows(ax, [f"{own.mode}, {own.size}: {own.rule} and {p.theirs}" for own, p in pairs])
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("Jaccard index of the skipped sets at equal size")
    title(ax, f"{claims.benchmark.model}: do the sets coincide?")
    legend(figure, grid)
    return save(figure, path)


def plot_controls(path: Path, models: Sequence[ModelClaims]) -> Path | None:
    """Plans inside and outside the conditions at equal size, for every model; None without one."""
    rows = [(claims.benchmark.model, control) for claims in models for control in claims.controls]
    if not rows:
        return None
    figure, grid = panels_figure(1, 1, height=0.34 * len(rows) + 1.1)
    (ax,) = flat(grid)
    for at, (_, control) in enumerate(rows):
        _across(ax, at + 0.12, control.safe.disagreement, GREEN, "inside the conditions")
        _across(ax, at - 0.12, control.unsafe.disagreement, VERMILLION, "outside the conditions")
    ax.set_ylim(-0.6, len(rows) - 0.4)
    _name_rows(ax, [f"{model}: {own.rule}, {own.mode}, {own.size}" for model, own in rows])
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.set_xlabel("changed answers on test images (%), 95 % interval")
    title(ax, "As many layers, inside and outside the conditions")
    legend(figure, grid)
    return save(figure, path)


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)))
    ax.set_yticklabels(names, fontsize=8)


def _across(ax: Axes, at: float, estimate: Estimate, colour: str, label: str) -> None:
    value, low, high = with_ends([estimate], 0.0, 1.0)
    ax.errorbar(value, [at], xerr=[value - low, high - value], label=label, **_marks(colour, 4))


def _marks(colour: str, size: float) -> dict[str, Any]:
    return {"fmt": "o", "ms": size, "elinewidth": 1, "capsize": 1.8, "color": colour}
