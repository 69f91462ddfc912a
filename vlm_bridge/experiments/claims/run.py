"""Run the protocol on one model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims import protocol
from vlm_bridge.experiments.claims.behaviour import Behaviour, measure_behaviour
from vlm_bridge.experiments.claims.entry import enter
from vlm_bridge.experiments.claims.harm import block_harm, measure_harm
from vlm_bridge.experiments.claims.latency import measure_latency
from vlm_bridge.experiments.claims.nulls import nulls
from vlm_bridge.experiments.claims.plans import (
    EARLY,
    LATE,
    OUR_PLAN,
    PlanSet,
    our_plan,
    plan_result,
    third_plan,
)
from vlm_bridge.experiments.claims.promise import Promise, check_promise
from vlm_bridge.experiments.claims.results import (
    Entry,
    Latency,
    ModeHarm,
    ModelClaims,
    PlanResult,
    TestResult,
)
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.experiments.claims.stability import Stability, stabilities
from vlm_bridge.experiments.claims.subject import AnswerBook, Subject
from vlm_bridge.experiments.claims.testing import plan_tests, rank_tests, third_test
from vlm_bridge.experiments.rule_benchmark import Case
from vlm_bridge.experiments.rule_benchmark.store import digest
from vlm_bridge.reference.origin import sources_of
from vlm_bridge.runtime.files import safe_name
from vlm_bridge.runtime.machine import machine
from vlm_bridge.runtime.progress import track

_STEPS = 6


@dataclass(frozen=True)
class Given:
    """What a run is about.

    Attributes:
        case: the model and its four splits.
        all_of_test: every question about the test images, for false "yes"; may be empty.
        name: of the model in verdicts; "": its own. Runs of one name are seeds of one model.
        others: name -> questions of another task set, for the stability of the ranking.
    """

    case: Case
    all_of_test: Sequence[Item] = ()
    name: str = ""
    others: Mapping[str, Sequence[Item]] | None = None


def check_claims(given: Given, settings: ClaimsSettings | None = None) -> ModelClaims:
    """Run docs/protocol.md on one model.

    Every plan answers a question once; finished batches are kept in `settings.checkpoint`, and the
    same call continues from them. A model that does not enter is left after its blocks were
    measured, unless `settings.anyway`.

    Raises:
        BridgeError: a model that cannot skip blocks, or a checkpoint of another run.

    Example:
        >>> case, every = load_claims_case("toy", "", settings)  # doctest: +SKIP
        >>> check_claims(Given(case, every), settings).entry.enters  # doctest: +SKIP
        True
    """
    settings = settings or ClaimsSettings()
    with _folder(given.case, settings) as folder:
        return _Run(given, settings, folder).run()


@contextmanager
def _folder(case: Case, settings: ClaimsSettings) -> Iterator[Path]:
    """The folder of finished work: of this model, its images, and all settings that matter."""
    vlm = case.vlm
    hashes = [items_hash(items) for items in case.splits.by_name.values()]
    matter = {name: value for name, value in settings.record().items() if name not in _FREE}
    name = safe_name(vlm.name.strip("/").replace("/", "--"))
    own = f"{name}-{vlm.fingerprint[:12]}-{digest([hashes, matter])}"
    if settings.checkpoint is not None:
        yield settings.checkpoint / own
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary) / own


#: Settings that no stored answer depends on.
_FREE = ("samples", "resamples", "beside", "anyway", "pairs", "draws")


class _Run:
    def __init__(self, given: Given, settings: ClaimsSettings, folder: Path) -> None:
        self.given, self.settings, self.folder = given, settings, folder
        case = given.case
        self.vlm, self.splits, self.begun = case.vlm, case.splits, time.perf_counter()
        self.model = Subject(
            "model", self.vlm, self.splits.profiling, self.splits.test, folder, settings
        )
        self.tuning = self._book("tuning", self.splits.tuning)
        self.certification = self._book("certification", self.splits.certification)
        self.refused: list[str] = []

    def _book(self, name: str, items: Sequence[Item]) -> AnswerBook:
        return AnswerBook(self.vlm, items, self.folder / name, self.settings)

    def run(self) -> ModelClaims:
        if not self.model.has("block"):
            raise BridgeError(f"{self.vlm.name} skips no blocks, with which the protocol begins")
        with track(f"{self.vlm.name}: protocol", _STEPS) as advance:
            training = self.given.case.training or self.splits.tuning
            entry = enter(self.tuning, training, block_harm(self.model))
            advance(1)
            if not entry.enters and not self.settings.anyway:
                harm, _ = measure_harm(self.model, "block", rules=False)
                return self._result(entry=entry, harm=(harm,))
            harms = tuple(self._harms())
            advance(1)
            sets = list(self._plan_sets())
            shown = tuple(plan_result(self.model, self.certification, each) for each in sets)
            latency = self._latency(self._tested(sets))
            advance(1)
            others = nulls(
                self.vlm, self.splits.profiling, self.splits.test, self.folder, self.settings
            )
            tests = tuple(self._tests(others, sets, latency))
            advance(1)
            stable = tuple(self._stability([harm.mode for harm in harms]))
            behaviour = self._behaviour(self._tested(sets))
            advance(1)
            promise = self._promise(sets, harms)
            advance(1)
        return self._result(
            entry=entry,
            harm=harms,
            plans=shown,
            latency=latency,
            tests=tests,
            stability=stable,
            behaviour=behaviour,
            promise=promise,
        )

    def _harms(self) -> Iterator[ModeHarm]:
        for mode in protocol.MODES:
            if not self.model.has(mode):
                continue
            harm, refused = measure_harm(self.model, mode)
            self.refused += refused
            yield harm

    def _plan_sets(self) -> Iterator[PlanSet]:
        """Our plan of the tests, and the thirds where vision tokens can be frozen."""
        mode = protocol.tested_mode(self.model.has("freeze"))
        try:
            yield our_plan(
                self.model,
                mode,
                self.splits.tuning,
                self.splits.certification,
                self.folder / "search",
            )
        except BridgeError as error:
            self.refused.append(f"plan of {protocol.OURS}, {mode}: {error}")
        for role in (EARLY, LATE):
            if not self.model.has("freeze"):
                continue
            if (plan := third_plan(self.model, role)) is not None:
                yield plan
            else:
                self.refused.append(f"{role}: no layer is left without the fatal ones")

    def _tested(self, sets: Sequence[PlanSet]) -> PlanSet | None:
        return next((each for each in sets if each.role == OUR_PLAN), None)

    def _latency(self, ours: PlanSet | None) -> Latency | None:
        plan, pairs = None if ours is None else ours.plan, self.settings.pairs
        if plan is None:
            return None
        return measure_latency(self.vlm, self.splits.test, plan, pairs=pairs, folder=self.folder)

    def _tests(
        self, others: Sequence[Subject], sets: Sequence[PlanSet], latency: Latency | None
    ) -> Iterator[TestResult]:
        yield from rank_tests(self.model, others)
        if (ours := self._tested(sets)) is not None:
            yield from plan_tests(self.model, others, ours, latency)
        for clause, role in (("V2-early", EARLY), ("V2-late", LATE)):
            for each in sets:
                if each.role == role:
                    yield third_test(clause, self.model, others, self.certification, each)

    def _stability(self, modes: Sequence[str]) -> Iterator[Stability]:
        chosen = [mode for mode in modes if mode in protocol.ALIGNED]
        if not self.settings.beside or not chosen:
            return
        try:
            yield from stabilities(self.model, chosen, self.splits.tuning, self.given.others or {})
        except BridgeError as error:
            self.refused.append(f"stability: {error}")

    def _behaviour(self, ours: PlanSet | None) -> Behaviour | None:
        if not self.settings.beside or ours is None or ours.plan is None:
            return None
        every, folder = self.given.all_of_test, self.folder / "behaviour"
        return measure_behaviour(
            self.vlm, ours.plan, self.splits.test, every, folder, self.settings
        )

    def _promise(self, sets: Sequence[PlanSet], harms: Sequence[ModeHarm]) -> Promise | None:
        settings = self.settings
        if not settings.beside or not settings.resamples:
            return None
        steps = [step.plan for s in sets if s.search for step in s.search.path]
        known = [*steps, *(s.plan for s in sets if s.plan is not None)]
        likely = [
            (rate, unit)
            for harm in harms
            for rate, unit in zip(harm.mean, self.model.units(harm.mode), strict=True)
        ]
        return check_promise(
            self.certification,
            known,
            likely,
            epsilon=settings.epsilon,
            delta=settings.delta,
            resamples=settings.resamples,
            seed=settings.seed,
        )

    def _result(
        self,
        *,
        entry: Entry,
        harm: tuple[ModeHarm, ...],
        plans: tuple[PlanResult, ...] = (),
        latency: Latency | None = None,
        tests: tuple[TestResult, ...] = (),
        stability: tuple[Stability, ...] = (),
        behaviour: Behaviour | None = None,
        promise: Promise | None = None,
    ) -> ModelClaims:
        splits = self.splits.by_name.items()
        return ModelClaims(
            protocol=protocol.COMMIT,
            protocol_sha256=protocol.SHA256,
            name=self.given.name or self.vlm.name,
            model=self.vlm.name,
            fingerprint=self.vlm.fingerprint,
            n_layers=self.model.n_layers,
            data=self.given.case.data,
            sources=tuple(sources_of(self.vlm.name, [self.given.case.data])),
            counts={name: len({item.cluster for item in items}) for name, items in splits},
            hashes={name: items_hash(items) for name, items in splits},
            unit=self.model.unit,
            settings=self.settings.record(),
            entry=entry,
            harm=harm,
            plans=plans,
            latency=latency,
            tests=tests,
            stability=stability,
            behaviour=behaviour,
            promise=promise,
            refused=tuple(dict.fromkeys(self.refused)),
            machine=machine(),
            seconds=time.perf_counter() - self.begun,
        )
