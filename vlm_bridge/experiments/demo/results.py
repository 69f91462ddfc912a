"""Results of `skipit demo`, which the report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators import Profile
from estimators.record import Record
from theory import Certificate
from vlm_bridge.cost import Cost
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection import CertifiedPlan


@dataclass(frozen=True)
class Peer(Record):
    """Another rule's plan on the test images.

    Attributes:
        rule, condition: name of the rule, and the redundancy condition that it tests.
        plan, plan_sentence: its plan, and the same in words.
        comparison: the plan against the full model.
        flops_ratio: FLOPs of the prefill, skipped/full.
    """

    rule: str
    condition: str
    plan: SkipPlan
    plan_sentence: str
    comparison: Comparison
    flops_ratio: float


@dataclass(frozen=True, kw_only=True)
class DemoResults(Record):
    """Everything that the report shows.

    Attributes:
        model, n_layers: name of the model, and number of layers of its decoder.
        command, seed, created: of the run; the time is in ISO 8601.
        versions: package -> version.
        data: split -> `n_images`, `n_questions` and `data_hash`.
        accuracy_full, accuracy_skipped, accuracy_no_vision, accuracy_blind: on the test images, of
            the full model, the skipped model, the full model without image tokens, and the most
            frequent training answer to the same question: `value`, `interval`, `level`, `n_images`,
            `n_questions`; None without labels.
        certificate, certificate_drop: of the plan's disagreement, and of its accuracy drop.
        search: path and certificates of the search.
        plan, plan_sentence: the plan, and the same in words.
        epsilon, epsilon_note: target of the disagreement, and why it is not stricter (or "").
        flops_ratio, latency_ratio: of the prefill, skipped/full.
        cost: cost of the plan.
        comparison, comparison_test: the plan on the certification images and on the test images.
        peers: plans of other rules.
        profile, profile_null: geometry of every layer, and that of a copy with random weights.
        scores: rule -> (n_layers,) scores.
        sweep: single layers and depths on test images.
        summary: five lines of text: plan, cost, accuracy, certificate, report.
        fingerprint: of the model; "" if not known.
    """

    model: str
    n_layers: int
    command: str
    seed: int
    created: str
    versions: Mapping[str, str]
    data: Mapping[str, Mapping[str, Any]]
    accuracy_full: Mapping[str, Any] | None
    accuracy_skipped: Mapping[str, Any] | None
    accuracy_no_vision: Mapping[str, Any] | None
    accuracy_blind: Mapping[str, Any] | None
    certificate: Certificate
    certificate_drop: Certificate | None
    search: CertifiedPlan | None
    plan: SkipPlan
    plan_sentence: str
    epsilon: float
    epsilon_note: str
    flops_ratio: float
    latency_ratio: float
    cost: Cost
    comparison: Comparison
    comparison_test: Comparison | None
    peers: tuple[Peer, ...]
    profile: Profile
    profile_null: Profile | None
    scores: Mapping[str, tuple[float, ...]]
    sweep: tuple[Comparison, ...]
    summary: tuple[str, ...]
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for name in ("accuracy_full", "accuracy_skipped", "accuracy_no_vision", "accuracy_blind"):
            accuracy = getattr(self, name)
            if accuracy is not None and accuracy.get("value") is not None:
                counts = [accuracy.get("n_images"), accuracy.get("n_questions")]
                interval = accuracy.get("interval")
                ends = interval if isinstance(interval, list | tuple) else []
                if len(ends) != 2 or not _are_numbers(accuracy["value"], *ends, *counts):
                    raise ValueError(f"{name} needs a value, an interval and two counts")
        for split, sizes in self.data.items():
            counts = [sizes.get("n_images"), sizes.get("n_questions")]
            if not _are_numbers(*counts) or not isinstance(sizes.get("data_hash"), str):
                raise ValueError(f"the data of {split} need two counts and a hash")


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
