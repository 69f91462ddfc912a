"""Figures and names of units in the section on rules of the HTML report."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vlm_bridge.experiments.rule_benchmark import results as records
from vlm_bridge.figures import axes
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import unit_place
from vlm_bridge.runtime.files import safe_name

#: verdict -> colour, marker, face.
_VERDICTS = {
    "safe": (axes.GREEN, "o", axes.GREEN),
    "undetermined": (axes.GREY, "o", "white"),
    "harmful": (axes.VERMILLION, "X", axes.VERMILLION),
}


def plot_scores(path: Path, benchmark: records.ModelBenchmark, mode: str) -> Path:
    """Draw a panel of scores for each rule of a mode; markers show the verdicts on the units.

    Example:
        >>> plot_scores(Path("scores.png"), benchmark, "freeze")  # doctest: +SKIP
    """
    results = benchmark.rules_in(mode)
    columns = min(3, len(results))
    rows = math.ceil(len(results) / columns)
    figure, grid = axes.panels_figure(rows, columns, height=2.3 * rows + 0.7)
    for ax, result in zip(axes.flat(grid), results, strict=False):
        _panel(ax, benchmark, result)
    for ax in axes.flat(grid)[len(results) :]:
        ax.set_axis_off()
    axes.legend(figure, grid)
    return axes.save(figure, path)


def _panel(ax: Axes, benchmark: records.ModelBenchmark, result: records.RuleResult) -> None:
    truth = benchmark.truth_of(result)
    places = [unit_place(unit) for unit in truth.units]
    if truth.mode in ("block", "freeze") and not result.chosen.plan.is_empty:
        axes.shade(ax, result.chosen.plan)
    ax.plot(places, result.scores, color=axes.GREY, lw=0.7, alpha=0.6)
    for verdict, (colour, marker, face) in _VERDICTS.items():
        units = [i for i, own in enumerate(truth.verdicts) if own == verdict]
        at, scores = [places[i] for i in units], [result.scores[i] for i in units]
        ax.plot(at, scores, marker, ls="none", ms=4.5, mec=colour, mfc=face, label=verdict)
    low, high = min(result.scores), max(result.scores)
    if low > 0 and high / low > 100:
        ax.set_yscale("log")
    else:
        ax.yaxis.set_major_formatter(FuncFormatter(axes.plain))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    ax.set_xlabel(MODES[truth.mode].axis)
    ax.set_ylabel("score (lower = safer)")
    axes.title(ax, result.score.rule)


def score_figures(benchmark: records.RuleBenchmark, folder: Path) -> dict[str, dict[str, str]]:
    """Draw the scores of every model and mode into `folder`: model -> mode -> `data:` address."""

    def drawn(model: records.ModelBenchmark, mode: str) -> str:
        return axes.png_uri(
            plot_scores(
                folder / f"scores-{safe_name(model.model)}-{safe_name(mode)}.png", model, mode
            )
        )

    return {
        each.model: {mode: drawn(each, mode) for mode in each.modes} for each in benchmark.models
    }


def unit_names(truth: records.ModeTruth, verdict: str) -> str:
    """Layers or depths with a verdict; a dash if there are none.

    Example:
        >>> units = tuple(SkipPlan("early_exit", 4, exit=depth) for depth in (1, 2, 3))
        >>> truth = records.ModeTruth(units, 9, (0.0,) * 3, (0.0,) * 3, (0.1,) * 3, ("safe",) * 3)
        >>> unit_names(truth, "safe"), unit_names(truth, "harmful")
        ('1, 2, 3', '-')
    """
    verdicts = zip(truth.units, truth.verdicts, strict=True)
    return ", ".join(_name(unit) for unit, own in verdicts if own == verdict) or "-"


def _name(unit: SkipPlan) -> str:
    part = "attention " if unit.attention else "MLP " if unit.mlp else ""
    return f"{part}{int(unit_place(unit))}"
