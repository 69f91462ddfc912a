"""What the page says about rules: a benchmark, with a figure for every model and mode."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_bridge.experiments.rule_benchmark import (
    ModelBenchmark,
    ModeTruth,
    RuleBenchmark,
    RuleResult,
)
from vlm_bridge.experiments.rule_benchmark.figures import plot_scores, unit_place
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan


@dataclass(frozen=True)
class ModeSection:
    """One mode of one model, as the template reads it.

    Attributes:
        mode: of the units.
        truths: what skipping the units did; several for `token_pruning` at several shares.
        results: every rule of the mode.
        uri: the figure of scores.
        same_plans: whether the plans are depths that no rule had a say in.
    """

    mode: str
    truths: Sequence[ModeTruth]
    results: Sequence[RuleResult]
    uri: str
    same_plans: bool


@dataclass(frozen=True)
class ModelSection:
    """One model with its modes."""

    benchmark: ModelBenchmark
    modes: Sequence[ModeSection]


def rule_sections(benchmark: RuleBenchmark, folder: Path) -> list[ModelSection]:
    """Draw the figures of a benchmark into `folder` and arrange it for the page."""
    return [
        ModelSection(one, [_mode(one, mode, folder) for mode in one.modes])
        for one in benchmark.models
    ]


def _mode(benchmark: ModelBenchmark, mode: str, folder: Path) -> ModeSection:
    path = plot_scores(folder / f"scores-{benchmark.model}-{mode}.png", benchmark, mode)
    results = [one for one in benchmark.rules if one.score.mode == mode]
    return ModeSection(
        mode=mode,
        truths=[one for one in benchmark.truths if one.mode == mode],
        results=results,
        uri=png_uri(path),
        same_plans=mode not in LAYERWISE,
    )


def png_uri(path: Path) -> str:
    """A PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def unit_names(truth: ModeTruth, verdict: str) -> str:
    """Layers or depths of one verdict, for people; a dash where there is none.

    Example:
        >>> units = tuple(SkipPlan("early_exit", 4, exit=depth) for depth in (1, 2, 3))
        >>> made = ModeTruth(units, 9, (0.0,) * 3, (0.0,) * 3, (0.1,) * 3, ("safe",) * 3)
        >>> unit_names(made, "safe"), unit_names(made, "harmful")
        ('1, 2, 3', '-')
    """
    found = [
        _name(unit) for unit, one in zip(truth.units, truth.verdicts, strict=True) if one == verdict
    ]
    return ", ".join(found) or "-"


def _name(unit: SkipPlan) -> str:
    part = "attention " if unit.attention else "MLP " if unit.mlp else ""
    return f"{part}{int(unit_place(unit))}"
