"""What a whole run found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators.record import Record
from theory import Certificate
from vlm_bridge.cost import Cost
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.compare_answers import AnswerComparison
from vlm_bridge.selection import CertifiedPlan


@dataclass(frozen=True)
class RuleScores(Record):
    """How safe a rule takes every unit of a mode to be.

    Attributes:
        rule, mode: their names.
        scores: of each layer or depth; smaller is safer.
        forward_cost: of the rule, in forward passes over the profiling questions.
    """

    rule: str
    mode: str
    scores: tuple[float, ...]
    forward_cost: float


@dataclass(frozen=True)
class RunResult(Record):
    """A whole run of one model.

    Attributes:
        model, fingerprint, modality, n_layers: of the model.
        settings: all settings, as in settings.toml.
        counts: split -> images and questions.
        unit: what the images are called, in the plural.
        rules: scores of each rule and mode.
        candidates: number of plans that could be chosen.
        search: the certified plan, and how it was found.
        accuracy_drop: certificate of the drop in accuracy, by the certificate of changed answers;
            None without a plan.
        comparison, answers, cost: of the certified plan on the test questions; None without one.
        machine: where it ran.
        seconds: how long it took, without the time of a run that was resumed.
    """

    model: str
    fingerprint: str
    modality: str
    n_layers: int
    settings: Mapping[str, Any]
    counts: Mapping[str, tuple[int, int]]
    unit: str
    rules: tuple[RuleScores, ...]
    candidates: int
    search: CertifiedPlan
    accuracy_drop: Certificate | None
    comparison: Comparison | None
    answers: AnswerComparison | None
    cost: Cost | None
    machine: Mapping[str, str]
    seconds: float

    def headline(self) -> str:
        """What a user wants to know first."""
        certificate, cost = self.search.certificate, self.cost
        if certificate is None or cost is None or self.comparison is None:
            tested = len(self.search.certificates)
            return (
                f"No plan is certified at epsilon {self.settings['epsilon']:g}: of "
                f"{self.candidates} candidates {tested} came to a test on the certification "
                f"{self.unit}, and the safest failed. Use the full model."
                if tested
                else f"No plan was tested: each of {self.candidates} candidates changed more than "
                f"{self.settings['epsilon']:g} of the tuning answers. Use the full model."
            )
        plan, ratio = self.search.plan, cost.prefill.latency_ratio
        low, high = ratio.interval
        if high < 1:
            saved = f"{1 - ratio.value:.0%} less time to the first token"
        elif low > 1:
            saved = f"{ratio.value - 1:.0%} MORE time to the first token"
        else:
            saved = "no time saved that these measurements can show"
        changed = self.comparison.disagreement
        return (
            f"{saved[0].upper()}{saved[1:]} (ratio {ratio.value:.2f}, {low:.2f} to {high:.2f}); at "
            f"most {certificate.epsilon:.1%} of answers change, with {1 - certificate.delta:.0%} "
            f"confidence ({certificate.n_images} {self.unit}); {changed.value:.1%} did on "
            f"{changed.n} other {self.unit}. Plan: {plan.describe(self.modality)}."
        )
