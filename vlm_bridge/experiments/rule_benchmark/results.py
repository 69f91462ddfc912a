"""Results of a rule benchmark, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from estimators import Estimate
from estimators.record import Record
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.controls import Knockout, p_value_against
from vlm_bridge.experiments.rule_benchmark.error_rate import ErrorRateCheck
from vlm_bridge.experiments.scoring import HARMFUL, SAFE, UNDETERMINED, LeftOut, RuleScore, Truth
from vlm_bridge.experiments.scoring.truth import intervals, verdicts
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Origin
from vlm_bridge.selection import CertifiedPlan

#: Twice the Monte Carlo error of an end of the interval of a margin, or more.
_NOISE = 0.01
_VERDICTS = {SAFE: "safe", UNDETERMINED: "undetermined", HARMFUL: "harmful"}


@dataclass(frozen=True)
class ModeTruth(Record):
    """Disagreement after skipping each unit of a mode, on images that no rule has seen.

    Attributes:
        units: single layers or depths; in `token_pruning` at one share of kept tokens.
        n_images: number of images behind each disagreement.
        mean, low, high: (n_units,) disagreement and the ends of its intervals.
        verdicts: "safe", "harmful", or "undetermined" if the interval straddles epsilon.
    """

    units: tuple[SkipPlan, ...]
    n_images: int
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    verdicts: tuple[str, ...]

    @classmethod
    def of(cls, truth: Truth, *, epsilon: float, level: float = 0.95) -> ModeTruth:
        """Verdicts and intervals of a truth."""
        values = truth.disagreement
        low, high = intervals(values, "disagreement", level)
        codes = verdicts(values, "disagreement", epsilon, level)
        names = tuple(_VERDICTS[code] for code in codes.tolist())
        mean, lows, highs = (tuple(each.tolist()) for each in (values.mean(axis=0), low, high))
        return cls(truth.plans, len(values), mean, lows, highs, names)

    @property
    def mode(self) -> str:
        """Mode of the units."""
        return self.units[0].mode

    @property
    def keep(self) -> float | None:
        """Share of vision tokens kept, in `token_pruning`."""
        return self.units[0].keep


@dataclass(frozen=True)
class Chosen(Record):
    """The certified plan of a rule, and its results on test images.

    Attributes:
        search: path, certificates and the plan, which is empty if nothing was certified.
        saving: share of the prefill's work saved; interval over resampled certification images.
        disagreement, drop: of the plan, on test images; no drop without labels.
        flops_ratio, latency_ratio: of the prefill, skipped/full; None for an empty plan.
        device: device that was timed, and its number of threads; None for an empty plan.
        error_rate_check: over resampled certification images; None for an empty path.
        random: disagreement of random plans of its mode and size, on test images; empty for an
            empty plan, and in modes with one plan of each size.
        deepest: disagreement of the plan of its size that skips the last layers; None if there is
            none.
    """

    search: CertifiedPlan
    saving: Estimate
    disagreement: Estimate
    drop: Estimate | None
    flops_ratio: float | None
    latency_ratio: Estimate | None
    device: str | None
    error_rate_check: ErrorRateCheck | None
    random: tuple[float, ...] = ()
    deepest: float | None = None

    @property
    def plan(self) -> SkipPlan:
        """The certified plan."""
        return self.search.plan

    @property
    def p_value(self) -> float:
        """As `p_value_against`, of its disagreement among that of the random plans."""
        return p_value_against(self.random, self.disagreement.value)


@dataclass(frozen=True)
class RuleResult(Record):
    """A rule in a mode of a model.

    Attributes:
        condition, source, origin: of the rule, as in `Rule`.
        keep: share of vision tokens that the units keep, in `token_pruning`; else None.
        scores: (n_units,) scores; the lower, the safer.
        spent: measurement -> its cost in forward-pass equivalents.
        score: figures of merit of the ranking.
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
class Margin(Record):
    """Spearman of a rule of ours minus that of another rule, on the same units and images.

    Attributes:
        mode, keep: of the units, as in `RuleResult`.
        ours, other: names of the rules.
        difference: interval by bootstrap over units and images, in pairs.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("verdict",)

    mode: str
    keep: float | None
    ours: str
    other: str
    difference: Estimate

    @property
    def verdict(self) -> str:
        """`win` or `loss` if a reliable interval excludes zero; `undecided`; empty if undefined.

        An end within .01 of zero decides nothing: other bootstrap samples may move it across.
        """
        if math.isnan(self.difference.value):
            return ""
        low, high = self.difference.interval
        if not self.difference.reliable:
            return "undecided"
        return "win" if low > _NOISE else "loss" if high < -_NOISE else "undecided"


@dataclass(frozen=True)
class Refusal(Record):
    """A rule that gave no score in a mode, and the reason."""

    rule: str
    mode: str
    reason: str


@dataclass(frozen=True)
class ModelBenchmark(Record):
    """Every rule on one model.

    Attributes:
        model, n_layers: name of the model and number of layers of its decoder.
        epsilon, delta, forward_cost: as in `Settings`.
        n_images, hashes: split -> number of images, and hash of its questions.
        truths: measured disagreement, for each mode (and share of kept tokens).
        rules: results, for each mode and rule.
        refused: rules without a score in a mode.
        fingerprint: of the model; "" if not known.
        margins: of our rules over others, in every mode.
        coarser: the full model on test images with as small a share of their pixels as units of
            `token_pruning` keep of their tokens, against whole images; None if not measured.
        no_coarser: why it was not measured.
        knockouts: text's attention to vision tokens knocked out, band by band, on test images.
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
    fingerprint: str = ""
    margins: tuple[Margin, ...] = ()
    coarser: Comparison | None = None
    no_coarser: str = ""
    knockouts: tuple[Knockout, ...] = ()

    @property
    def modes(self) -> list[str]:
        """Modes that were benchmarked, in order."""
        return list(dict.fromkeys(truth.mode for truth in self.truths))

    def rules_in(self, mode: str) -> list[RuleResult]:
        """The results of one mode."""
        return [result for result in self.rules if result.score.mode == mode]

    def truths_in(self, mode: str) -> list[ModeTruth]:
        """The truths of one mode, one for each share of kept vision tokens."""
        return [truth for truth in self.truths if truth.mode == mode]

    def truth_of(self, result: RuleResult) -> ModeTruth:
        """The measured disagreement that a result was scored against."""
        truths = self.truths_in(result.score.mode)
        return next(truth for truth in truths if truth.keep == result.keep)


