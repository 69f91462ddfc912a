"""Results of the protocol, as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from estimators import Estimate
from estimators.record import Record
from vlm_bridge.cost import PhaseCost
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.behaviour import Behaviour
from vlm_bridge.experiments.claims.promise import Promise
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.experiments.claims.stability import Stability
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_record
from vlm_bridge.selection import CertifiedPlan


@dataclass(frozen=True)
class Entry(Record):
    """Whether a model enters the verdicts.

    Attributes:
        accuracy, blind: of the full model and of the blind baseline, on tuning images; None
            without labels.
        graded: share of single blocks that change between 2 and 90 % of the answers.
        n_blocks: number of blocks.
        enters: whether both criteria are met.
        reason: the figures, in words.
    """

    accuracy: Estimate | None
    blind: Estimate | None
    graded: float
    n_blocks: int
    enters: bool
    reason: str


@dataclass(frozen=True)
class RuleRank(Record):
    """A rule's scores of the units of a mode, and their rank correlation with harm.

    Attributes:
        rule: its name.
        scores: (n_units,); the lower, the safer.
        given_depth: rank correlation of the scores with harm, given depth; of counted units.
        rotation_p: p-value over the rotations of the scores.
    """

    rule: str
    scores: tuple[float, ...]
    given_depth: Estimate
    rotation_p: float


@dataclass(frozen=True)
class ModeHarm(Record):
    """Harm of every single unit of a mode.

    Attributes:
        mode: of the units.
        places: (n_units,) layer or depth.
        counted: (n_units,) whether rankings count it: in modes of layers not the fatal ones.
        mean, low, high: (n_units,) share of changed answers, and the ends of its interval.
        n_images: number of images.
        rules: every rule that scored the units.
    """

    mode: str
    places: tuple[float, ...]
    counted: tuple[bool, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_images: int
    rules: tuple[RuleRank, ...]


@dataclass(frozen=True)
class PlanResult(Record):
    """A plan on test images, beside its controls.

    Attributes:
        role: "ours", "first third" or "last third".
        plan: what is skipped.
        search: how it was certified; None for a third, which no search chose.
        certified: share of certification images whose answer it changes; None without a plan.
        changed: the same on test images.
        random: on test images, of random plans of its size; empty where there are none.
        deepest: of the deepest plan of its size; None where there is none.
        over_deepest: answers that the deepest plan changes minus those of the plan, by image.
        least_safe: of the plan of its size that our rule ranks least safe; of "ours" alone.
    """

    role: str
    plan: SkipPlan
    search: CertifiedPlan | None
    certified: Estimate | None
    changed: Estimate | None
    random: tuple[float, ...]
    deepest: Estimate | None
    over_deepest: Estimate | None
    least_safe: Estimate | None


@dataclass(frozen=True)
class Latency(Record):
    """Time of the prefill with and without a plan.

    Attributes:
        plan: the plan.
        prefill: FLOPs, medians, and the median ratio with its interval.
        ratios: (n_pairs,) paired ratios, skipped/full.
        device: what was timed, and its number of threads.
    """

    plan: SkipPlan
    prefill: PhaseCost
    ratios: tuple[float, ...]
    device: str


@dataclass(frozen=True)
class Point(Record):
    """What a verdict needs beside its test.

    Attributes:
        name: `protocol.DEPTH`, `RANDOM_PLANS`, `TEST_IMAGES` or one of `NULLS`.
        holds: whether it does.
        value: the difference that decides; None if it could not be measured.
        text: what was found.
        reversed: of a null, whether its value is at least as large as the model's, with an interval
            that excludes the model's.
        null: the statistic on the null; None of other points.
    """

    name: str
    holds: bool
    value: Estimate | None
    text: str
    reversed: bool = False
    null: Estimate | None = None


@dataclass(frozen=True)
class TestResult(Record):
    """One test of one model.

    Attributes:
        id: a key of `protocol.CLAUSES`.
        mode: of the units or the plan.
        effect: the statistic, oriented so that large values support the clause.
        p, p_opposite: one-sided p-values, for and against.
        points: what else a verdict needs.
        rotation_p: p-value over rotations, printed beside a test of ranks; None of others.
        reason: why nothing could be tested (p is then 1); empty otherwise.
    """

    __test__: ClassVar[bool] = False  # no test of pytest

    id: str
    mode: str
    effect: Estimate | None
    p: float
    p_opposite: float
    points: tuple[Point, ...]
    rotation_p: float | None = None
    reason: str = ""


#: Settings that no verdict depends on.
_FREE = ("batch_size", "resamples", "beside", "anyway")


@dataclass(frozen=True, kw_only=True)
class ModelClaims(Record):
    """One run of the protocol: one model, or one seed of it.

    Attributes:
        protocol, protocol_sha256: commit and hash of the protocol that it follows.
        name: of the model in verdicts; runs of one name are seeds of one model.
        model, fingerprint, n_layers: what was loaded.
        data, sources: the questions, and whose models and data were used.
        counts, hashes: split -> number of images, and hash of its questions.
        unit: what the images are, in the plural.
        settings: sizes, levels and seed.
        entry: whether it enters the verdicts.
        harm: of single units; `block` alone of a model that does not enter.
        plans: our plan of the tests, and the thirds.
        latency: of our plan that is tested; None without one.
        tests: of section 5.
        stability, behaviour, promise: of section 7.
        refused: what could not be measured, and why.
        machine: hardware, versions, and the command.
        seconds: wall time of the run that finished it.
    """

    SCHEMA_VERSION: ClassVar[int] = 2

    protocol: str
    protocol_sha256: str
    name: str
    model: str
    fingerprint: str
    n_layers: int
    data: str
    sources: tuple[str, ...]
    counts: Mapping[str, int]
    hashes: Mapping[str, str]
    unit: str
    settings: Mapping[str, Any]
    entry: Entry
    harm: tuple[ModeHarm, ...]
    plans: tuple[PlanResult, ...]
    latency: Latency | None
    tests: tuple[TestResult, ...]
    stability: tuple[Stability, ...]
    behaviour: Behaviour | None
    promise: Promise | None
    refused: tuple[str, ...]
    machine: Mapping[str, Any]
    seconds: float

    @property
    def unregistered(self) -> tuple[str, ...]:
        """Settings that are not those of the protocol, in words."""
        return tuple(
            f"{name} {self.settings[name]} (registered: {value})"
            for name, value in ClaimsSettings().record().items()
            if name not in _FREE and self.settings.get(name, value) != value
        )

    def harm_of(self, mode: str) -> ModeHarm | None:
        """Harm of the units of a mode; None if it was not measured."""
        return next((each for each in self.harm if each.mode == mode), None)


@dataclass(frozen=True)
class ClaimsResult(Record):
    """Runs of the protocol.

    Attributes:
        models: one entry for each run; nothing is pooled over models.
        machine: hardware, versions, and the command.
    """

    SCHEMA_VERSION: ClassVar[int] = 2

    models: tuple[ModelClaims, ...]
    machine: Mapping[str, Any]


def read_claims(path: Path) -> ClaimsResult:
    """Read `claims.json`; a BridgeError if it is missing or holds no such result."""
    return read_record(path, ClaimsResult, "result of `skipit claims`")


def joined(parts: Sequence[ClaimsResult]) -> ClaimsResult:
    """Join several runs: models in order, commands joined, the machine of the first run.

    Raises:
        BridgeError: no runs.
    """
    if not parts:
        raise BridgeError("name at least one result of `skipit claims`")
    command = "; ".join(str(part.machine["command"]) for part in parts)
    models = tuple(model for part in parts for model in part.models)
    return ClaimsResult(models, {**parts[0].machine, "command": command})
