"""Rules against what skipping does, and the plans they certify: per model, mode and rule."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks._options import add_options, settings_of, sizes_of
from benchmarks._table import machine
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.experiments.rule_benchmark import (
    AcrossModels,
    ModelBenchmark,
    RuleBenchmark,
    RuleResult,
    benchmark_rules,
    load_case,
)
from vlm_bridge.experiments.scoring import leave_one_model_out
from vlm_bridge.figures.markdown import row
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.rules import find_rule
from vlm_bridge.rules.evidence import REQUIREMENTS
from vlm_bridge.runtime.files import write_bytes

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
#: What is compared across models, higher is better, and which rules take part.
FIGURES: dict[str, tuple[Callable[[RuleResult], float], Sequence[str]]] = {
    "AUC": (lambda one: one.score.auc.value, REQUIREMENTS),
    "AUC, one pass at most": (lambda one: one.score.auc.value, REQUIREMENTS[:2]),
    "saving": (lambda one: one.chosen.saving.value, REQUIREMENTS),
}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure what the checkpoint lacks, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rules",
        description=__doc__,
        epilog="Killed? The same command goes on from the checkpoint.",
    )
    add_options(parser)
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    try:
        benchmark = measure(options)
    except BridgeError as error:
        parser.error(str(error))
    folder = options.out or FOLDER
    body = benchmark.to_json()
    # Without indentation: it is for programs, and large.
    write_bytes(folder / "rules.json", (json.dumps(body, allow_nan=False) + "\n").encode())
    write_bytes(folder / "rules.md", markdown(benchmark).encode())
    print(json.dumps(body, indent=1, allow_nan=False) if options.json else markdown(benchmark))


def measure(options: argparse.Namespace) -> RuleBenchmark:
    """Every model in turn; what is in the checkpoint is not measured again."""
    settings, sizes = settings_of(options), sizes_of(options)
    rules = [find_rule(name) for name in options.rules]
    found = []
    for name in options.models:
        given = load_case(name, options.data, sizes)
        found.append(
            benchmark_rules(
                given.vlm,
                given.splits,
                rules=rules,
                modes=options.modes,
                settings=settings,
                folder=options.checkpoint,
            )
        )
        sys.stderr.write(f"{name}: {len(found[-1].rules)} rules and modes\n")
    return RuleBenchmark(tuple(found), tuple(across(found, options.modes)), DECISION, machine())


def across(models: Sequence[ModelBenchmark], modes: Sequence[str]) -> list[AcrossModels]:
    """Leave one model out, in every mode that several models have."""
    found = []
    for mode in modes:
        for figure, (of, reads) in FIGURES.items():
            table = {
                model.model: {
                    one.score.rule: of(one)
                    for one in model.rules
                    if one.score.mode == mode and one.score.requires in reads
                }
                for model in models
                if mode in model.modes
            }
            if len(table) < 2:
                continue
            try:
                found.append(AcrossModels(mode, figure, tuple(leave_one_model_out(table))))
            except BridgeError as error:
                found.append(AcrossModels(mode, figure, (), str(error)))
    return found


def markdown(benchmark: RuleBenchmark) -> str:
    """The tables for `docs/`."""
    first = benchmark.models[0]
    made = [one.chosen.error_rate_check for model in benchmark.models for one in model.rules]
    check = next((one for one in made if one is not None), None)
    lines = [
        "# Rules against what skipping does",
        "",
        f"`{benchmark.machine['command']}`. What is compared is the {benchmark.decision}. A unit "
        f"is *safe* where the interval of its disagreement lies below epsilon = {first.epsilon:g}, "
        "*harmful* where it lies above, and *undetermined* across; undetermined units count in no "
        "figure but Spearman. *Saved* is the share of the prefill's work that the plan certified "
        f"at epsilon with probability {1 - first.delta:.0%} leaves out, *changed* its disagreement "
        "on untouched images, FLOPs and latency are skipped/full. Brackets are 95 % intervals "
        "over resampled images (latency: over pairs).",
        "",
    ]
    if check is not None:
        lines += [
            f"*Broken* counts promises over {check.resamples} resamplings of the certification "
            "images, whole images with replacement, whose mean is then the truth; † where no "
            f"plan of the path was bad enough to break one. {benchmark.error_rates()}",
            "",
        ]
    for model in benchmark.models:
        lines += _of_model(model)
    if benchmark.across:
        lines += ["## Leave one model out", "", row(_LEFT_OUT), "|---" * 6 + "|"]
        for one in benchmark.across:
            for left in one.left_out:
                cells = [left.model, left.chosen, f"{left.there:.2f}", f"{left.here:.2f}"]
                best = f"{left.best} ({left.best_here:.2f})"
                lines.append(row([f"{one.mode}, {one.figure}", *cells, best]))
            if one.reason:
                lines.append(row([f"{one.mode}, {one.figure}", one.reason, *["-"] * 4]))
    return "\n".join(lines).rstrip() + "\n"


_LEFT_OUT = ("mode, figure", "left out", "the others choose", "there", "here", "best here")
_HEAD = (
    *("rule", "requires", "forward_cost", "AUC", "Spearman", "false-safe", "certified plan"),
    *("saved", "FLOPs", "latency", "changed", "broken"),
)


def _of_model(model: ModelBenchmark) -> list[str]:
    sizes = ", ".join(f"{n} {split}" for split, n in model.n_images.items())
    lines = [f"## {model.model}, {model.n_layers} layers", "", f"Images: {sizes}.", ""]
    if model.forward_cost is not None:
        lines[2] += (
            f" Every rule had {model.forward_cost:g} forward passes over the profiling images."
        )
    for mode in model.modes:
        lines += [f"### {mode}", ""]
        for truth in model.truths:
            if truth.mode == mode:
                count = {v: truth.verdicts.count(v) for v in ("safe", "harmful", "undetermined")}
                keep = "" if truth.keep is None else f"keeping {truth.keep:.0%}: "
                said = ", ".join(f"{n} {verdict}" for verdict, n in count.items())
                lines += [f"{keep}{len(truth.units)} units: {said}.".capitalize(), ""]
        lines += [row(_HEAD), "|---" * len(_HEAD) + "|"]
        lines += [row(_cells(one, model.epsilon)) for one in model.rules if one.score.mode == mode]
        lines.append("")
    if model.refused:
        lines += [f"- {one.rule}, {one.mode}: {one.reason}" for one in model.refused] + [""]
    return lines


def _cells(one: RuleResult, epsilon: float) -> list[str]:
    score, made = one.score, one.chosen
    speed, check = made.speed, made.error_rate_check
    broken = "-"
    if check is not None:
        star = " †" if check.worst <= epsilon else ""
        broken = f"{check.broken}{star}"
    return [
        score.rule,
        score.requires,
        f"{score.forward_cost:.1f}",
        *(bracketed(figure) for figure in (score.auc, score.spearman, score.false_safe)),
        "none" if made.plan.is_empty else made.plan.describe(),
        bracketed(made.saving),
        "-" if speed is None else f"{speed.flops_ratio:.2f}",
        "-" if speed is None else bracketed(speed.latency_ratio),
        bracketed(made.disagreement, ".3f"),
        broken,
    ]


if __name__ == "__main__":
    main()
