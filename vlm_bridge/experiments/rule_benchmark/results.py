"""What a rule benchmark found, as objects and as JSON; the report and the tables read these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators import Estimate
from estimators.record import Record
from vlm_bridge.experiments.rule_benchmark.error_rate import ErrorRateCheck
from vlm_bridge.experiments.scoring import HARMFUL, SAFE, UNDETERMINED, LeftOut, RuleScore, Truth
from vlm_bridge.experiments.scoring.truth import intervals, verdicts
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Origin
from vlm_bridge.selection import CertifiedPlan

_WORDS = {SAFE: "safe", UNDETERMINED: "undetermined", HARMFUL: "harmful"}


@dataclass(frozen=True)
class ModeTruth(Record):
    """What leaving out each unit of a mode did on images no rule has seen.

    Attributes:
        units: single layers or depths; for `token_pruning` at one share of tokens kept.
        n_images: independent units behind each number.
        mean: disagreement of every unit.
        low: lower end of its interval.
        high: upper end.
        verdicts: "safe", "harmful", or "undetermined" where the interval straddles epsilon.
    """

    units: tuple[SkipPlan, ...]
    n_images: int
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    verdicts: tuple[str, ...]

    @classmethod
    def of(cls, truth: Truth, *, epsilon: float, level: float = 0.95) -> ModeTruth:
        """Summarise a truth at one epsilon."""
        values = truth.disagreement
        low, high = intervals(values, "disagreement", level)
        found = verdicts(values, "disagreement", epsilon, level)
        return cls(
            units=truth.plans,
            n_images=len(values),
            mean=tuple(values.mean(axis=0).tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            verdicts=tuple(_WORDS[one] for one in found.tolist()),
        )

    @property
    def mode(self) -> str:
        """Of the units."""
        return self.units[0].mode

    @property
    def keep(self) -> float | None:
        """Share of vision tokens kept, in `token_pruning`."""
        return self.units[0].keep


@dataclass(frozen=True)
class Speed(Record):
    """What a plan costs beside the full model in the prefill; ratios are skipped/full.

    Attributes:
        flops_ratio: counted.
        latency_ratio: measured in pairs, with its interval.
        device: where, and on how many threads.
    """

    flops_ratio: float
    latency_ratio: Estimate
    device: str


@dataclass(frozen=True)
class Chosen(Record):
    """The plan that is certified for a rule, and what became of the promise.

    Attributes:
        search: path, certificates and the plan, which skips nothing where none was certified.
        saving: share of the prefill's work that is left out, with its interval over resampled
            certification images.
        disagreement: of the plan on untouched images.
        drop: of accuracy, there; None without labels.
        speed: None where nothing is skipped.
        error_rate_check: over resampled certification images; None where the path is empty.
    """

    search: CertifiedPlan
    saving: Estimate
    disagreement: Estimate
    drop: Estimate | None
    speed: Speed | None
    error_rate_check: ErrorRateCheck | None

    @property
    def plan(self) -> SkipPlan:
        """The certified plan."""
        return self.search.plan


@dataclass(frozen=True)
class RuleResult(Record):
    """One rule in one mode of one model.

    Attributes:
        condition: the redundancy condition it amounts to.
        source: where it comes from.
        origin: whose it is.
        keep: share of vision tokens kept by the units, in `token_pruning`; else None.
        scores: one for each unit, the lower, the safer.
        spent: what its measurements cost in forward-pass equivalents, by name.
        score: how well it ranks the units.
        chosen: its certified plan.
    """

    condition: str
    source: str
    origin: Origin
    keep: float | None
    scores: tuple[float, ...]
    spent: Mapping[str, float]
    score: RuleScore
    chosen: Chosen


@dataclass(frozen=True)
class Refusal(Record):
    """A rule that gave no score in a mode, and why."""

    rule: str
    mode: str
    reason: str


@dataclass(frozen=True)
class ModelBenchmark(Record):
    """Every rule on one model.

    Attributes:
        model: its name.
        n_layers: depth of the decoder.
        epsilon: the line between safe and harmful, and what is promised.
        delta: probability with which a promise may be wrong.
        n_images: split -> number of images.
        hashes: split -> hash of its questions.
        truths: of every mode.
        rules: of every mode and rule.
        refused: what could not be measured.
        forward_cost: most that a rule might cost, in forward passes over the profiling images;
            None: no limit.
    """

    model: str
    n_layers: int
    epsilon: float
    delta: float
    n_images: Mapping[str, int]
    hashes: Mapping[str, str]
    truths: tuple[ModeTruth, ...]
    rules: tuple[RuleResult, ...]
    refused: tuple[Refusal, ...]
    forward_cost: float | None = None

    @property
    def modes(self) -> list[str]:
        """Modes that were benchmarked, in order."""
        return list(dict.fromkeys(truth.mode for truth in self.truths))

    def truth_of(self, result: RuleResult) -> ModeTruth:
        """The truth that a result was held against."""
        units = (result.score.mode, result.keep)
        return next(one for one in self.truths if (one.mode, one.keep) == units)


@dataclass(frozen=True)
class AcrossModels(Record):
    """For every model, the rule that the others would have chosen for it, by one figure.

    Attributes:
        mode: of the units.
        figure: "AUC" or "saving".
        left_out: one for each model.
        reason: why there is none.
    """

    mode: str
    figure: str
    left_out: tuple[LeftOut, ...]
    reason: str = ""


@dataclass(frozen=True)
class RuleBenchmark(Record):
    """Every rule on every model.

    Attributes:
        models: one for each; no figure is pooled over them.
        across: leave-one-model-out.
        decision: what was compared.
        machine: what it ran on, and the command.
    """

    models: tuple[ModelBenchmark, ...]
    across: tuple[AcrossModels, ...]
    decision: str
    machine: Mapping[str, Any]

    def error_rates(self) -> str:
        """In one line, how promises fared over all searches; empty where none was resampled."""
        made = [
            (one.chosen.error_rate_check, model.epsilon)
            for model in self.models
            for one in model.rules
            if one.chosen.error_rate_check is not None
        ]
        hard = [promises for promises, epsilon in made if promises.worst > epsilon]
        if not made:
            return ""
        if not hard:
            return (
                f"None of {len(made)} searches had a plan on its path that could break a promise."
            )
        most = max(hard, key=lambda one: one.rate)
        over = sum(one.rate > one.delta + 3 * one.error for one in hard)
        return (
            f"Promises could be broken in {len(hard)} of {len(made)} searches; the most broken are "
            f"{most.broken} of {most.resamples} ({most.rate:.1%}) where {most.delta:.1%} may be, "
            f"with a Monte-Carlo standard error of {most.error:.1%}; {over} are above that by more "
            "than three errors."
        )
