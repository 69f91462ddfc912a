"""Results of `skipit demo` made by formulas, and a reader of the page they become."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np

from estimators import TAIL_GRID, Estimate, Profile
from estimators.profile import QUANTILE_LEVELS
from theory import Certificate, certify_mean
from vlm_bridge.cost import Cost, PhaseCost
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.rule_benchmark import RuleResult
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection import CertifiedPlan, Step

N_LAYERS = 30
N_IMAGES, N_QUESTIONS = 200, 1540
# Cosine distance of image tokens per layer, of the shape a small trained model has.
DISTANCE = np.array(
    "0.76 0.18 0.07 0.02 0.04 0.06 0.05 0.09 0.12 0.16 0.22 0.28 0.05 0.04 0.02 "
    "0.01 0.02 0.03 0.02 0.015 0.02 0.03 0.05 0.07 0.12 0.02 0.01 0.015 0.35 0.40".split(),
    dtype=float,
)
VAR = 0.04 + 0.5 * np.exp(-0.5 * ((np.arange(N_LAYERS) - 9) / 4) ** 2)


def estimate(value: float, *, half: float | None = None, low: float = 0.0) -> Estimate:
    spread = 1.96 * np.sqrt(max(value * (1 - value), 0.003) / N_IMAGES) if half is None else half
    interval = (max(low, value - spread), min(1.0, value + spread))
    return Estimate(value=value, interval=interval, n=N_IMAGES, method="clustered mean")


def a_profile(name: str, distance: np.ndarray, var: np.ndarray) -> Profile:
    groups = {"text": 0.6 * distance + 0.02, "image": distance, "special": 0.3 * distance + 0.05}
    measures = {
        group: {"cosine_distance": tuple(estimate(v, half=0.06 * v) for v in values)}
        for group, values in groups.items()
    }
    measures["text"]["var"] = tuple(estimate(v, half=0.05 * v) for v in var)
    return Profile(
        model=name,
        n_layers=N_LAYERS,
        groups=tuple(groups),
        measures=measures,
        tail_grid=TAIL_GRID,
        tails={},
        quantile_levels=QUANTILE_LEVELS,
        quantiles={
            group: tuple(tuple(v * 4 ** (2 * q - 1) for q in QUANTILE_LEVELS) for v in values)
            for group, values in groups.items()
        },
        n_images=N_IMAGES,
        n_rows=dict.fromkeys(groups, 100),
        data_hash="ab" * 32,
    )


def a_comparison(
    plan: SkipPlan, change: float, drop: float | None, decision: str = "first answer token"
) -> Comparison:
    labelled = drop is not None
    return Comparison(
        plan=plan,
        decision=decision,
        max_new_tokens=1 if decision == "first answer token" else 64,
        share_at_limit=None if decision == "first answer token" else 0.0,
        n_images=N_IMAGES,
        n_questions=N_QUESTIONS,
        n_unlabelled=0 if labelled else N_QUESTIONS,
        data_hash="cd" * 32,
        disagreement=estimate(change),
        kl_full_skipped=estimate(change / 2),
        kl_skipped_full=estimate(change / 2),
        accuracy_full=estimate(0.98) if labelled else None,
        accuracy_skipped=estimate(0.98 - drop) if drop is not None else None,
        drop=estimate(drop, low=-1.0) if drop is not None else None,
    )


def a_sweep(*, labels: bool = True) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []

    def add(plan: SkipPlan, change: float, gain: float = 0.0) -> None:
        found.append(a_comparison(plan, change, 0.9 * change - gain if labels else None))

    late = np.concatenate([np.cumsum(VAR[::-1])[::-1][1:], [0.0]])
    for layer in range(N_LAYERS):
        noise = float(rng.lognormal(sigma=0.5))
        frozen = round(
            float(np.clip(0.09 * np.sqrt(DISTANCE[layer]) * late[layer] * noise, 0, 1)), 3
        )
        blocked = {0: 0.77, 1: 0.54, 29: 0.17}.get(layer, 0.02 + 0.06 * noise)
        add(SkipPlan("freeze", N_LAYERS, layers=(layer,)), frozen, 0.004)
        add(SkipPlan("block", N_LAYERS, layers=(layer,)), min(1.0, blocked))
    for depth in range(N_LAYERS + 1):
        add(SkipPlan("early_exit", N_LAYERS, exit=depth), 0.36 / (1 + np.exp((depth - 20) / 1.7)))
        add(SkipPlan("late_entry", N_LAYERS, entry=depth), 0.43 * (1 - np.exp(-depth)))
    return [one.to_json() for one in found]


def a_certificate(failures: int, quantity: str = "disagreement") -> dict[str, Any]:
    values = [1.0] * failures + [0.0] * (400 - failures)
    return certify_mean(
        values, range(400), quantity=quantity, epsilon=0.02, delta=0.05, data_hash="ef" * 32
    ).to_json()


def a_search(plan: SkipPlan, tested: dict[str, Any]) -> dict[str, Any]:
    """A first step that was tested, and another that would have come next."""
    more = SkipPlan("freeze", N_LAYERS, layers=(*plan.layers, 25))
    certificate = Certificate.from_json(tested)
    steps = (Step(plan, 0.005, 0.16), Step(more, 0.01, 0.18))
    certified = replace(certificate, bound=certificate.epsilon) if certificate.holds else None
    return CertifiedPlan(plan, certified, steps, (certificate,)).to_json()


def build_results(*, failures: int = 1, labels: bool = True) -> dict[str, Any]:
    plan = SkipPlan(
        "freeze",
        N_LAYERS,
        layers=(13, 15, 16, 17, 18, 19, 20),
        provenance=Provenance(rule="skip-it"),
    )
    prefill = PhaseCost(
        flops_full=123_400_000_000,
        flops_skipped=104_900_000_000,
        seconds_full=0.41,
        seconds_skipped=0.37,
        latency_ratio=Estimate(value=0.89, interval=(0.86, 0.93), n=15, method="median"),
    )
    cost = Cost(
        prefill=prefill,
        decode=None,
        kv_bytes_full=8_000_000,
        kv_bytes_skipped=8_000_000,
        peak_bytes_full=50_000_000,
        peak_bytes_skipped=40_000_000,
        batch_size=8,
        length=96,
        device="cpu (2 threads)",
        dtype="float32",
    )
    trained = a_profile("toy", DISTANCE, VAR)
    null = a_profile(
        "toy (random weights)", 0.6 / (1 + np.arange(N_LAYERS)), np.full(N_LAYERS, 0.6)
    )
    peer = SkipPlan("block", N_LAYERS, layers=(12,), provenance=Provenance(rule="shortgpt"))
    late = np.concatenate([np.cumsum(VAR[::-1])[::-1][1:], [0.0]])
    split = {"n_images": N_IMAGES, "n_questions": N_QUESTIONS, "data_hash": "01" * 32}

    def accuracy(value: float) -> dict[str, Any] | None:
        interval = [value - 0.012, value + 0.009]
        counts = {"n_images": N_IMAGES, "n_questions": N_QUESTIONS}
        return {"value": value, "interval": interval, **counts} if labels else None

    def whole(change: float, drop: float, of: SkipPlan = plan) -> dict[str, Any]:
        return a_comparison(of, change, drop if labels else None, "generated answer").to_json()

    return {
        "type": "DemoResults",
        "schema_version": 1,
        "model": "reference",
        "fingerprint": "ef" * 32,
        "n_layers": N_LAYERS,
        "command": "skipit demo --out out/demo",
        "seed": 0,
        "created": "2025-01-02T03:04:05+00:00",
        "versions": {"torch": "2.8.0", "transformers": "5.20.0"},
        "data": dict.fromkeys(("profile", "tuning", "certification", "test"), split),
        "accuracy_full": accuracy(0.984),
        "accuracy_blind": accuracy(0.662),
        "accuracy_no_vision": accuracy(0.641),
        "accuracy_skipped": accuracy(0.981),
        "plan": plan.to_json(),
        "plan_sentence": plan.describe(),
        "epsilon": 0.02,
        "epsilon_note": "",
        "flops_ratio": prefill.flops_ratio,
        "latency_ratio": prefill.latency_ratio.value,
        "cost": cost.to_json(),
        "certificate": a_certificate(failures),
        "certificate_drop": a_certificate(failures, "accuracy_drop") if labels else None,
        "search": a_search(plan, a_certificate(failures)),
        "comparison": whole(0.0025, 0.001),
        "comparison_test": whole(0.004, -0.002),
        "peers": [
            {
                "type": "Peer",
                "schema_version": 1,
                "rule": "shortgpt",
                "condition": "geometric",
                "plan": peer.to_json(),
                "plan_sentence": peer.describe(),
                "comparison": whole(0.043, 0.031, peer),
                "flops_ratio": 0.967,
            }
        ],
        "profile": trained.to_json(),
        "profile_null": null.to_json(),
        "scores": {
            "skip-it": (np.sqrt(2 * DISTANCE) * late).tolist(),
            "shortgpt": DISTANCE.tolist(),
        },
        "sweep": a_sweep(labels=labels),
        "summary": ["first line", "second line", "third line", "fourth line", "fifth line"],
    }


def quick_results(**given: Any) -> dict[str, Any]:
    """Results without a sweep: one figure to draw instead of four."""
    return build_results(**given) | {"sweep": []}


class Page(HTMLParser):
    """Tags, every attribute that could load something, and the words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        self.text = re.sub(r"\s+", " ", self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loading = {"src", "href", "srcset", "data", "action", "poster"}
        self.links += [value or "" for name, value in attrs if name in loading]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words += data


def among_searches(found: RuleResult, before: int, n: int) -> RuleResult:
    """A result whose certificates name `n` searches on the same images, not `before`."""

    def caveat(searches: int) -> tuple[str, ...]:
        return (f"one of {searches} searches, each at this delta",) if searches > 1 else ()

    def renamed(certificate: Certificate) -> Certificate:
        assert certificate.caveats[:1] == caveat(before)
        return replace(certificate, caveats=(*caveat(n), *certificate.caveats[1:]))

    search = found.chosen.search
    search = replace(
        search,
        certificate=renamed(search.certificate),
        certificates=tuple(map(renamed, search.certificates)),
    )
    return replace(found, chosen=replace(found.chosen, search=search))
