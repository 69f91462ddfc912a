"""Figures of a result of `skipit claims`: layers one by one, AUC per rule, overlap, controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from estimators import Estimate
from vlm_bridge.experiments.claims.comparisons import (
    LAYERWISE,
    control_size,
    order_of,
    our_conditions,
)
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
)

_COLOURS = {"ours": BLUE, "framework": PURPLE, "published": VERMILLION, "control": GREY}
_NAMES = {
    "ours": "ours",
    "framework": "a part of ours",
    "published": "published",
    "control": "control",
}


def plot_layers(path: Path, found: ModelClaims) -> Path | None:
    """What leaving out each layer does, and which layers our rule calls safest and least safe.

    A panel for every layer-wise ranking of ours; None where there is none.
    """
    ours = [one for one in our_conditions(found.benchmark) if one.score.mode in LAYERWISE]
    if not ours:
        return None
    figure, grid = panels_figure(len(ours), 1, height=2.2 * len(ours) + 0.6)
    for ax, one in zip(flat(grid), ours, strict=True):
        truth, size = found.benchmark.truth_of(one), control_size(one)
        order = order_of(one.scores)
        for units, colour, name in (
            (order[:size], GREEN, f"our {size} safest"),
            (order[size:-size], GREY, "between"),
            (order[-size:], VERMILLION, f"our {size} least safe"),
        ):
            mean = np.array([truth.mean[i] for i in units])
            ends = np.array([[truth.low[i], truth.high[i]] for i in units]).reshape(-1, 2)
            ax.errorbar(
                units,
                mean,
                yerr=np.abs(ends.T - mean),
                fmt="o",
                ms=3.8,
                elinewidth=1,
                capsize=1.8,
                color=colour,
                label=name.replace(f" {size}", ""),
            )
        ax.axhline(found.benchmark.epsilon, color=GREY, ls="--", lw=1, label="epsilon")
        layer_axis(ax, found.benchmark.n_layers)
        _shares(ax, "changed answers (%)")
        title(ax, f"{one.score.mode}, ranked by {one.score.rule}: one layer at a time")
    legend(figure, grid)
    return save(figure, path)


def plot_auc(path: Path, found: ModelClaims) -> Path | None:
    """AUC of every rule in every mode, with intervals; None where no AUC is defined."""
    results = [one for one in found.benchmark.rules if not math.isnan(one.score.auc.value)]
    if not results:
        return None
    results.sort(key=lambda one: (one.score.mode, one.score.auc.value))
    figure, grid = panels_figure(1, 1, height=0.26 * len(results) + 1.1)
    (ax,) = flat(grid)
    for at, one in enumerate(results):
        _across(ax, at, one.score.auc, _COLOURS[one.origin], _NAMES[one.origin])
    ax.axvline(0.5, color=GREY, ls=":", lw=1)
    ax.set_yticks(range(len(results)))
    ax.set_yticklabels([f"{one.score.mode}: {one.score.rule}" for one in results], fontsize=8)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("AUC of harmful against safe units, 95 % interval over images")
    title(ax, f"{found.benchmark.model}: who foresees what skipping does")
    legend(figure, grid)
    return save(figure, path)


def plot_overlap(path: Path, found: ModelClaims) -> Path | None:
    """Jaccard index of our set with each published method's, beside chance."""
    pairs = [(one, peer) for one in found.overlaps for peer in one.peers]
    if not pairs:
        return None
    figure, grid = panels_figure(1, 1, height=0.26 * len(pairs) + 1.1)
    (ax,) = flat(grid)
    at = np.arange(len(pairs))
    ax.barh(at, [peer.jaccard for _, peer in pairs], color=BLUE, height=0.6, label="measured")
    ax.plot([peer.expected for _, peer in pairs], at, "k|", ms=9, mew=1.6, label="chance (mean)")
    ax.set_yticks(at)
    names = [f"{one.mode}, {one.size}: {one.rule} and {peer.theirs}" for one, peer in pairs]
    ax.set_yticklabels(names, fontsize=8)
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("Jaccard index of the skipped sets at equal size")
    title(ax, f"{found.benchmark.model}: do the sets coincide?")
    legend(figure, grid)
    return save(figure, path)


def plot_controls(path: Path, models: Sequence[ModelClaims]) -> Path | None:
    """Plans inside and outside the conditions at equal size, for every model."""
    rows = [(found, one) for found in models for one in found.controls]
    if not rows:
        return None
    figure, grid = panels_figure(1, 1, height=0.34 * len(rows) + 1.1)
    (ax,) = flat(grid)
    for at, (_, one) in enumerate(rows):
        _across(ax, at + 0.12, one.safe.disagreement, GREEN, "inside the conditions")
        _across(ax, at - 0.12, one.unsafe.disagreement, VERMILLION, "outside the conditions")
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_yticks(range(len(rows)))
    names = [f"{found.benchmark.model}: {one.rule}, {one.mode}, {one.size}" for found, one in rows]
    ax.set_yticklabels(names, fontsize=8)
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.set_xlabel("changed answers on untouched images (%), 95 % interval")
    title(ax, "As many layers, inside and outside the conditions")
    legend(figure, grid)
    return save(figure, path)


def _across(ax: Axes, at: float, one: Estimate, colour: str, label: str) -> None:
    low, high = np.clip(one.interval, 0.0, 1.0)
    ax.errorbar(
        [one.value],
        [at],
        xerr=[[max(0.0, one.value - low)], [max(0.0, high - one.value)]],
        fmt="o",
        ms=4,
        elinewidth=1,
        capsize=1.8,
        color=colour,
        label=label,
    )


def _shares(ax: Axes, label: str) -> None:
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(FuncFormatter(percent))
    ax.set_ylabel(label)
