"""Rules against measured disagreement, and the plans they certify: per model, mode and rule."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks._options import add_options, settings_of, sizes_of
from benchmarks._table import machine
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.experiments.rule_benchmark import (
    AcrossModels,
    ModelBenchmark,
    RuleBenchmark,
    RuleResult,
    Settings,
    benchmark_rules,
    load_case,
)
from vlm_bridge.experiments.scoring import leave_one_model_out
from vlm_bridge.figures.markdown import table
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.account import REQUIREMENTS
from vlm_bridge.runtime.files import write_bytes, write_record

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
#: Figure of merit -> function, higher is better, and evidence of the rules that are compared.
FIGURES: dict[str, tuple[Callable[[RuleResult], float], Sequence[str]]] = {
    "AUC": (lambda result: result.score.auc.value, REQUIREMENTS),
    "AUC, one pass at most": (lambda result: result.score.auc.value, REQUIREMENTS[:2]),
    "saving": (lambda result: result.chosen.saving.value, REQUIREMENTS),
}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rules",
        description=__doc__,
        epilog="After a kill, the same command resumes from the checkpoint.",
    )
    add_options(parser, Settings)
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    try:
        benchmark = measure(options)
    except BridgeError as error:
        parser.error(str(error))
    folder, text, record = options.out or FOLDER, markdown(benchmark), without_images(benchmark)
    write_record(folder / "rules.json", record)
    write_bytes(folder / "rules.md", text.encode())
    print(json.dumps(record.to_json(), indent=1, allow_nan=False) if options.json else text)


def measure(options: argparse.Namespace) -> RuleBenchmark:
    """Every model in turn; finished work is read from the checkpoint."""
    settings, sizes = settings_of(options, Settings), sizes_of(options)
    models = []
    for name in options.models:
        case = load_case(name, options.data, sizes)
        models.append(benchmark_rules(case.vlm, case.splits, settings))
        sys.stderr.write(f"{name}: {len(models[-1].rules)} rules and modes\n")
    choices = across(models, options.modes)
    return RuleBenchmark(tuple(models), tuple(choices), DECISION, machine())


def without_images(benchmark: RuleBenchmark) -> RuleBenchmark:
    """The same, with plans that do not list the images they come from: `hashes` has their splits.

    Hundreds of names at each of some thousand steps would be most of a record.
    """

    def bare(plan: SkipPlan) -> SkipPlan:
        origin = replace(plan.provenance, profiled=(), tuned=(), certified=())
        return replace(plan, provenance=origin)

    def of_rule(result: RuleResult) -> RuleResult:
        search = result.chosen.search
        path = tuple(replace(step, plan=bare(step.plan)) for step in search.path)
        search = replace(search, plan=bare(search.plan), path=path)
        return replace(result, chosen=replace(result.chosen, search=search))

    models = (replace(model, rules=tuple(map(of_rule, model.rules))) for model in benchmark.models)
    return replace(benchmark, models=tuple(models))


def across(models: Sequence[ModelBenchmark], modes: Sequence[str]) -> list[AcrossModels]:
    """Leave one model out, in every mode that several models have."""
    choices = []
    for mode in modes:
        for figure, (of, evidence) in FIGURES.items():
            values = {
                model.model: {
                    result.score.rule: of(result)
                    for result in model.rules_in(mode)
                    if result.score.requires in evidence
                }
                for model in models
                if mode in model.modes
            }
            if len(values) < 2:
                continue
            try:
                choices.append(AcrossModels(mode, figure, tuple(leave_one_model_out(values))))
            except BridgeError as error:
                choices.append(AcrossModels(mode, figure, (), str(error)))
    return choices


def markdown(benchmark: RuleBenchmark) -> str:
    """The page of a benchmark in `docs/`."""
    first = benchmark.models[0]
    checks = [each.chosen.error_rate_check for model in benchmark.models for each in model.rules]
    check = next((each for each in checks if each is not None), None)
    lines = [
        "# Rules against measured disagreement of first answer tokens",
        "",
        f"`{benchmark.machine['command']}`. The quantity compared is the {benchmark.decision}. A "
        "unit is *safe* if the interval of its disagreement lies below epsilon = "
        f"{first.epsilon:g}, *harmful* if it lies above, and *undetermined* otherwise; "
        "undetermined units count in rank correlations alone. *Saved* is the share of the work of "
        f"the prefill that the plan certified at epsilon with probability {1 - first.delta:.0%} "
        "saves, *changed* its disagreement on test images, *random* that of random plans of its "
        "size (median; p of as good a plan if it were drawn as they are), *deepest* that of the "
        "last layers, as many; FLOPs and latency are skipped/full. *Given depth* is a partial rank "
        "correlation given the unit's depth. Brackets are 95 % intervals: of rankings by bootstrap "
        "over units and images, of what is saved and changed over images, of latency over pairs. A "
        "star: not reliable, the record says why.",
        "",
    ]
    if check is not None:
        lines += [
            f"*Wrong* counts wrong certificates over {check.resamples} resamplings of the "
            "certification images, whole images with replacement, whose mean is the true value; "
            f"† if no plan of the path could make one wrong. {benchmark.error_rates()}",
            "",
        ]
    for model in benchmark.models:
        lines += _of_model(model)
    if benchmark.across:
        rows: list[list[str]] = []
        for each in benchmark.across:
            figure = f"{each.mode}, {each.figure}"
            for left in each.left_out:
                values = [left.model, left.chosen, f"{left.there:.2f}", f"{left.here:.2f}"]
                rows.append([figure, *values, f"{left.best} ({left.best_here:.2f})"])
            if each.reason:
                rows.append([figure, each.reason, *["-"] * 4])
        head = ["mode, figure", "left out", "best on the others", "there", "here", "best here"]
        lines += ["## Leave one model out", "", *table(head, rows)]
    return "\n".join(lines).rstrip() + "\n"


_HEAD = (
    *("rule", "requires", "forward passes", "AUC", "Spearman", "given depth", "false-safe"),
    *("certified plan", "saved", "FLOPs", "latency", "changed", "random", "deepest", "wrong"),
)


def _of_model(model: ModelBenchmark) -> list[str]:
    sizes = ", ".join(f"{n} {split}" for split, n in model.n_images.items())
    budget = ""
    if model.forward_cost is not None:
        budget = f" Every rule had {model.forward_cost:g} forward passes over the profiling images."
    lines = [f"## {model.model}, {model.n_layers} layers", "", f"Images: {sizes}.{budget}", ""]
    for mode in model.modes:
        lines += [f"### {mode}", ""]
        for truth in model.truths_in(mode):
            counts = ", ".join(
                f"{truth.verdicts.count(verdict)} {verdict}"
                for verdict in ("safe", "harmful", "undetermined")
            )
            keep = "" if truth.keep is None else f"keeping {truth.keep:.0%}: "
            lines += [f"{keep}{len(truth.units)} units: {counts}.".capitalize(), ""]
        rows = [_cells(result, model.epsilon) for result in model.rules_in(mode)]
        lines += [*table(_HEAD, rows), ""]
    if model.refused:
        lines += [f"- {each.rule}, {each.mode}: {each.reason}" for each in model.refused] + [""]
    return lines


def _cells(result: RuleResult, epsilon: float) -> list[str]:
    score, chosen, wrong = result.score, result.chosen, "-"
    if (check := chosen.error_rate_check) is not None:
        wrong = f"{check.wrong}{' †' if check.worst <= epsilon else ''}"
    return [
        score.rule,
        score.requires,
        f"{score.forward_cost:.1f}",
        *map(bracketed, (score.auc, score.spearman, score.partial, score.false_safe)),
        "none" if chosen.plan.is_empty else chosen.plan.describe(),
        bracketed(chosen.saving),
        "-" if chosen.flops_ratio is None else f"{chosen.flops_ratio:.2f}",
        bracketed(chosen.latency_ratio),
        bracketed(chosen.disagreement, ".3f"),
        f"{median(chosen.random):.3f} (p {chosen.p_value:.2g})" if chosen.random else "-",
        "-" if chosen.deepest is None else f"{chosen.deepest:.3f}",
        wrong,
    ]


if __name__ == "__main__":
    main()
