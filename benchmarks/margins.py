"""Our rules against depth alone and against the best published rule, over several models.

    python -m benchmarks.margins

Reads records that `python -m benchmarks.rules` wrote. For each model and mode: Spearman's rank
correlation of a rule's scores with the measured disagreement of single units, and how far it lies
above that of depth alone and of the best published rule that needs no more kinds of evidence. Wins
and losses alike are printed.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.rule_benchmark import (
    Chosen,
    Margin,
    ModelBenchmark,
    RuleBenchmark,
    RuleResult,
)
from vlm_bridge.experiments.rule_benchmark.margins import DEPTH, best_rival
from vlm_bridge.figures.markdown import table
from vlm_bridge.figures.numbers import bracketed
from vlm_bridge.plan.modes import ranges
from vlm_bridge.runtime.files import read_record, write_bytes

#: What a reader of the rows of a rule has to know.
_NOTES = {
    "skip-it-runs": (
        "The form of its late entries was chosen after those of the three models of 8 layers had "
        "been measured on these test images, so these rows are no evidence for it."
    )
}
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
PAGE = FOLDER / "margins.md"
#: Records of the page; each is of other models.
RECORDS = [
    FOLDER / name / "rules.json"
    for name in ("", "scenes", "reference", "all-linear", "late-entry", "photos")
]


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, read the records, print and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.margins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "records",
        nargs="*",
        type=Path,
        default=RECORDS,
        help="rules.json of finished runs (those of docs/results)",
    )
    parser.add_argument("--page", type=Path, default=PAGE, help=f"page to write ({PAGE})")
    options = parser.parse_args(arguments)
    try:
        runs = [read_record(path, RuleBenchmark, "benchmark of rules") for path in options.records]
        models = [model for run in runs for model in run.models]
        counted = Counter(model.model for model in models)
        if twice := [name for name, count in counted.items() if count > 1]:
            raise BridgeError(f"{twice[0]} is in several of these records; give each model once")
        text = "\n".join(page(models)).rstrip() + "\n"
    except BridgeError as error:
        parser.error(str(error))
    write_bytes(options.page, text.encode())
    print(text)


def page(models: Sequence[ModelBenchmark]) -> Iterator[str]:
    """The lines of the page."""
    yield from (
        "# Our rules against depth alone and against published rules",
        "",
        "Made by `python -m benchmarks.margins` from records of `python -m benchmarks.rules`. "
        "*Spearman* is the rank correlation of a rule's scores with the measured disagreement of "
        "single units (layers, sublayers or depths) on test images; *given depth* is the partial "
        f"rank correlation given the unit's depth. *{DEPTH}* is depth alone. The *best published* "
        "rule is the one with the highest Spearman on the same test images among those that need "
        "no more kinds of evidence than ours (nothing, forward passes, candidate runs, labels), "
        "though some cost more passes. That choice favours it so much that a win could hardly be "
        "seen, and gives losses by chance. Brackets are 95 % intervals by bootstrap over units and "
        "images, of differences in pairs; a star: not reliable. A *win* or *loss* is a difference "
        "whose reliable interval lies .01 away from zero, with no correction for the number of "
        "rows. With 7 or 8 units nearly nothing can be decided. 0.00 [0.00, 0.00]: the orders "
        "differ at most in units of equal measured harm. Where harm is near zero, measured harm "
        "itself orders the units by chance.",
        "",
    )
    ours = (each for model in models for each in model.rules if each.origin == "ours")
    for rule in dict.fromkeys(each.score.rule for each in ours):
        yield from (f"## {rule}", "", *_of_rule(rule, models), "")
        if note := _NOTES.get(rule):
            yield from (note, "")
    yield from ("## Certified plans beside plans that no measurement chose", "", *_plans(models))
    yield from ("", "## Images shown less", "", *_shown_less(models))


def _of_rule(rule: str, models: Sequence[ModelBenchmark]) -> Iterator[str]:
    rows: list[list[str]] = []
    verdicts: dict[str, list[str]] = {"depth": [], "published": []}
    for model in models:
        for ours in (result for result in model.rules if result.score.rule == rule):
            truth, rival = model.truth_of(ours), best_rival(model, ours)
            found = {
                "depth": _margin(model, ours, DEPTH),
                "published": None if rival is None else _margin(model, ours, rival.score.rule),
            }
            for name, margin in found.items():
                if margin is not None and margin.verdict:
                    verdicts[name].append(margin.verdict)
            best = "-" if rival is None else f"{rival.score.rule} {_value(rival)}"
            rows.append(
                [
                    f"{model.model}, {ours.score.mode}",
                    f"{len(truth.units)}: {min(truth.mean):.2f} to {max(truth.mean):.2f}",
                    bracketed(ours.score.spearman),
                    bracketed(ours.score.partial),
                    *(_cell(found["depth"]), best, _cell(found["published"])),
                ]
            )
    head = ["model, mode", "units: changed", "Spearman", "given depth", "minus depth alone"]
    yield from table([*head, "best published", "minus best published"], rows)
    for name, other in (("depth", "depth alone"), ("published", "the best published rule")):
        counts = Counter(verdicts[name])
        counted = ", ".join(f"{counts[each]} {each}" for each in ("win", "undecided", "loss"))
        yield from ("", f"Against {other}, of {len(verdicts[name])} rows: {counted}.")


def _margin(model: ModelBenchmark, ours: RuleResult, other: str) -> Margin | None:
    key = (ours.score.mode, ours.keep, ours.score.rule, other)
    margins = (
        each for each in model.margins if key == (each.mode, each.keep, each.ours, each.other)
    )
    return next(margins, None)


def _value(result: RuleResult) -> str:
    return f"{result.score.spearman.value:.2f}"


def _cell(margin: Margin | None) -> str:
    if margin is None or not margin.verdict:
        return "-"
    return f"{bracketed(margin.difference)} {margin.verdict}"


def _plans(models: Iterable[ModelBenchmark]) -> list[str]:
    """Every certified plan of a mode with several plans of one size; a shared plan once."""
    found: dict[tuple[str, str], tuple[Chosen, list[str]]] = {}
    for model in models:
        for result in (result for result in model.rules if result.chosen.random):
            key = (model.model, result.chosen.plan.hash())
            found.setdefault(key, (result.chosen, []))[1].append(result.score.rule)
    if not found:
        return ["No certified plan has random plans of its size in these records."]
    lines = [
        [model, ", ".join(rules), *_beside(chosen)] for (model, _), (chosen, rules) in found.items()
    ]
    head = ["model", "chosen by", "certified plan", "changed", "random plans of its size"]
    best = [one for one, _ in found.values() if one.disagreement.value < min(one.random)]
    deep = sum(one.deepest is not None and one.deepest <= one.disagreement.value for one in best)
    return [
        "Changed first answer tokens on test images. p: of as good a plan, if it were drawn as "
        "the random ones are; with 20 of them at least .048, with 7 at least .125. It is no test "
        "of the rule: a plan is here because it was certified, so that one of a random ranking "
        "does better than most random plans, too.",
        "",
        *table([*head, "p", "deepest of its size"], lines),
        "",
        f"{len(best)} of {len(found)} plans do better than all of their random plans; in {deep} of "
        "these the deepest layers of that size do at least as well.",
    ]


def _beside(chosen: Chosen) -> list[str]:
    """The cells of a certified plan and of its controls."""
    drawn = sorted(chosen.random)
    return [
        chosen.plan.describe(),
        f"{chosen.disagreement.value:.3f}",
        f"{statistics.median(drawn):.3f} ({drawn[0]:.3f} to {drawn[-1]:.3f})",
        f"{chosen.p_value:.2g}",
        "-" if chosen.deepest is None else f"{chosen.deepest:.3f}",
    ]


def _shown_less(models: Iterable[ModelBenchmark]) -> list[str]:
    """Coarser images and knocked-out attention, on whole answers."""
    rows = []
    for model in models:
        knocked = "; ".join(
            f"{ranges(one.layers)}: {one.changed.disagreement.value:.2f}" for one in model.knockouts
        )
        keep = min((t.keep for t in model.truths if t.keep is not None), default=math.nan)
        coarser = model.no_coarser or "-"
        if model.coarser is not None:
            coarser = f"{bracketed(model.coarser.disagreement)} at {keep:g} of the pixels"
        rows.append([model.model, coarser, knocked or "-"])
    head = ["model", "coarser image: changed", "text blind to the image in layers: changed"]
    return ["Whole generated answers on test images.", "", *table(head, rows)]


if __name__ == "__main__":
    main()