@dataclass(frozen=True)
class AcrossModels(Record):
    """For every model, the rule that is best on the other models by a figure of merit.

    Attributes:
        mode: mode of the units.
        figure: "AUC" or "saving".
        left_out: by model.
        reason: why there are no entries.
    """

    mode: str
    figure: str
    left_out: tuple[LeftOut, ...]
    reason: str = ""


@dataclass(frozen=True)
class RuleBenchmark(Record):
    """Every rule on every model.

    Attributes:
        models: one entry for each model; nothing is pooled over models.
        across: leave-one-model-out choices of a rule.
        decision: part of the answer that was compared.
        machine: hardware, versions, and the command.
    """

    models: tuple[ModelBenchmark, ...]
    across: tuple[AcrossModels, ...]
    decision: str
    machine: Mapping[str, Any]

    def error_rates(self) -> str:
        """Error rates of the certificates of all searches; empty if none was checked."""
        checks, fallible = 0, []
        for model in self.models:
            chosen = [result.chosen.error_rate_check for result in model.rules]
            checked = [check for check in chosen if check is not None]
            checks += len(checked)
            fallible += [check for check in checked if check.worst > model.epsilon]
        if not checks:
            return ""
        if not fallible:
            return f"No certificate of {checks} searches could be wrong."
        worst = max(fallible, key=lambda check: check.rate)
        above = sum(check.rate > check.delta + 3 * check.error for check in fallible)
        return (
            f"Certificates could be wrong in {len(fallible)} of {checks} searches. The "
            f"highest error rate is {worst.wrong} of {worst.resamples} ({worst.rate:.1%}), where "
            f"{worst.delta:.1%} is allowed, with a Monte Carlo standard error of "
            f"{worst.error:.1%}; {above} of the error rates exceed delta by more than three "
            "standard errors."
        )
