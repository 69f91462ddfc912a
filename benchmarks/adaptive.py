"""Certified plans of the same model and images side by side: fixed, adaptive, and published exits.

    python -m benchmarks.adaptive --models reference-qwen2.5-vl --epsilon .02 --epsilon .05 --json

`fixed`, `adaptive` (one gate) and `chain` (up to --gates, with agreement of two plans too) are
chosen on the tuning images and certified on the certification images, each as if it were alone:
certificates that are wrong with probability delta each. `calm` (Schuster et al. 2022) and `cats`
(Schuster et al. 2021) are chains of early exits of the whole decoder behind one threshold of
softmax confidence; they choose nothing beforehand, so that all these images calibrate them. `calm`
promises what ours do; `cats` only that a new answer changes with probability epsilon, over the draw
of the images too. What differs from the publications stands in `vlm_bridge.selection.exits`.

Test images, which none has seen, give the share of changed answers, the expected prefill FLOPs and
the latency of whole answers. The image is the unit of every interval but that of latencies, which
is the batch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks import _help
from benchmarks._table import report
from theory import Certificate
from vlm_bridge.data import TASKS, Item, first_units, limit_per_image
from vlm_bridge.evaluate.adaptive import adaptive_outcomes
from vlm_bridge.evaluate.adaptive_cost import AdaptiveMeasure, gate_costs
from vlm_bridge.evaluate.adaptive_latency import stream_latency
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, find_rule, nested_plans
from vlm_bridge.selection import search
from vlm_bridge.selection.adaptive import CertifiedAdaptive, adaptive_search
from vlm_bridge.selection.exits import calm_threshold, cats_threshold, exit_chain, exit_plans
from vlm_bridge.selection.sureness import ask_plans

#: What is compared, in the order of the rows.
KINDS = ("fixed", "adaptive", "chain", "calm", "cats")


@dataclass(frozen=True)
class Sizes:
    """Images of each split, questions that are timed, what is searched, and delta."""

    tuning: int
    certification: int
    test: int
    timed: int
    delta: float
    candidates: int
    gates: int
    exits: int


@dataclass(frozen=True)
class Found:
    """A plan of one kind; None if none was certified.

    Attributes:
        images: on which the promise rests.
        promise: what it says.
        facts: what else a row states.
    """

    plan: AdaptivePlan | None
    images: int
    promise: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Splits:
    """The questions, one of each image."""

    tuning: list[Item]
    certification: list[Item]
    test: list[Item]

    @classmethod
    def of(cls, task: str, sizes: Sizes) -> Splits:
        """The first images of each split of a data set."""
        return cls(
            *(
                first_units(limit_per_image(TASKS[task](name), 1), getattr(sizes, name))
                for name in ("tuning", "certification", "test")
            )
        )


def every(plans: Sequence[SkipPlan], most: int) -> list[SkipPlan]:
    """At most `most` of the nested plans, evenly spread, the largest included."""
    step = math.ceil(len(plans) / most)
    return list(plans[::-1][::step][::-1])


def ours(
    vlm: VLM,
    splits: Splits,
    candidates: Sequence[SkipPlan],
    sizes: Sizes,
    epsilon: float,
    folder: Path,
) -> dict[str, Found]:
    """The certified fixed plan, adaptive plan and chain of the candidates."""
    level: Any = {"epsilon": epsilon, "delta": sizes.delta, "checkpoint": folder}
    split = (vlm, splits.tuning, splits.certification, candidates)
    fixed = search(*split, **level)
    gate = None if fixed.plan.is_empty else Gate(fixed.plan, threshold=-math.inf)
    signals = ["margin", "agreement"]
    found = {
        "fixed": (gate and AdaptivePlan((gate,)), fixed.certificate),
        "adaptive": _found(adaptive_search(*split, **level)),
        "chain": _found(adaptive_search(*split, **level, signals=signals, gates=sizes.gates)),
    }
    promise = f"with probability {1 - sizes.delta:g}"
    return {
        kind: Found(
            plan if certificate is not None else None,
            len(splits.certification),
            promise,
            {"changed on certification": certificate and certificate.estimate},
        )
        for kind, (plan, certificate) in found.items()
    }


def _found(made: CertifiedAdaptive) -> tuple[AdaptivePlan | None, Certificate | None]:
    return made.plan, made.certificate


def published(
    vlm: VLM, splits: Splits, sizes: Sizes, epsilon: float, folder: Path
) -> dict[str, Found]:
    """Early exits, calibrated on the tuning and certification images together."""
    exits = exit_plans(vlm.layout.n_layers, sizes.exits)
    calibration = [*splits.tuning, *splits.certification]
    full = FullAnswers.ask(vlm, calibration, checkpoint=folder / "calibration-full.jsonl")
    known = ask_plans(full, vlm, exits, batch_size=16, checkpoint=folder)
    calm = calm_threshold(known, exits, epsilon=epsilon, delta=sizes.delta)
    cats = cats_threshold(known, exits, epsilon=epsilon)
    promises = {"calm": f"with probability {1 - sizes.delta:g}", "cats": "on average"}
    return {
        kind: Found(
            None if threshold is None else exit_chain(exits, threshold),
            len(calibration),
            promises[kind],
            {},
        )
        for kind, threshold in (("calm", calm), ("cats", cats))
    }


def rows_of(
    vlm: VLM,
    task: str,
    rule: str,
    mode: str,
    sizes: Sizes,
    epsilons: Sequence[float],
    folder: Path,
) -> list[dict[str, Any]]:
    """A row for every epsilon and kind of plan, of one model."""
    splits = Splits.of(task, sizes)
    candidates = nested_plans(find_rule(rule), Evidence(vlm, splits.tuning), mode)
    candidates = every(candidates, sizes.candidates)
    full, rows = FullAnswers.ask(vlm, splits.test), []
    for epsilon in epsilons:
        found = ours(vlm, splits, candidates, sizes, epsilon, folder / vlm.name)
        found |= published(vlm, splits, sizes, epsilon, folder / vlm.name)
        for kind in KINDS:
            made = found[kind]
            row: dict[str, Any] = {"model": vlm.name, "epsilon": epsilon, "kind": kind}
            row |= {"layers": vlm.layout.n_layers, "mode": mode, "candidates": len(candidates)}
            row |= {"promise": made.promise, "images": made.images}
            row |= {"certified": made.plan is not None, **made.facts}
            if made.plan is not None:
                row |= {"plan": made.plan.describe(), **on_test(vlm, made.plan, full, sizes)}
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    return rows


def with_equal_keys(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with every key of any of them; None where a row lacks it."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


def on_test(vlm: VLM, plan: AdaptivePlan, full: FullAnswers, sizes: Sizes) -> dict[str, Any]:
    """What a plan does to test images, and the latency of the first of them."""
    outcomes, gates = adaptive_outcomes(full, vlm, plan)
    costs = gate_costs(vlm, full.items, plan)
    made = AdaptiveMeasure.of(plan, outcomes.disagree, gates, outcomes.clusters, costs)
    row: dict[str, Any] = {"test images": made.changed.n}
    always = plan.gates[0].threshold == -math.inf
    for name, estimate in (("changed", made.changed), ("full", made.full), ("FLOPs", made.cost)):
        row |= {name: estimate.value, f"{name} interval": estimate.interval}
    for size in (1, 8) if sizes.timed else ():
        timed = stream_latency(vlm, full.items[: sizes.timed], plan, batch_size=size)
        ratio = timed.fixed_ratio if always else timed.adaptive_ratio
        row |= {
            f"latency at batch {size}": ratio.value,
            f"latency at batch {size} interval": ratio.interval,
            f"deciding at batch {size}": timed.decision_share,
        }
    return row


def main() -> None:
    """Search, measure and print."""
    parser = _help.parser("adaptive", __doc__ or "")
    parser.add_argument("--models", nargs="+", default=["reference-qwen2.5-vl", "reference-gemma3"])
    parser.add_argument("--data", choices=list(TASKS), default="easy-vqa", help="one question each")
    parser.add_argument("--rule", default="skip-it-slopes", help="ranks the candidates")
    parser.add_argument("--mode", choices=LAYERWISE, default="block")
    parser.add_argument("--candidates", type=int, default=10, help="nested plans, at most")
    parser.add_argument("--tuning", type=int, default=150, help="images that choose")
    parser.add_argument("--certification", type=int, default=300, help="images that certify")
    parser.add_argument("--test", type=int, default=300, help="images that measure")
    parser.add_argument("--timed", type=int, default=64, help="questions that are timed; 0: none")
    parser.add_argument("--gates", type=int, default=2, help="plans of a chain, at most")
    parser.add_argument("--exits", type=int, default=7, help="early exits of the decoder, at most")
    parser.add_argument(
        "--epsilon", type=float, action="append", help="changed answers (default .05); repeatable"
    )
    parser.add_argument("--delta", type=float, default=0.05, help="how often a certificate errs")
    parser.add_argument("--checkpoint", type=Path, default=Path("out/adaptive"), help="a folder")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args()
    names = [field.name for field in fields(Sizes)]
    sizes = Sizes(**{name: getattr(options, name) for name in names})
    chosen = (options.data, options.rule, options.mode)
    epsilons = options.epsilon or [0.05]
    rows = [
        row
        for name in options.models
        for row in rows_of(load(name), *chosen, sizes, epsilons, options.checkpoint)
    ]
    report(
        "Changed answers certified: fixed, adaptive, chain, and published early exits",
        with_equal_keys(rows),
        as_json=options.json,
        **{name: getattr(sizes, name) for name in names},
        data=options.data,
        rule=options.rule,
    )


if __name__ == "__main__":
    main()
