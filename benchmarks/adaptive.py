"""A fixed certified plan and an adaptive certified plan of the same candidates, side by side.

    python -m benchmarks.adaptive --models reference-qwen2.5-vl reference-gemma3 --json

Both are chosen on the same tuning images and certified at the same epsilon and delta on the same
certification images, each as if it were alone: two certificates, each wrong with probability delta.
Test images, which neither has seen, give the share of changed answers, the expected prefill FLOPs
and the latency of whole answers. The image is the unit of every interval but that of latencies,
which is the batch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _help
from benchmarks._table import report
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
from vlm_bridge.selection.adaptive import adaptive_search


@dataclass(frozen=True)
class Sizes:
    """Images of each split, questions that are timed, and the level of the certificates."""

    tuning: int
    certification: int
    test: int
    timed: int
    epsilon: float
    delta: float
    candidates: int


def every(plans: Sequence[SkipPlan], most: int) -> list[SkipPlan]:
    """At most `most` of the nested plans, evenly spread, the largest included."""
    step = math.ceil(len(plans) / most)
    return list(plans[::-1][::step][::-1])


def rows_of(
    vlm: VLM, task: str, rule: str, mode: str, sizes: Sizes, folder: Path
) -> list[dict[str, Any]]:
    """The fixed and the adaptive plan of one model."""

    def split(name: str, images: int) -> list[Item]:
        return first_units(limit_per_image(TASKS[task](name), 1), images)

    tuning, test = split("tuning", sizes.tuning), split("test", sizes.test)
    certification = split("certification", sizes.certification)
    candidates = nested_plans(find_rule(rule), Evidence(vlm, tuning), mode)
    candidates = every(candidates, sizes.candidates)
    level: Any = {"epsilon": sizes.epsilon, "delta": sizes.delta, "checkpoint": folder / vlm.name}
    fixed = search(vlm, tuning, certification, candidates, **level)
    adaptive = adaptive_search(vlm, tuning, certification, candidates, **level)
    gate = None if fixed.plan.is_empty else Gate(fixed.plan, threshold=-math.inf)
    found = {
        "fixed": (gate and AdaptivePlan((gate,)), fixed.certificate),
        "adaptive": (adaptive.plan, adaptive.certificate),
    }
    full, rows = FullAnswers.ask(vlm, test), []
    for kind, (plan, certificate) in found.items():
        row: dict[str, Any] = {"model": vlm.name, "kind": kind, "layers": vlm.layout.n_layers}
        row |= {"mode": mode, "candidates": len(candidates), "certified": plan is not None}
        if plan is not None and certificate is not None:
            row |= {"plan": plan.describe(), "images": certificate.n_images}
            row |= {"bound": certificate.bound, "changed on certification": certificate.estimate}
            row |= on_test(vlm, plan, full, sizes)
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


def on_test(vlm: VLM, plan: AdaptivePlan, full: FullAnswers, sizes: Sizes) -> dict[str, Any]:
    """What a plan does to test images, and the latency of the first of them."""
    outcomes, gates = adaptive_outcomes(full, vlm, plan)
    costs = gate_costs(vlm, full.items, plan)
    made = AdaptiveMeasure.of(plan, outcomes.disagree, gates, outcomes.clusters, costs)
    row: dict[str, Any] = {"test images": made.changed.n}
    always = plan.gates[0].threshold == -math.inf
    for name, estimate in (("changed", made.changed), ("full", made.full), ("FLOPs", made.cost)):
        row |= {name: estimate.value, f"{name} interval": estimate.interval}
    for size in (1, 8):
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
    parser.add_argument("--timed", type=int, default=64, help="questions that are timed")
    parser.add_argument("--epsilon", type=float, default=0.05, help="changed answers to certify")
    parser.add_argument("--delta", type=float, default=0.05, help="how often a certificate errs")
    parser.add_argument("--checkpoint", type=Path, default=Path("out/adaptive"), help="a folder")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args()
    names = ("tuning", "certification", "test", "timed", "epsilon", "delta", "candidates")
    sizes = Sizes(**{name: getattr(options, name) for name in names})
    chosen = (options.data, options.rule, options.mode)
    rows = [
        row
        for name in options.models
        for row in rows_of(load(name), *chosen, sizes, options.checkpoint)
    ]
    report(
        f"Certified at epsilon {sizes.epsilon:g}: a fixed plan and an adaptive one",
        rows,
        as_json=options.json,
        **{name: getattr(sizes, name) for name in names},
        data=options.data,
        rule=options.rule,
    )


if __name__ == "__main__":
    main()
