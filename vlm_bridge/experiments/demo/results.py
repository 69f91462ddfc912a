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
        rule: name of the rule.
        condition: redundancy condition that the rule tests.
        plan: plan of the rule.
        plan_sentence: the plan in words.
        comparison: the plan beside the full model.
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
        model: name of the model.
        n_layers: depth of the decoder.
        command: command that made the results.
        seed: seed of the run.
        created: time of the run, ISO 8601.
        versions: package -> version.
        data: split -> `n_images`, `n_questions` and `data_hash`.
        accuracy_full: accuracy of the full model on the test images: `value`, `interval`, `level`,
            `n_images`, `n_questions`; None without labels, as are the next three.
        accuracy_skipped: of the skipped model.
        accuracy_no_vision: of the full model without image tokens.
        accuracy_blind: of the most frequent training answer to the same question.
        certificate: certificate of the plan's disagreement.
        certificate_drop: certificate of its accuracy drop, or None.
        search: path and certificates of the search, or None.
        plan: the plan.
        plan_sentence: the plan in words.
        epsilon: disagreement that was to be certified.
        epsilon_note: why a stricter epsilon was not used; may be empty.
        flops_ratio: FLOPs of the prefill, skipped/full.
        latency_ratio: latency of the prefill, skipped/full.
        cost: cost of the plan.
        comparison: the plan on the certification images.
        comparison_test: the plan on the test images, or None.
        peers: plans of other rules.
        profile: geometry of every layer.
        profile_null: the same of a copy with random weights, or None.
        scores: rule -> (n_layers,) scores.
        sweep: single layers and depths on test images.
        summary: five plain lines: plan, cost, accuracy, certificate, report.
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
