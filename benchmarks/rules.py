"""Rules against what skipping does: per model, mode and rule, on images no rule has seen."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._table import report
from theory.systems import toy_vlm
from vlm_bridge.data import Item, easy_vqa, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.rules import RULES, Evidence, score_units
from vlm_bridge.rules.protocol import units_of
from vlm_bridge.scoring import RuleScore, Truth, leave_one_model_out, score_rule
from vlm_bridge.sweeping import sweep_outcomes
from vlm_bridge.testing import toy_items, toy_llava
from vlm_bridge.vlm import VLM, load


@dataclass(frozen=True)
class Study:
    """A model with images a rule may look at, and others that say what is true."""

    vlm: VLM
    seen: list[Item]
    untouched: list[Item]


def toy(images: int, seen: int) -> Study:
    """The toy VLM, whose safe layers are planted."""
    planted = toy_vlm()
    folder = tempfile.mkdtemp(prefix="toy-")
    items = toy_items(planted, folder, images=seen + images, questions_per_image=1)
    return Study(toy_llava(planted), items[:seen], items[seen:])


def trained(name: str, images: int, seen: int) -> Study:
    """A reference VLM: rules see the profile split, the test split says what is true."""

    def split(part: str, count: int) -> list[Item]:
        return limit_per_image(easy_vqa(part), 1)[:count]

    return Study(load(name), split("profile", seen), split("test", images))


def scores_of(study: Study, modes: list[str], epsilon: float, journal: Path | None) -> list[Any]:
    """A `RuleScore`, or the reason why there is none, for every rule and mode."""
    found: list[Any] = []
    evidence = Evidence(study.vlm, study.seen)
    for mode in modes:
        truths: dict[float, Truth] = {}
        for name, rule in RULES.items():
            if mode not in rule.modes:
                continue
            plans = units_of(rule, mode, study.vlm.layout.n_layers)
            keep = float(getattr(rule, "keep", 0.0)) if mode == "token_pruning" else 0.0
            if keep not in truths:
                kept = journal and journal / f"{study.vlm.name}-{mode}-{keep}.jsonl"
                truths[keep] = Truth.of(
                    plans, sweep_outcomes(study.vlm, study.untouched, plans, journal=kept)
                )
            try:
                score = score_units(rule, evidence, mode)
            except BridgeError as error:
                found.append((name, mode, str(error)))
                continue
            found.append(
                score_rule(
                    score,
                    truths[keep],
                    rule=name,
                    reads=rule.reads,
                    model=study.vlm.name,
                    epsilon=epsilon,
                    passes=sum(evidence.spent[name].values()),
                )
            )
    return found


def row(found: RuleScore) -> dict[str, Any]:
    """One line of the table; NaN where a figure is not defined."""

    def interval(name: str) -> str:
        estimate = getattr(found, name)
        if math.isnan(estimate.value):
            return "-"
        low, high = estimate.interval
        return f"{estimate.value:.2f} ({low:.2f} to {high:.2f})"

    return {
        "model": found.model,
        "mode": found.mode,
        "rule": found.rule,
        "reads": found.reads,
        "safe": found.safe,
        "harmful": found.harmful,
        "undetermined": found.undetermined,
        "AUC": interval("auc"),
        "Spearman": interval("spearman"),
        "false-safe": interval("false_safe"),
        "passes": found.passes,
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--models", nargs="+", default=["toy"], help="toy, or names for load()")
    parser.add_argument(
        "--modes",
        nargs="+",
        default=["block", "freeze", "early_exit", "late_entry", "token_pruning"],
    )
    parser.add_argument("--images", type=int, default=200, help="untouched images")
    parser.add_argument("--seen", type=int, default=40, help="images a rule may look at")
    parser.add_argument("--epsilon", type=float, default=0.05)
    parser.add_argument("--journal", type=Path, help="folder to go on from")
    options = parser.parse_args(arguments)
    found: list[RuleScore] = []
    refused: list[tuple[str, str, str, str]] = []
    for name in options.models:
        make: Callable[[], Study] = (
            (lambda: toy(options.images, options.seen))
            if name == "toy"
            else (lambda name=name: trained(name, options.images, options.seen))
        )
        for one in scores_of(make(), options.modes, options.epsilon, options.journal):
            if isinstance(one, RuleScore):
                found.append(one)
            else:
                refused.append((name, *one))
    report(
        "rules against what skipping does (disagreement of the first answer token)",
        [row(one) for one in found],
        as_json=options.json,
        epsilon=options.epsilon,
        images=options.images,
        seen=options.seen,
        refused=refused,
        scores=[one.to_json() for one in found] if options.json else len(found),
        left_out=_left_out(found, options.modes),
    )


def _left_out(found: list[RuleScore], modes: list[str]) -> dict[str, Any]:
    """For every mode, the rule that the other models would have chosen for each."""
    chosen: dict[str, Any] = {}
    for mode in modes:
        figures: dict[str, dict[str, float]] = {}
        for one in found:
            if one.mode == mode:
                figures.setdefault(one.model, {})[one.rule] = one.auc.value
        if len(figures) > 1:
            try:
                chosen[mode] = [one.to_json() for one in leave_one_model_out(figures)]
            except BridgeError as error:
                chosen[mode] = str(error)
    return chosen


if __name__ == "__main__":
    main()
