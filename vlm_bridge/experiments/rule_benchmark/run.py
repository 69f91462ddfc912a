"""Run a benchmark: truth once, then every rule's scores, path, certificate, test and speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from estimators import Estimate
from theory import Certificate
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.certify import certificate_of
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.experiments.rule_benchmark.error_rate import check_error_rate
from vlm_bridge.experiments.rule_benchmark.results import (
    Chosen,
    ModelBenchmark,
    ModeTruth,
    Refusal,
    RuleResult,
    Speed,
)
from vlm_bridge.experiments.rule_benchmark.scores import ranked
from vlm_bridge.experiments.rule_benchmark.settings import Settings, Splits
from vlm_bridge.experiments.rule_benchmark.store import Store
from vlm_bridge.experiments.scoring import Truth, score_rule
from vlm_bridge.model.prompts import batch_places
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import LAYERWISE, RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import RULES, Evidence, Rule
from vlm_bridge.rules.protocol import units_of
from vlm_bridge.runtime.files import read_json, write_json
from vlm_bridge.runtime.progress import track
from vlm_bridge.selection import (
    CertifiedPlan,
    Step,
    certify_path,
    pareto_path,
    saving,
    vision_share,
)
from vlm_bridge.selection.path import RUNGS
from vlm_bridge.skip import supported_modes

#: Rules stand in this order everywhere: what one pass foresees, what runs find out, nulls last.
_CLASSES = ("forward pass", "candidate runs", "labels", "nothing")
#: Modes whose units join to nested plans; the others have depths, the same for every rule.


def benchmark_rules(
    vlm: VLM,
    splits: Splits,
    *,
    rules: Iterable[Rule] | None = None,
    modes: Sequence[str] = RULE_MODES,
    settings: Settings | None = None,
    folder: Path | None = None,
) -> ModelBenchmark:
    """Hold every rule against what skipping does, and certify the plan it leads to.

    What a plan does to a question (the first answer token) is measured once and kept; every rule,
    path and resampling reads it from there.

    Args:
        vlm: the model.
        splits: disjoint by image.
        rules: those to benchmark, in the order of what they read; None is every one in `RULES`.
        modes: some of `RULE_MODES`; those the model cannot do are reported as refused.
        settings: how it is done.
        folder: where finished work is kept; the same call goes on from there.

    Raises:
        BridgeError: unknown modes.

    Example:
        >>> found = benchmark_rules(vlm, splits, modes=["freeze"])  # doctest: +SKIP
        >>> {one.score.rule: one.score.auc.value for one in found.rules}  # doctest: +SKIP
        {'skip-it': 0.83, 'skip-it-slopes': 0.91, ...}
    """
    unknown = set(modes) - set(RULE_MODES)
    if unknown:
        raise BridgeError(
            f"rules have no mode {', '.join(sorted(unknown))}; they have {', '.join(RULE_MODES)}"
        )
    given = RULES.values() if rules is None else rules
    chosen = sorted(given, key=lambda rule: _CLASSES.index(rule.requires))
    return _Run(vlm, splits, settings or Settings(), folder).run(chosen, modes)


def open_store(vlm: VLM, splits: Splits, settings: Settings, folder: Path | None) -> Store:
    """Where a benchmark of this model on these images keeps what plans did.

    The first batch of tuning images is a split of its own, `screen`: it turns most harmful plans
    down before the other images are run.
    """
    first = set(batch_places(splits.tuning, settings.batch_size)[0])
    parts = {
        "screen": [item for i, item in enumerate(splits.tuning) if i in first],
        "tuning": [item for i, item in enumerate(splits.tuning) if i not in first],
    }
    kept = {name: part for name, part in parts.items() if part}
    others = {"certification": splits.certification, "test": splits.test}
    return Store(
        vlm,
        {"profiling": splits.profiling, **kept, **others},
        folder,
        batch_size=settings.batch_size,
    )


@dataclass(frozen=True)
class _Scored:
    """A rule in one mode, before anything it proposes is run."""

    rule: Rule
    scores: list[float]
    spent: dict[str, float]
    units: list[SkipPlan]
    candidates: list[SkipPlan]


class _Run:
    def __init__(self, vlm: VLM, splits: Splits, settings: Settings, folder: Path | None) -> None:
        self.vlm, self.splits, self.settings = vlm, splits, settings
        self.epsilon, self.delta = settings.epsilon, settings.delta
        self.n_layers = vlm.layout.n_layers
        self.store = open_store(vlm, splits, settings, folder)
        self.evidence = Evidence(vlm, splits.profiling, batch_size=settings.batch_size)
        self.vision = vision_share(vlm, splits.profiling)

    def run(self, rules: Sequence[Rule], modes: Sequence[str]) -> ModelBenchmark:
        unable = supported_modes(self.vlm)
        truths: dict[tuple[str, float | None], ModeTruth] = {}
        found: list[RuleResult] = []
        refused: list[Refusal] = []
        for mode in modes:
            scored: list[_Scored] = []
            asked = [rule for rule in rules if mode in rule.modes]
            with track(f"{self.vlm.name}: scores, {mode}", len(asked)) as advance:
                for rule in asked:
                    try:
                        if unable[mode]:
                            raise BridgeError(unable[mode])
                        scored.append(self._scored(rule, mode))
                    except BridgeError as error:
                        refused.append(Refusal(rule.name, mode, str(error)))
                    advance(1)
            chosen = self._chosen(scored)
            for one, plan in zip(scored, chosen, strict=True):
                truth = Truth.of(one.units, self.store.outcomes("test", one.units))
                truths[mode, one.units[0].keep] = ModeTruth.of(truth, epsilon=self.epsilon)
                found.append(self._result(one, truth, plan))
        named = {name: getattr(self.splits, name) for name in Splits.__dataclass_fields__}
        return ModelBenchmark(
            model=self.vlm.name,
            n_layers=self.n_layers,
            epsilon=self.epsilon,
            delta=self.delta,
            n_images={name: len({item.cluster for item in part}) for name, part in named.items()},
            hashes={name: items_hash(part) for name, part in named.items()},
            truths=tuple(truths.values()),
            rules=tuple(found),
            refused=tuple(refused),
            forward_cost=self.settings.forward_cost,
        )

    def _result(self, one: _Scored, truth: Truth, chosen: Chosen) -> RuleResult:
        score = score_rule(
            np.array(one.scores),
            truth,
            rule=one.rule.name,
            requires=one.rule.requires,
            model=self.vlm.name,
            epsilon=self.epsilon,
            forward_cost=sum(one.spent.values()),
            seed=self.settings.seed,
        )
        return RuleResult(
            condition=one.rule.condition,
            source=one.rule.source,
            origin=one.rule.origin,
            keep=one.units[0].keep,
            scores=tuple(one.scores),
            spent=one.spent,
            score=score,
            chosen=chosen,
        )

    def _scored(self, rule: Rule, mode: str) -> _Scored:
        """A rule's scores and candidates, and what they cost."""
        found = ranked(
            rule, mode, self.evidence, self.store, forward_cost=self.settings.forward_cost
        )
        candidates = list(dict.fromkeys(found.plans))
        if mode in LAYERWISE:
            at = np.linspace(0, len(candidates) - 1, self.settings.candidates).round().astype(int)
            candidates = [candidates[i] for i in sorted(set(at.tolist()))]
        units = units_of(rule, mode, self.n_layers)
        return _Scored(rule, found.scores, found.spent, units, candidates)

    def _chosen(self, scored: Sequence[_Scored]) -> list[Chosen]:
        """The certified plan of every rule of a mode; a plan that several share is run once."""
        rates = self._rates([plan for one in scored for plan in one.candidates])
        paths = [self._path(one, rates) for one in scored]
        self.store.outcomes("certification", [step.plan for path in paths for step in path])
        searched = [
            certify_stored(path, self.store, epsilon=self.epsilon, delta=self.delta)
            for path in paths
        ]
        units = [unit for one in scored for unit in one.units]
        self.store.outcomes("test", [*units, *(one.plan for one in searched)])
        return [self._tested(one) for one in searched]

    def _rates(self, plans: Sequence[SkipPlan]) -> dict[SkipPlan, float]:
        """Disagreement on tuning images; of those turned down by the first batch, a lower bound."""
        n_images = len({item.cluster for item in self.splits.tuning})
        rates = dict.fromkeys(plans, 0.0)
        for split in ("screen", "tuning"):
            left = [p for p, rate in rates.items() if rate <= max(RUNGS) * self.epsilon]
            if split in self.store.splits and left:
                truth = Truth.of(left, self.store.outcomes(split, left))
                for plan, column in zip(left, truth.disagreement.T, strict=True):
                    rates[plan] += float(column.sum()) / n_images
        return rates

    def _path(self, one: _Scored, rates: dict[SkipPlan, float]) -> list[Step]:
        source = {"rule": one.rule.name, "model": self.vlm.name}
        return pareto_path(
            [replace(plan, source=source) for plan in one.candidates],
            [rates[plan] for plan in one.candidates],
            [saving(plan, vision=self.vision) for plan in one.candidates],
            epsilon=self.epsilon,
        )

    def _tested(self, searched: CertifiedPlan) -> Chosen:
        check, saved = None, _nothing(len({item.cluster for item in self.splits.certification}))
        if searched.path:
            check, saved = check_error_rate(
                searched.path,
                self.store.outcomes("certification", [step.plan for step in searched.path]),
                epsilon=self.epsilon,
                delta=self.delta,
                resamples=self.settings.resamples,
                seed=self.settings.seed,
            )
        (tested,) = self.store.outcomes("test", [searched.plan])
        compared = Comparison.of(searched.plan, tested, DECISION)
        return Chosen(
            search=searched,
            saving=saved,
            disagreement=compared.disagreement,
            drop=compared.drop,
            speed=None if searched.plan.is_empty else self._speed(searched.plan),
            error_rate_check=check,
        )

    def _speed(self, plan: SkipPlan) -> Speed:
        path = self.store.kept("speed", [plan.hash(), self.settings.pairs])
        if path is not None and path.is_file():
            return Speed.from_json(read_json(path, "speed of a plan"))
        cost = measure_cost(
            self.vlm, self.splits.test, plan, batch_size=4, pairs=self.settings.pairs
        )
        found = Speed(cost.prefill.flops_ratio, cost.prefill.latency_ratio, cost.device)
        if path is not None:
            write_json(path, found.to_json())
        return found


def certify_stored(
    path: Sequence[Step], store: Store, *, epsilon: float, delta: float
) -> CertifiedPlan:
    """`certify_path` on the certification images of a store."""

    def certify_one(plan: SkipPlan) -> Certificate:
        (found,) = store.outcomes("certification", [plan])
        return certificate_of(plan, found, epsilon=epsilon, delta=delta)

    return certify_path(path, certify_one, empty=SkipPlan("block", store.vlm.layout.n_layers))


def _nothing(n_images: int) -> Estimate:
    """The saving where no candidate passed even on the tuning images."""
    why = "no candidate kept its answers on the tuning images"
    return Estimate(value=0.0, interval=(0.0, 0.0), n=n_images, method=why)
