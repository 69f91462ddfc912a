"""Run a study: truth once, then every rule's scores, path, certificate, test and speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from estimators import Estimate
from theory import Certificate
from vlm_bridge.certification import certificate_of
from vlm_bridge.comparison import Comparison
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.files import read_json, write_json
from vlm_bridge.plan import SkipPlan
from vlm_bridge.progress import track
from vlm_bridge.prompts import batch_places
from vlm_bridge.rules import RULES, Evidence, Rule, nested_plans, score_units
from vlm_bridge.rules.protocol import units_of
from vlm_bridge.rules.units import RULE_MODES
from vlm_bridge.scoring import Truth, score_rule
from vlm_bridge.search import Step, certify_path, pareto_path, saving, vision_share
from vlm_bridge.search.path import RUNGS
from vlm_bridge.skip import supported_modes
from vlm_bridge.study.promises import resampled
from vlm_bridge.study.results import Chosen, ModelStudy, ModeTruth, Refusal, RuleResult, Speed
from vlm_bridge.study.store import Store
from vlm_bridge.sweeping import DECISION
from vlm_bridge.vlm import VLM

#: Modes whose units join to nested plans; the others have depths, the same for every rule.
_LAYERWISE = ("block", "freeze", "sublayer")


@dataclass(frozen=True)
class Splits:
    """Four sets of questions; no image is in two of them.

    Attributes:
        seen: what rules may look at.
        tuning: choose the path of every rule.
        certification: certify it; the pool of the resamplings.
        test: say what is true of units, and of certified plans.

    Raises:
        BridgeError: an image in two of them, or one is empty.
    """

    seen: tuple[Item, ...]
    tuning: tuple[Item, ...]
    certification: tuple[Item, ...]
    test: tuple[Item, ...]

    def __post_init__(self) -> None:
        names = ("seen", "tuning", "certification", "test")
        owner: dict[str, str] = {}
        for name in names:
            items = getattr(self, name)
            if not items:
                raise BridgeError(f"the split '{name}' has no questions")
            for image in image_hashes(items):
                if owner.setdefault(image, name) != name:
                    raise BridgeError(f"splits '{owner[image]}' and '{name}' share an image")


@dataclass(frozen=True)
class Settings:
    """How a study is done.

    Attributes:
        epsilon: the line between safe and harmful, and what is promised.
        delta: probability with which a promise may be wrong.
        candidates: nested plans a layer-wise rule puts forward, evenly from small to large; of
            depths every one is a candidate.
        resamples: of the certification images.
        pairs: timed pairs of full and skipped.
        size: batch size.
        seed: of resampling.

    Raises:
        BridgeError: fewer than two candidates, no resample or pair, epsilon or delta outside
            (0, 1).
    """

    epsilon: float = 0.05
    delta: float = 0.05
    candidates: int = 10
    resamples: int = 200
    pairs: int = 11
    size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1 or not 0 < self.delta < 1:
            raise BridgeError(
                f"epsilon and delta must lie in (0, 1), got {self.epsilon} and {self.delta}"
            )
        for name, least in {"candidates": 2, "resamples": 1, "pairs": 1, "size": 1}.items():
            if getattr(self, name) < least:
                raise BridgeError(f"{name} must be at least {least}, got {getattr(self, name)}")


def study_rules(
    vlm: VLM,
    splits: Splits,
    *,
    rules: Iterable[Rule] | None = None,
    modes: Sequence[str] = RULE_MODES,
    settings: Settings | None = None,
    folder: Path | None = None,
) -> ModelStudy:
    """Hold every rule against what skipping does, and certify the plan it leads to.

    What a plan does to a question (the first answer token) is measured once and kept; every rule,
    path and resampling reads it from there.

    Args:
        vlm: the model.
        splits: disjoint by image.
        rules: those to study; None is every one in `RULES`.
        modes: some of `RULE_MODES`; those the model cannot do are reported as refused.
        settings: how it is done.
        folder: where finished work is kept; the same call goes on from there.

    Raises:
        BridgeError: unknown modes.

    Example:
        >>> found = study_rules(vlm, splits, modes=["freeze"])  # doctest: +SKIP
        >>> {one.score.rule: one.score.auc.value for one in found.rules}  # doctest: +SKIP
        {'skip-it': 0.83, 'skip-it-slopes': 0.91, ...}
    """
    unknown = set(modes) - set(RULE_MODES)
    if unknown:
        raise BridgeError(
            f"rules have no mode {', '.join(sorted(unknown))}; they have {', '.join(RULE_MODES)}"
        )
    chosen = list(RULES.values() if rules is None else rules)
    return _Run(vlm, splits, settings or Settings(), folder).run(chosen, modes)


class _Run:
    def __init__(self, vlm: VLM, splits: Splits, settings: Settings, folder: Path | None) -> None:
        self.vlm, self.splits, self.settings = vlm, splits, settings
        self.epsilon, self.delta = settings.epsilon, settings.delta
        self.n_layers = vlm.layout.n_layers
        # One batch of tuning images turns most harmful plans down before the others are run.
        first = set(batch_places(splits.tuning, settings.size)[0])
        parts = {
            "screen": [item for i, item in enumerate(splits.tuning) if i in first],
            "tuning": [item for i, item in enumerate(splits.tuning) if i not in first],
        }
        self.store = Store(
            vlm,
            {
                "seen": splits.seen,
                **{name: part for name, part in parts.items() if part},
                "certification": splits.certification,
                "test": splits.test,
            },
            folder,
            size=settings.size,
        )
        self.evidence = Evidence(vlm, splits.seen, size=settings.size)
        self.vision = vision_share(vlm, splits.seen)

    def run(self, rules: Sequence[Rule], modes: Sequence[str]) -> ModelStudy:
        unable = supported_modes(self.vlm)
        pairs = [(rule, mode) for mode in modes for rule in rules if mode in rule.modes]
        truths: dict[tuple[str, float | None], ModeTruth] = {}
        found: list[RuleResult] = []
        refused: list[Refusal] = []
        with track(f"rules on {self.vlm.name}", len(pairs)) as advance:
            for rule, mode in pairs:
                try:
                    if unable[mode]:
                        raise BridgeError(unable[mode])
                    result, truth = self._rule(rule, mode)
                    truths.setdefault(
                        (mode, result.keep), ModeTruth.of(truth, epsilon=self.epsilon)
                    )
                    found.append(result)
                except BridgeError as error:
                    refused.append(Refusal(rule.name, mode, str(error)))
                advance(1)
        named = {name: getattr(self.splits, name) for name in Splits.__dataclass_fields__}
        return ModelStudy(
            model=self.vlm.name,
            n_layers=self.n_layers,
            epsilon=self.epsilon,
            delta=self.delta,
            n_images={name: len({item.group for item in part}) for name, part in named.items()},
            hashes={name: items_hash(part) for name, part in named.items()},
            truths=tuple(truths.values()),
            rules=tuple(found),
            refused=tuple(refused),
        )

    def _rule(self, rule: Rule, mode: str) -> tuple[RuleResult, Truth]:
        scores, spent, plans = self._scores(rule, mode)
        units = units_of(rule, mode, self.n_layers)
        truth = Truth.of(units, self.store.outcomes("test", units))
        score = score_rule(
            np.array(scores),
            truth,
            rule=rule.name,
            reads=rule.reads,
            model=self.vlm.name,
            epsilon=self.epsilon,
            passes=sum(spent.values()),
            seed=self.settings.seed,
        )
        result = RuleResult(
            condition=rule.condition,
            source=rule.source,
            keep=units[0].keep,
            scores=tuple(scores),
            spent=spent,
            score=score,
            chosen=self._chosen(plans),
        )
        return result, truth

    def _scores(
        self, rule: Rule, mode: str
    ) -> tuple[list[float], dict[str, float], list[SkipPlan]]:
        """A rule's scores and candidates, and what they cost; read where they are kept."""
        path = self.store.kept(f"{rule.name}-{mode}", [repr(rule), self.store.hashes["seen"]])
        if path is not None and path.is_file():
            body = read_json(path, "scores of a rule")
            return body["scores"], body["spent"], [SkipPlan.from_json(one) for one in body["plans"]]
        self.evidence.spent.pop(rule.name, None)  # its account in this mode alone
        scores = score_units(rule, self.evidence, mode).tolist()
        plans = nested_plans(rule, self.evidence, mode)
        spent = dict(self.evidence.spent.get(rule.name, {}))
        if path is not None:
            made = [plan.to_json() for plan in plans]
            write_json(path, {"scores": scores, "spent": spent, "plans": made})
        return scores, spent, plans

    def _chosen(self, nested: Sequence[SkipPlan]) -> Chosen:
        plans = list(dict.fromkeys(nested))
        if plans[0].mode in _LAYERWISE:
            at = np.linspace(0, len(plans) - 1, self.settings.candidates).round().astype(int)
            plans = [plans[i] for i in sorted(set(at.tolist()))]
        path = self._path(plans)
        steps = [step.plan for step in path]
        outcomes = self.store.outcomes("certification", steps)
        of_step = dict(zip(steps, outcomes, strict=True))

        def certify_one(plan: SkipPlan) -> Certificate:
            return certificate_of(plan, of_step[plan], epsilon=self.epsilon, delta=self.delta)

        empty = SkipPlan("block", self.n_layers)
        searched = certify_path(path, certify_one, empty=empty)
        promises, saved = None, _nothing(len({item.group for item in self.splits.certification}))
        if path:
            promises, saved = resampled(
                path,
                outcomes,
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
            promises=promises,
        )

    def _path(self, plans: Sequence[SkipPlan]) -> list[Step]:
        """The path from tuning images: a first batch turns plans down, the rest rank the others."""
        n_images = len({item.group for item in self.splits.tuning})
        totals = dict.fromkeys(plans, 0.0)
        left = list(plans)
        for split in ("screen", "tuning"):
            if split not in self.store.splits or not left:
                continue
            truth = Truth.of(left, self.store.outcomes(split, left))
            for plan, column in zip(left, truth.disagreement.T, strict=True):
                totals[plan] += float(column.sum())
            left = [p for p in left if totals[p] / n_images <= max(RUNGS) * self.epsilon]
        kept = [replace(plan, source={"rule": plan.source.get("rule", "")}) for plan in plans]
        return pareto_path(
            kept,
            [totals[plan] / n_images for plan in plans],
            [saving(plan, vision=self.vision) for plan in plans],
            epsilon=self.epsilon,
        )

    def _speed(self, plan: SkipPlan) -> Speed:
        path = self.store.kept("speed", [plan.hash(), self.settings.pairs])
        if path is not None and path.is_file():
            return Speed.from_json(read_json(path, "speed of a plan"))
        cost = measure_cost(self.vlm, plan, self.splits.test, size=4, pairs=self.settings.pairs)
        found = Speed(cost.prefill.flops_ratio, cost.prefill.latency_ratio, cost.device)
        if path is not None:
            write_json(path, found.to_json())
        return found


def _nothing(n_images: int) -> Estimate:
    """The saving where no candidate passed even on the tuning images."""
    why = "no candidate kept its answers on the tuning images"
    return Estimate(value=0.0, interval=(0.0, 0.0), n=n_images, method=why)
