"""How much a measured unit should count beside its prediction in skip-it-runs, on tuning images.

    python -m benchmarks.weight --models reference-qwen2.5-vl reference-gemma3

For every weight w of `SkipItRuns.weight`, Spearman's rank correlation of its scores, from profiling
images, with the measured disagreement of single units on tuning images. No test image is read.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import _help
from benchmarks._table import report
from estimators.rank_correlation import spearman
from vlm_bridge.data import TASKS
from vlm_bridge.evaluate.sweep import sweep_outcomes
from vlm_bridge.experiments.rule_benchmark import Case, Sizes, load_case
from vlm_bridge.experiments.scoring import Truth
from vlm_bridge.reference.shipped import complete_models
from vlm_bridge.rules import Evidence, find_rule, score_units

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Modes in which slopes and runs meet; late entries are scored by runs alone.
MODES = ("block", "freeze", "vision_attention", "vision_mlp", "sublayer", "early_exit")


def rows_of(case: Case, modes: Sequence[str]) -> list[dict[str, Any]]:
    """Spearman by mode and weight of one model."""
    evidence, rows = Evidence(case.vlm, case.splits.profiling), []
    for mode in modes:
        units = evidence.units(mode)
        truth = Truth.of(units, sweep_outcomes(case.vlm, case.splits.tuning, units))
        harm = truth.disagreement.mean(axis=0)
        row: dict[str, Any] = {"model": case.vlm.name, "mode": mode, "units": len(units)}
        for weight in WEIGHTS:
            rule: Any = replace(find_rule("skip-it-runs"), weight=weight)  # type: ignore[call-arg]
            row[f"w={weight:g}"] = spearman(score_units(rule, evidence, mode), harm)
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure and print, with the mean over models and modes."""
    parser = _help.parser("weight", __doc__ or "")
    parser.add_argument("--models", nargs="+", default=complete_models())
    parser.add_argument("--data", choices=list(TASKS), default="easy-vqa")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, metavar="MODE")
    parser.add_argument("--tuning", type=int, default=100, help="tuning images")
    parser.add_argument("--profiling", type=int, default=40, help="images that the rule reads")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args()
    sizes = Sizes(images=2, tuning=options.tuning, profiling=options.profiling)
    cases = (load_case(name, options.data, sizes) for name in options.models)
    rows = [row for case in cases for row in rows_of(case, options.modes)]
    names = [f"w={weight:g}" for weight in WEIGHTS]
    whole = [row for row in rows if not any(math.isnan(row[name]) for name in names)]
    means = {name: float(np.mean([row[name] for row in whole])) for name in names} if whole else {}
    report(
        "skip-it-runs: Spearman on tuning images by weight of the measurement",
        rows,
        as_json=options.json,
        means=means,
        tuning=options.tuning,
        profiling=options.profiling,
    )


if __name__ == "__main__":
    main()
