"""Run a rule benchmark: truth, then scores, path, certificate, test and cost of every rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from estimators import Estimate
from theory import Certificate
from vlm_bridge.data import image_ids, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison, check_images
from vlm_bridge.evaluate.controls import Knockout, coarser_images, control_plans, knockouts
from vlm_bridge.evaluate.from_outcomes import certificate_of, signed
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.experiments.rule_benchmark import results as records
from vlm_bridge.experiments.rule_benchmark.error_rate import check_error_rate
from vlm_bridge.experiments.rule_benchmark.margins import margins
from vlm_bridge.experiments.rule_benchmark.scores import Ranked, ranked
from vlm_bridge.experiments.rule_benchmark.settings import Settings, Splits
from vlm_bridge.experiments.rule_benchmark.store import Store, compare_on_test, digest, plan_cost
from vlm_bridge.experiments.scoring import Truth, score_rule
from vlm_bridge.model.prompts import batch_places
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, Rule
from vlm_bridge.rules.protocol import units_of
from vlm_bridge.runtime.progress import track
from vlm_bridge.selection import (
    CertifiedPlan,
    Step,
    certify_path,
    modality_share,
    pareto_path,
    saving,
)
from vlm_bridge.selection.path import RUNGS
from vlm_bridge.skip import supported_modes

#: Order of the rules in all results, by the evidence that they require.
_ORDER = ("forward pass", "candidate runs", "labels", "nothing")


def benchmark_rules(
    vlm: VLM, splits: Splits, settings: Settings | None = None, *, store: Store | None = None
) -> records.ModelBenchmark:
    """Score every rule against measured disagreement, and certify a plan of its ranking.

    The effect of a plan on the first answer token of a question is measured once and stored, for
    all rules, paths and resamplings. A second call with the same `checkpoint` resumes.

    Args:
        vlm: the model.
        splits: questions, disjoint by image.
        settings: rules, modes, levels and counts.
        store: stored outcomes to read and extend (default: that of `open_store`).

    Raises:
        BridgeError: fewer than two test images, which have no interval.

    Example:
        >>> benchmark = benchmark_rules(vlm, splits, Settings(modes=("freeze",)))  # doctest: +SKIP
        >>> {each.score.rule: each.score.auc.value for each in benchmark.rules}  # doctest: +SKIP
        {'skip-it': 0.83, 'skip-it-slopes': 0.91, ...}
    """
    settings = settings or Settings()
    check_images(splits.test)
    return _Run(vlm, splits, settings, store or open_store(vlm, splits, settings)).run()


def open_store(vlm: VLM, splits: Splits, settings: Settings) -> Store:
    """The store of a benchmark of this model on these images.

    The first batch of tuning images is a split of its own, `screen`: it rejects most harmful plans
    before they are run on the other tuning images.
    """
    first = set(batch_places(splits.tuning, settings.batch_size)[0])
    parts = splits.by_name | {
        "screen": tuple(item for i, item in enumerate(splits.tuning) if i in first),
        "tuning": tuple(item for i, item in enumerate(splits.tuning) if i not in first),
    }
    nonempty = {name: part for name, part in parts.items() if part}
    return Store(vlm, nonempty, settings.checkpoint, batch_size=settings.batch_size)


@dataclass(frozen=True)
class _Scored:
    """A rule in one mode, before any of its candidates is run."""

    rule: Rule
    ranked: Ranked
    units: list[SkipPlan]
    candidates: list[SkipPlan]


class _Run:
    def __init__(self, vlm: VLM, splits: Splits, settings: Settings, store: Store) -> None:
        self.vlm, self.splits, self.settings, self.store = vlm, splits, settings, store
        self.evidence = Evidence(vlm, splits.profiling, batch_size=settings.batch_size)
        self.vision = modality_share(vlm, splits.profiling)

    def run(self) -> records.ModelBenchmark:
        reasons = supported_modes(self.vlm)
        rules = sorted(self.settings.rules, key=lambda rule: _ORDER.index(rule.requires))
        truths: dict[tuple[str, float | None], records.ModeTruth] = {}
        results: list[records.RuleResult] = []
        refused: list[records.Refusal] = []
        gained: list[records.Margin] = []
        for mode in self.settings.modes:
            scored: list[_Scored] = []
            in_mode = [rule for rule in rules if mode in rule.modes]
            with track(f"{self.vlm.name}: scores, {mode}", len(in_mode)) as advance:
                for rule in in_mode:
                    try:
                        if reasons[mode]:
                            raise BridgeError(reasons[mode])
                        scored.append(self._scored(rule, mode))
                    except BridgeError as error:
                        refused.append(records.Refusal(rule.name, mode, str(error)))
                    advance(1)
            measured: dict[float | None, tuple[Truth, list[records.RuleResult]]] = {}
            for each, chosen in zip(scored, self._chosen(scored), strict=True):
                truth = Truth.of(each.units, self.store.outcomes("test", each.units))
                mode_truth = records.ModeTruth.of(truth, epsilon=self.settings.epsilon)
                truths[mode, mode_truth.keep] = mode_truth
                results.append(self._result(each, truth, chosen))
                measured.setdefault(mode_truth.keep, (truth, []))[1].append(results[-1])
            for truth, in_truth in measured.values():
                gained += margins(in_truth, truth, seed=self.settings.seed)
        splits = self.splits.by_name.items()
        kept = [keep for mode, keep in truths if keep is not None]
        coarser, no_coarser, knocked = self._shown_less(min(kept, default=None))
        return records.ModelBenchmark(
            model=self.vlm.name,
            n_layers=self.vlm.layout.n_layers,
            epsilon=self.settings.epsilon,
            delta=self.settings.delta,
            n_images={name: len({item.cluster for item in items}) for name, items in splits},
            hashes={name: items_hash(items) for name, items in splits},
            truths=tuple(truths.values()),
            rules=tuple(results),
            refused=tuple(refused),
            forward_cost=self.settings.forward_cost,
            fingerprint=self.vlm.fingerprint,
            margins=tuple(gained),
            coarser=coarser,
            no_coarser=no_coarser,
            knockouts=knocked,
        )

    def _shown_less(
        self, share: float | None
    ) -> tuple[Comparison | None, str, tuple[Knockout, ...]]:
        """Coarser test images, and text's attention to them knocked out, on whole answers."""
        settings, vlm, bands = self.settings, self.vlm, self.settings.bands
        coarser: tuple[Comparison | None, str] = (None, "no mode that prunes was measured")
        if share is None and not bands:
            return (*coarser, ())
        with TemporaryDirectory() as temporary:
            size = settings.batch_size
            name = f"controls-{digest([self.store.hashes['test'], size])}"
            folder, file = (self.store.folder or Path(temporary)) / name, "full.jsonl"
            full = FullAnswers.ask(vlm, self.splits.test, batch_size=size, checkpoint=folder / file)
            if share is not None:
                coarser = coarser_images(vlm, full, share, folder, size)
            return (*coarser, tuple(knockouts(vlm, full, bands, folder, size)))

    def _scored(self, rule: Rule, mode: str) -> _Scored:
        """A rule's scores with their cost, and its candidates."""
        settings = self.settings
        ranking = ranked(rule, mode, self.evidence, self.store, forward_cost=settings.forward_cost)
        candidates = list(dict.fromkeys(ranking.plans))
        if mode in LAYERWISE:
            at = np.linspace(0, len(candidates) - 1, settings.candidates).round().astype(int)
            candidates = [candidates[i] for i in sorted(set(at.tolist()))]
        units = units_of(rule, mode, self.evidence)
        return _Scored(rule, ranking, units, candidates)

    def _result(self, scored: _Scored, truth: Truth, chosen: records.Chosen) -> records.RuleResult:
        rule, ranking = scored.rule, scored.ranked
        return records.RuleResult(
            condition=rule.condition,
            source=rule.source,
            origin=rule.origin,
            keep=scored.units[0].keep,
            scores=ranking.scores,
            spent=ranking.spent,
            score=score_rule(
                np.array(ranking.scores),
                truth,
                rule=rule.name,
                requires=rule.requires,
                model=self.vlm.name,
                epsilon=self.settings.epsilon,
                forward_cost=sum(ranking.spent.values()),
                seed=self.settings.seed,
            ),
            chosen=chosen,
        )

    def _chosen(self, scored: Sequence[_Scored]) -> list[records.Chosen]:
        """The certified plan of every rule of a mode; a plan shared by rules is run once."""
        epsilon, delta = self.settings.epsilon, self.settings.delta
        rates = self._rates([plan for each in scored for plan in each.candidates])
        paths = [self._path(each, rates) for each in scored]
        self.store.outcomes("certification", [step.plan for path in paths for step in path])
        searches = [
            certify_stored(path, self.store, epsilon=epsilon, delta=delta, searches=len(paths))
            for path in paths
        ]
        units = [unit for each in scored for unit in each.units]
        certified = [search.plan for search in searches]
        draws, seed = self.settings.draws, self.settings.seed
        controls = {
            plan: control_plans(self.vlm, plan, draws=draws, seed=seed)
            for plan in certified
            if not plan.is_empty
        }
        drawn = [one for random, deepest in controls.values() for one in (*random, deepest)]
        self.store.outcomes("test", [*units, *certified, *filter(None, drawn)])
        return [self._tested(search, *controls.get(search.plan, ([], None))) for search in searches]

    def _rates(self, plans: Sequence[SkipPlan]) -> dict[SkipPlan, float]:
        """Disagreement on tuning images; a lower bound for plans that the first batch rejects."""
        n_images = len({item.cluster for item in self.splits.tuning})
        rates = dict.fromkeys(plans, 0.0)
        for split in ("screen", "tuning"):
            left = [p for p, rate in rates.items() if rate <= max(RUNGS) * self.settings.epsilon]
            if split in self.store.splits and left:
                truth = Truth.of(left, self.store.outcomes(split, left))
                for plan, column in zip(left, truth.disagreement.T, strict=True):
                    rates[plan] += float(column.sum()) / n_images
        return rates

    def _path(self, scored: _Scored, rates: dict[SkipPlan, float]) -> list[Step]:
        rule = scored.rule
        read = self.evidence.provenance(rule.name, rule.requires)
        provenance = read.adding(tuned=image_ids(self.splits.tuning), max_new_tokens=1)
        return pareto_path(
            [replace(plan, provenance=provenance) for plan in scored.candidates],
            [rates[plan] for plan in scored.candidates],
            [saving(plan, modality=self.vision) for plan in scored.candidates],
            epsilon=self.settings.epsilon,
        )

    def _tested(
        self, search: CertifiedPlan, random: Sequence[SkipPlan], deepest: SkipPlan | None
    ) -> records.Chosen:
        settings, steps = self.settings, [step.plan for step in search.path]
        if search.path:
            check, saved = check_error_rate(
                search.path,
                self.store.outcomes("certification", steps),
                epsilon=settings.epsilon,
                delta=settings.delta,
                resamples=settings.resamples,
                seed=settings.seed,
            )
        else:
            n_images = len({item.cluster for item in self.splits.certification})
            why = "every candidate changed too many answers on the tuning images"
            check, saved = None, Estimate(value=0.0, interval=(0.0, 0.0), n=n_images, method=why)
        last = [] if deepest is None else [deepest]
        tested, *controls = compare_on_test(self.store, [search.plan, *random, *last])
        changed = [control.disagreement.value for control in controls]
        flops = latency = device = None
        if not search.plan.is_empty:
            cost = plan_cost(self.store, search.plan, pairs=settings.pairs)
            prefill, device = cost.prefill, cost.device
            flops, latency = prefill.flops_ratio, prefill.latency_ratio
        return records.Chosen(
            search=search,
            saving=saved,
            disagreement=tested.disagreement,
            drop=tested.drop,
            flops_ratio=flops,
            latency_ratio=latency,
            device=device,
            error_rate_check=check,
            random=tuple(changed[: len(random)]),
            deepest=changed[-1] if last else None,
        )


def certify_stored(
    path: Sequence[Step], store: Store, *, epsilon: float, delta: float, searches: int = 1
) -> CertifiedPlan:
    """`certify_path` on the certification images of a store, for one of some `searches` on them."""

    def certify_one(plan: SkipPlan) -> Certificate:
        (outcomes,) = store.outcomes("certification", [plan])
        made = certificate_of(plan, outcomes, epsilon=epsilon, delta=delta)
        if searches > 1:
            made = replace(made, caveats=(f"one of {searches} searches, each at this delta",))
        return signed(made, store.vlm, plan)

    empty = SkipPlan("block", store.vlm.layout.n_layers)
    images = image_ids(store.splits["certification"])
    return certify_path(path, certify_one, empty=empty, images=images)
