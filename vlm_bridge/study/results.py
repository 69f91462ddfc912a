"""What a study of rules found, as objects and as JSON; the report and the tables read these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from estimators import Estimate, serial
from vlm_bridge.plan import SkipPlan
from vlm_bridge.scoring import HARMFUL, SAFE, UNDETERMINED, LeftOut, RuleScore, Truth
from vlm_bridge.scoring.truth import intervals, verdicts
from vlm_bridge.search import CertifiedPlan
from vlm_bridge.study.promises import Promises

_WORDS = {SAFE: "safe", UNDETERMINED: "undetermined", HARMFUL: "harmful"}


@dataclass(frozen=True)
class ModeTruth:
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

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        units = [unit.to_json() for unit in self.units]
        return {**serial.header("ModeTruth", 1), **asdict(self), "units": units}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_json`; ValueError if it is not that."""
        body = serial.body(data, "ModeTruth", 1, set(cls.__dataclass_fields__))
        made: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}
        return cls(**made | {"units": tuple(SkipPlan.from_json(one) for one in body["units"])})


@dataclass(frozen=True)
class Speed:
    """What a plan costs beside the full model in the prefill; ratios are skipped/full.

    Attributes:
        flops_ratio: counted.
        latency_ratio: measured in pairs, with its interval.
        device: where, and on how many threads.
    """

    flops_ratio: float
    latency_ratio: Estimate
    device: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        body = {"flops_ratio": self.flops_ratio, "device": self.device}
        return {**serial.header("Speed", 1), **body, "latency_ratio": self.latency_ratio.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_json`; ValueError if it is not that."""
        body = serial.body(data, "Speed", 1, set(cls.__dataclass_fields__))
        return cls(**body | {"latency_ratio": Estimate.from_json(body["latency_ratio"])})


@dataclass(frozen=True)
class Chosen:
    """The plan that is certified for a rule, and what became of the promise.

    Attributes:
        search: path, certificates and the plan, which skips nothing where none was certified.
        saving: share of the prefill's work that is left out, with its interval over resampled
            certification images.
        disagreement: of the plan on untouched images.
        drop: of accuracy, there; None without labels.
        speed: None where nothing is skipped.
        promises: over resampled certification images; None where the path is empty.
    """

    search: CertifiedPlan
    saving: Estimate
    disagreement: Estimate
    drop: Estimate | None
    speed: Speed | None
    promises: Promises | None

    @property
    def plan(self) -> SkipPlan:
        """The certified plan."""
        return self.search.plan

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**serial.header("Chosen", 1), **{k: v and v.to_json() for k, v in body.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_json`; ValueError if it is not that."""
        body = serial.body(data, "Chosen", 1, set(cls.__dataclass_fields__))
        drop, speed, promises = body["drop"], body["speed"], body["promises"]
        return cls(
            search=CertifiedPlan.from_json(body["search"]),
            saving=Estimate.from_json(body["saving"]),
            disagreement=Estimate.from_json(body["disagreement"]),
            drop=None if drop is None else Estimate.from_json(drop),
            speed=None if speed is None else Speed.from_json(speed),
            promises=None if promises is None else Promises.from_json(promises),
        )


@dataclass(frozen=True)
class RuleResult:
    """One rule in one mode of one model.

    Attributes:
        condition: the redundancy condition it amounts to.
        source: where it comes from.
        keep: share of vision tokens kept by the units, in `token_pruning`; else None.
        scores: one for each unit, the lower, the safer.
        spent: what its measurements cost in forward-pass equivalents, by name.
        score: how well it ranks the units.
        chosen: its certified plan.
    """

    condition: str
    source: str
    keep: float | None
    scores: tuple[float, ...]
    spent: Mapping[str, float]
    score: RuleScore
    chosen: Chosen

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            **serial.header("RuleResult", 1),
            "condition": self.condition,
            "source": self.source,
            "keep": self.keep,
            "scores": list(self.scores),
            "spent": dict(self.spent),
            "score": self.score.to_json(),
            "chosen": self.chosen.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_json`; ValueError if it is not that."""
        body = serial.body(data, "RuleResult", 1, set(cls.__dataclass_fields__))
        made = {
            "scores": tuple(body["scores"]),
            "score": RuleScore.from_json(body["score"]),
            "chosen": Chosen.from_json(body["chosen"]),
        }
        return cls(**body | made)


@dataclass(frozen=True)
class Refusal:
    """A rule that gave no score in a mode, and why."""

    rule: str
    mode: str
    reason: str


@dataclass(frozen=True)
class ModelStudy:
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
        passes: what every rule might cost, in forward passes over the images seen; None: no limit.
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
    passes: float | None = None

    @property
    def modes(self) -> list[str]:
        """Modes that were studied, in order."""
        return list(dict.fromkeys(truth.mode for truth in self.truths))

    def truth_of(self, result: RuleResult) -> ModeTruth:
        """The truth that a result was held against."""
        units = (result.score.mode, result.keep)
        return next(one for one in self.truths if (one.mode, one.keep) == units)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        lists = {
            "truths": [one.to_json() for one in self.truths],
            "rules": [one.to_json() for one in self.rules],
            "refused": [asdict(one) for one in self.refused],
        }
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**serial.header("ModelStudy", 1), **body, **lists}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_json`; ValueError if it is not that."""
        body = serial.body(data, "ModelStudy", 1, set(cls.__dataclass_fields__))
        made = {
            "truths": tuple(ModeTruth.from_json(one) for one in body["truths"]),
            "rules": tuple(RuleResult.from_json(one) for one in body["rules"]),
            "refused": tuple(Refusal(**one) for one in body["refused"]),
        }
        return cls(**body | made)


@dataclass(frozen=True)
class AcrossModels:
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

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        left = [one.to_json() for one in self.left_out]
        return {**serial.header("AcrossModels", 1), **asdict(self), "left_out": left}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_json`; ValueError if it is not that."""
        body = serial.body(data, "AcrossModels", 1, set(cls.__dataclass_fields__))
        return cls(**body | {"left_out": tuple(LeftOut.from_json(o) for o in body["left_out"])})


@dataclass(frozen=True)
class Study:
    """Every rule on every model.

    Attributes:
        models: one for each; no figure is pooled over them.
        across: leave-one-model-out.
        decision: what was compared.
        machine: what it ran on, and the command.
    """

    models: tuple[ModelStudy, ...]
    across: tuple[AcrossModels, ...]
    decision: str
    machine: Mapping[str, Any]

    def promises(self) -> str:
        """In one line, how promises fared over all searches; empty where none was resampled."""
        made = [
            (one.chosen.promises, model.epsilon)
            for model in self.models
            for one in model.rules
            if one.chosen.promises is not None
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

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            **serial.header("Study", 1),
            "models": [one.to_json() for one in self.models],
            "across": [one.to_json() for one in self.across],
            "decision": self.decision,
            "machine": dict(self.machine),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_json`.

        Raises:
            ValueError: not a study, another schema version, or something in it is not what it
                should be.
        """
        body = serial.body(data, "Study", 1, set(cls.__dataclass_fields__))
        made: dict[str, Sequence[Any]] = {
            "models": tuple(ModelStudy.from_json(one) for one in body["models"]),
            "across": tuple(AcrossModels.from_json(one) for one in body["across"]),
        }
        return cls(**body | made)
