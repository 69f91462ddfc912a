"""The section on rules of the HTML report: figures and names of units."""

from __future__ import annotations

import base64
from pathlib import Path

from vlm_bridge.experiments.rule_benchmark.figures import plot_scores, unit_place
from vlm_bridge.experiments.rule_benchmark.results import ModeTruth, RuleBenchmark
from vlm_bridge.plan.skip_plan import SkipPlan


def score_figures(benchmark: RuleBenchmark, folder: Path) -> dict[str, dict[str, str]]:
    """Draw the scores of every model and mode into `folder`: model -> mode -> `data:` address."""
    return {
        model.model: {
            mode: png_uri(plot_scores(folder / f"scores-{model.model}-{mode}.png", model, mode))
            for mode in model.modes
        }
        for model in benchmark.models
    }


def png_uri(path: Path) -> str:
    """A PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def unit_names(truth: ModeTruth, verdict: str) -> str:
    """Layers or depths with a verdict; a dash if there are none.

    Example:
        >>> units = tuple(SkipPlan("early_exit", 4, exit=depth) for depth in (1, 2, 3))
        >>> truth = ModeTruth(units, 9, (0.0,) * 3, (0.0,) * 3, (0.1,) * 3, ("safe",) * 3)
        >>> unit_names(truth, "safe"), unit_names(truth, "harmful")
        ('1, 2, 3', '-')
    """
    verdicts = zip(truth.units, truth.verdicts, strict=True)
    return ", ".join(_name(unit) for unit, own in verdicts if own == verdict) or "-"


def _name(unit: SkipPlan) -> str:
    part = "attention " if unit.attention else "MLP " if unit.mlp else ""
    return f"{part}{int(unit_place(unit))}"
