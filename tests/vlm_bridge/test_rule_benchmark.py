"""Rule benchmarks: nothing is run twice, paths and promises are the library's, JSON is whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vlm_bridge.report_results import among_searches
from tests.vlm_bridge.tiny import tiny_llava
from theory.certificates.clopper_pearson import clopper_pearson_upper_bound
from theory.systems import toy_vlm
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.from_outcomes import certificate_of, signed
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.sweep import sweep_outcomes
from vlm_bridge.experiments.rule_benchmark import (
    ModelBenchmark,
    ModeTruth,
    Settings,
    Splits,
    benchmark_rules,
    check_error_rate,
    open_store,
)
from vlm_bridge.experiments.rule_benchmark import run as benchmark_run
from vlm_bridge.experiments.rule_benchmark import scores as benchmark_scores
from vlm_bridge.experiments.rule_benchmark import store as benchmark_store
from vlm_bridge.experiments.rule_benchmark.margins import best_rival
from vlm_bridge.experiments.rule_benchmark.scores import ranked
from vlm_bridge.experiments.rule_benchmark.store import Store
from vlm_bridge.experiments.scoring import Truth, score_rule
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.plan.controls import deepest_plan, random_plans
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules import (
    Evidence,
    Rule,
    find_rule,
    nested_plans,
    score_units,
)
from vlm_bridge.selection import Step, certify_path, modality_share, pareto_path, saving

pytestmark = pytest.mark.slow

TOY = toy_vlm()
FEW = Settings(pairs=1, candidates=4, resamples=20, draws=3, bands=2)


def rules_named(*names: str) -> tuple[Rule, ...]:
    return tuple(find_rule(name) for name in names)


@pytest.fixture(scope="module")
def vlm():
    return toy_llava(TOY)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    items = toy_items(TOY, tmp_path_factory.mktemp("toy"), images=238, questions_per_image=1)
    return Splits(*(tuple(items[a:b]) for a, b in ((0, 8), (8, 48), (48, 148), (148, 238))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def benchmark(vlm, splits, folder):
    rules = rules_named("skip-it-slopes", "shortv", "vtw", "random")
    modes = ("freeze", "early_exit")
    return benchmark_rules(vlm, splits, replace(FEW, rules=rules, modes=modes, checkpoint=folder))


def result(benchmark: ModelBenchmark, rule: str, mode: str):
    (found,) = (r for r in benchmark.rules if (r.score.rule, r.score.mode) == (rule, mode))
    return found


# --- a benchmark says what the library says -------------------------------------------------------


def test_scores_and_figures_are_the_librarys(benchmark, vlm, splits) -> None:
    for rule, mode in (("skip-it-slopes", "freeze"), ("vtw", "early_exit")):
        found = result(benchmark, rule, mode)
        evidence = Evidence(vlm, splits.profiling)
        score = score_units(find_rule(rule), evidence, mode)
        assert found.scores == pytest.approx(score.tolist(), rel=1e-4, abs=1e-9)
        assert found.spent == pytest.approx(evidence.spent[rule])
        singles = units(mode, TOY.n_layers)
        truth = Truth.of(singles, sweep_outcomes(vlm, splits.test, singles))
        again = score_rule(
            np.array(found.scores), truth, rule=rule, requires=find_rule(rule).requires,
            model=vlm.name, epsilon=FEW.epsilon, forward_cost=sum(evidence.spent[rule].values()),
        )  # fmt: skip
        assert found.score == again
        assert benchmark.truth_of(found) == ModeTruth.of(truth, epsilon=FEW.epsilon)


def test_classes_of_rules_are_kept_apart(benchmark) -> None:
    for mode in benchmark.modes:
        reads = [one.score.requires for one in benchmark.rules if one.score.mode == mode]
        assert reads == sorted(reads, key=["forward pass", "candidate runs", "nothing"].index)


def test_planted_truth_is_told(benchmark) -> None:
    safe = {f"freeze {layer}" for layer in TOY.truth.safe_freezes}
    truth = benchmark.truth_of(result(benchmark, "shortv", "freeze"))
    assert {
        f"freeze {unit.layers[0]}"
        for unit, verdict in zip(truth.units, truth.verdicts, strict=True)
        if verdict == "safe"
    } == safe
    assert result(benchmark, "shortv", "freeze").score.auc.value == 1.0
    plan = result(benchmark, "vtw", "early_exit").chosen.plan
    assert plan.exit == min(TOY.truth.safe_exits)


def test_certified_plans_follow_the_search(benchmark, vlm, splits) -> None:
    """The path that no screening shortens, and the certificate from outcomes taken afresh."""
    rule = find_rule("random")
    nested = nested_plans(rule, Evidence(vlm, splits.profiling), "freeze")
    at = np.linspace(0, len(nested) - 1, FEW.candidates).round().astype(int)
    plans = [nested[i] for i in at]
    rates = Truth.of(plans, sweep_outcomes(vlm, splits.tuning, plans)).disagreement.mean(axis=0)
    share = modality_share(vlm, splits.tuning)
    savings = [saving(plan, modality=share) for plan in plans]
    path = pareto_path(plans, rates.tolist(), savings, epsilon=FEW.epsilon)
    found = result(benchmark, "random", "freeze").chosen
    assert [(s.plan, s.rate, s.saving) for s in found.search.path] == [
        (s.plan, s.rate, s.saving) for s in path
    ]

    def certify_one(plan: SkipPlan):
        (one,) = sweep_outcomes(vlm, splits.certification, [plan])
        made = certificate_of(plan, one, epsilon=FEW.epsilon, delta=FEW.delta)
        searches = f"one of {len(benchmark.rules_in('freeze'))} searches, each at this delta"
        return signed(replace(made, caveats=(searches,)), vlm, plan)

    assert found.search == certify_path(path, certify_one, empty=SkipPlan("block", TOY.n_layers))
    assert found.saving.value == path[len(found.search.certificates) - 1].saving
    (tested,) = sweep_outcomes(vlm, splits.test, [found.plan])
    assert found.disagreement.value == np.mean(tested.disagree)
    assert found.disagreement.n == 90
    assert found.drop is not None
    cost = measure_cost(vlm, splits.test, found.plan, batch_size=4, pairs=1)
    assert found.flops_ratio is not None
    assert found.flops_ratio == cost.prefill.flops_ratio < 1


def test_a_certified_plan_stands_beside_random_and_deepest_ones(benchmark, vlm, splits) -> None:
    found = [one for one in benchmark.rules_in("freeze") if not one.chosen.plan.is_empty]
    assert found
    for one in found:
        drawn = random_plans(one.chosen.plan, draws=3)
        measured = sweep_outcomes(vlm, splits.test, [*drawn, deepest_plan(one.chosen.plan)])
        *random, deepest = (float(np.mean(each.disagree)) for each in measured)
        assert one.chosen.random == pytest.approx(random)
        assert one.chosen.deepest == pytest.approx(deepest)
        good = sum(each <= one.chosen.disagreement.value for each in random)
        assert one.chosen.p_value == (1 + good) / (1 + len(random))
    for one in benchmark.rules_in("early_exit"):  # one plan of each size
        assert (one.chosen.random, one.chosen.deepest) == ((), None)


def test_our_rules_are_set_against_depth_and_published_rules(vlm, splits, folder) -> None:
    rules = rules_named("skip-it-slopes", "skip-it-runs", "shortv", "unified", "deepest-first")
    settings = replace(FEW, rules=rules, modes=("freeze",), checkpoint=folder, bands=0)
    found = benchmark_rules(vlm, splits, settings)
    pairs = [(one.ours, one.other) for one in found.margins]
    assert pairs == [
        ("skip-it-slopes", "unified"),  # shortv runs candidates, slopes do not
        ("skip-it-slopes", "deepest-first"),
        ("skip-it-runs", "shortv"),
        ("skip-it-runs", "unified"),
        ("skip-it-runs", "deepest-first"),
    ]
    for one in found.margins:
        ours, other = (result(found, name, "freeze").score for name in (one.ours, one.other))
        difference = ours.spearman.value - other.spearman.value
        assert one.difference.value == pytest.approx(difference, nan_ok=True)
        low, high = one.difference.interval
        verdict = "win" if low > 0.01 else "loss" if high < -0.01 else "undecided"
        if math.isnan(one.difference.value):
            verdict = ""
        elif not one.difference.reliable:
            verdict = "undecided"
        assert one.verdict == verdict
    assert best_rival(found, result(found, "skip-it-slopes", "freeze")).score.rule == "unified"
    rivals = [result(found, name, "freeze") for name in ("shortv", "unified")]
    best = max(rivals, key=lambda rival: rival.score.spearman.value)
    assert best_rival(found, result(found, "skip-it-runs", "freeze")) == best


def test_images_shown_less(benchmark, vlm, splits, folder) -> None:
    """Knockouts of all layers, in two bands; a coarser image where a mode prunes."""
    assert [one.layers for one in benchmark.knockouts] == [
        tuple(range(TOY.n_layers // 2)), tuple(range(TOY.n_layers // 2, TOY.n_layers))
    ]  # fmt: skip
    assert benchmark.coarser is None
    assert benchmark.no_coarser == "no mode that prunes was measured"
    settings = replace(FEW, rules=rules_named("deepest-first"), modes=("token_pruning",), bands=0)
    found = benchmark_rules(vlm, splits, settings)
    assert found.coarser is not None or "cluster" in found.no_coarser
    assert found.knockouts == ()


def test_a_first_batch_turns_down_only_what_cannot_be_on_the_path(vlm, splits) -> None:
    """Of 40 tuning images two may change; a third change in the first batch ends a plan."""
    run = benchmark_run._Run(vlm, splits, FEW, open_store(vlm, splits, FEW))
    fair, poor = units("freeze", TOY.n_layers)[:2]
    changes = {("screen", fair): 1, ("tuning", fair): 1, ("screen", poor): 3}

    def outcomes_of(split: str, plans: list[SkipPlan]) -> list[Outcomes]:
        names = [item.cluster for item in run.store.splits[split]]
        return [outcomes(names, np.arange(len(names)) < changes[split, plan]) for plan in plans]

    run.store.outcomes = outcomes_of  # type: ignore[method-assign]
    assert run._rates([fair, poor]) == pytest.approx({fair: 2 / 40, poor: 3 / 40})


def test_json_is_whole(benchmark) -> None:
    body = json.loads(json.dumps(benchmark.to_json(), allow_nan=False))
    assert ModelBenchmark.from_json(body) == benchmark
    with pytest.raises(ValueError, match="ModelBenchmark version 1 lacks epsilon"):
        ModelBenchmark.from_json({k: v for k, v in body.items() if k != "epsilon"})


def test_an_account_is_of_one_mode(vlm, splits) -> None:
    run = benchmark_run._Run(vlm, splits, FEW, open_store(vlm, splits, FEW))
    for mode in ("freeze", "early_exit"):
        spent = run._scored(find_rule("skip-it-runs"), mode).ranked.spent
        runs = [name for name in spent if name.startswith("candidate ")]
        assert runs
        assert all(name.startswith(f"candidate {mode} ") for name in runs)


# --- nothing is run twice ---------------------------------------------------------------------


@pytest.mark.slow
def test_every_rule_costs_what_the_budget_allows(vlm, splits, folder) -> None:
    """Dear rules see fewer images; cheap ones lose nothing, and nothing else changes."""
    names = ("skip-it", "skip-it-runs", "shortv")
    settings = replace(FEW, rules=rules_named(*names), modes=("freeze",), checkpoint=folder)
    few = benchmark_rules(vlm, splits, replace(settings, forward_cost=3.0))
    assert few.forward_cost == 3.0
    assert [one.score.rule for one in few.rules] == list(names)
    for one in few.rules:
        assert one.score.forward_cost <= 3.0 + 1e-9
    free = benchmark_rules(vlm, splits, settings)
    assert free.forward_cost is None
    cost = {one.score.rule: one.score.forward_cost for one in free.rules}
    assert cost["shortv"] > 3.0
    assert result(few, "skip-it", "freeze").scores == result(free, "skip-it", "freeze").scores
    # ShortV on the images it can pay for is ShortV on those images alone.
    seen = int(len(splits.profiling) * 3.0 / cost["shortv"])
    alone = Evidence(vlm, splits.profiling[:seen], batch_size=FEW.batch_size)
    expected = score_units(find_rule("shortv"), alone, "freeze")
    assert result(few, "shortv", "freeze").scores == pytest.approx(expected.tolist())
    assert few.truths == free.truths


def test_a_second_benchmark_runs_no_model(benchmark, vlm, splits, folder, monkeypatch) -> None:
    def nothing(*_, **__):
        raise AssertionError("this was measured before")

    monkeypatch.setattr(benchmark_store, "sweep_outcomes", nothing)
    monkeypatch.setattr(benchmark_scores, "score_units", nothing)
    monkeypatch.setattr(benchmark_store, "measure_cost", nothing)
    rules = rules_named("vtw", "skip-it-slopes")  # fewer, in another order
    settings = replace(FEW, rules=rules, modes=("early_exit",), checkpoint=folder)
    again = benchmark_rules(vlm, splits, settings)
    assert {one.score.rule: one for one in again.rules} == {
        name: among_searches(result(benchmark, name, "early_exit"), 3, 2)
        for name in ("vtw", "skip-it-slopes")
    }
    assert not list(folder.rglob("sweep-*.jsonl"))


def test_outcomes_are_kept_by_plan(vlm, splits, tmp_path, monkeypatch) -> None:
    asked: list[int] = []

    def counted(vlm, items, plans, **options):
        asked.append(len(plans))
        return sweep_outcomes(vlm, items, plans, **options)

    monkeypatch.setattr(benchmark_store, "sweep_outcomes", counted)
    plans = units("early_exit", TOY.n_layers)[:3]
    parts = {"a": splits.tuning[:6], "b": splits.tuning[6:9]}
    store = Store(vlm, parts, tmp_path)
    first = store.outcomes("a", plans[:2])
    assert store.outcomes("a", plans)[:2] == first
    store.outcomes("b", plans)
    fresh = Store(vlm, parts, tmp_path)
    assert [one.disagree for one in fresh.outcomes("a", plans)] == [
        one.disagree for one in store.outcomes("a", plans)
    ]
    assert fresh.outcomes("a", plans)[0].items == first[0].items
    assert fresh.outcomes("a", plans)[0].drop == first[0].drop
    assert asked == [2, 1, 3]
    Store(vlm, {"a": splits.tuning[:5]}, tmp_path).outcomes("a", plans)  # other questions
    Store(vlm, parts, None).outcomes("a", plans)  # kept nowhere
    assert asked == [2, 1, 3, 3, 3]


def test_questions_of_an_image_stay_in_order(items, tmp_path) -> None:
    vlm, plan = tiny_llava(), SkipPlan("early_exit", 4, exit=1)
    mixed = [items[i] for i in (3, 0, 4, 1, 5, 2)]
    (made,) = Store(vlm, {"a": mixed}, tmp_path, batch_size=2).outcomes("a", [plan])
    (read,) = Store(vlm, {"a": mixed}, tmp_path, batch_size=2).outcomes("a", [plan])
    assert read == made
    assert [item.question for item in made.items] != [item.question for item in mixed]


def test_a_killed_sweep_goes_on(vlm, splits, tmp_path, monkeypatch) -> None:
    plans = units("early_exit", TOY.n_layers)[:2]
    parts = {"a": splits.tuning[:6]}
    whole = Store(vlm, parts, None, batch_size=2).outcomes("a", plans)
    runs: list[int] = []
    work = sweep_outcomes.__globals__["_run_batch"]

    def dies(vlm, batch, plans):
        runs.append(1)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return work(vlm, batch, plans)

    monkeypatch.setitem(sweep_outcomes.__globals__, "_run_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        Store(vlm, parts, tmp_path, batch_size=2).outcomes("a", plans)
    again = Store(vlm, parts, tmp_path, batch_size=2).outcomes("a", plans)
    assert again == whole
    assert len(runs) == 4  # two, the one that died, and that one again


def test_scores_are_kept_by_version(vlm, splits, tmp_path, monkeypatch) -> None:
    store = Store(vlm, {"profiling": splits.profiling[:4]}, tmp_path, batch_size=4)
    rule = find_rule("shortgpt")

    def runs(rule: Rule) -> bool:
        evidence = Evidence(vlm, splits.profiling[:4], batch_size=4)
        ranked(rule, "block", evidence, store)
        return bool(evidence.cost)

    assert runs(rule)
    assert not runs(rule)
    newer = replace(rule, version=rule.version + 1)
    assert runs(newer)
    assert not runs(newer)
    monkeypatch.setattr(benchmark_scores, "SCORES_VERSION", benchmark_scores.SCORES_VERSION + 1)
    assert runs(rule)


def test_other_weights_are_another_model(tmp_path) -> None:
    one, other = tiny_llava(), tiny_llava()
    assert one.fingerprint == other.fingerprint
    with torch.no_grad():
        next(iter(other.model.parameters())).flatten()[0] += 1.0
    assert one.fingerprint != other.fingerprint


# --- promises ---------------------------------------------------------------------------------


def item(group: str) -> Item:
    return Item(image=f"{group}.png", question="?", answer="yes", cluster=group)


def outcomes(groups: list[str], disagree: np.ndarray) -> Outcomes:
    zero = tuple(0.0 for _ in groups)
    return Outcomes(
        tuple(map(item, groups)), tuple(disagree.astype(float).tolist()), zero, zero, None, None
    )


def steps(n: int) -> list[Step]:
    plans = [SkipPlan("block", 9, layers=tuple(range(size))) for size in range(1, n + 1)]
    return [Step(plan, 0.0, len(plan.layers) / 9) for plan in plans]


def test_promises_by_hand() -> None:
    """Clopper-Pearson on drawn counts, image by image, as a plain loop would do it."""
    n, epsilon, delta = 120, 0.06, 0.1
    changed = (np.arange(n)[:, None] < np.array([1, 4, 8])).astype(float)  # 8 of 120 are too many
    path = steps(3)
    made = [outcomes([f"{i:03d}" for i in range(n)], changed[:, k]) for k in range(3)]
    found, kept = check_error_rate(path, made, epsilon=epsilon, delta=delta, resamples=300, seed=5)
    draw, truth, savings, broken = np.random.default_rng(5), changed.mean(axis=0), [], 0
    for _ in range(300):
        chosen = changed[draw.integers(n, size=n)]
        held = 0
        for step in range(3):
            if clopper_pearson_upper_bound(int(chosen[:, step].sum()), n, delta) > epsilon:
                break
            held = step + 1
        savings.append(held / 9)
        broken += held > 0 and truth[held - 1] > epsilon
    assert (found.wrong, found.certified) == (broken, sum(s > 0 for s in savings))
    assert found.wrong > 0  # the case is hard enough to break some
    assert found.rate == broken / 300
    assert found.worst == truth.max()
    assert found.error == pytest.approx(math.sqrt(0.1 * 0.9 / 300))
    assert kept.interval == pytest.approx(tuple(np.percentile(savings, [2.5, 97.5])))
    again = type(found).from_json(json.loads(json.dumps(found.to_json())))
    assert again == found


@pytest.mark.parametrize("questions", [1, 3])
def test_promises_are_kept_where_the_truth_is_just_above(questions: int) -> None:
    """Images whose questions all change together: drawing questions would break far too many."""
    rng = np.random.default_rng(0)
    n, epsilon, delta = 150, 0.1, 0.1
    rates = np.array([0.05, 0.1, 0.107])
    changed = np.repeat(rng.random((n, 1)) < rates, questions, axis=0)
    groups = [f"{i:03d}" for i in range(n) for _ in range(questions)]
    made = [outcomes(groups, changed[:, k]) for k in range(3)]
    runs = 300 if questions == 1 else 60
    found, _ = check_error_rate(steps(3), made, epsilon=epsilon, delta=delta, resamples=runs)
    assert found.worst > epsilon
    assert found.rate <= delta + 3 * found.error


def test_images_weigh_the_same_in_the_truth() -> None:
    """One image asked nine times and never changed, nine asked once and always changed."""
    groups = ["a"] * 9 + [f"b{i}" for i in range(9)]
    made = outcomes(groups, np.array([0] * 9 + [1] * 9))
    found, kept = check_error_rate(steps(1), [made], epsilon=0.5, delta=0.1, resamples=3)
    assert found.worst == pytest.approx(0.9)
    assert kept.value == 0.0
    assert kept.n == 10


def test_questions_of_one_image_are_no_sample() -> None:
    """Ten images with thirty questions each cannot promise what three hundred images could."""
    many = [f"{i:03d}" for i in range(300)]
    few = [f"{i % 10}" for i in range(300)]
    for groups, certified in ((many, 5), (few, 0)):
        made = outcomes(groups, np.zeros(300))
        found, _ = check_error_rate(steps(1), [made], epsilon=0.1, delta=0.1, resamples=5)
        assert found.certified == certified


def test_the_order_of_questions_does_not_matter() -> None:
    """Images asked once, twice or thrice, of which every fourth always changes."""
    groups = [f"{i:02d}" for i in range(40) for _ in range(1 + i % 3)]
    changed = np.array([int(group) % 4 == 0 for group in groups])
    order = np.random.default_rng(2).permutation(len(groups))
    mixed = outcomes([groups[i] for i in order], changed[order])
    ask = {"epsilon": 0.45, "delta": 0.1, "resamples": 9}
    found, other = (
        check_error_rate(steps(1), [o], **ask) for o in (outcomes(groups, changed), mixed)
    )
    assert found[0].worst == other[0].worst == 0.25
    assert 0 < found[0].certified == other[0].certified
    assert found[1] == other[1]


def test_promises_need_steps() -> None:
    with pytest.raises(BridgeError, match="0 steps need as many outcomes, got 0"):
        check_error_rate([], [], epsilon=0.1, delta=0.1)


# --- bad requests -----------------------------------------------------------------------------


def test_what_a_study_refuses(vlm, splits) -> None:
    with pytest.raises(BridgeError, match="splits 'profiling' and 'test' share an image"):
        replace(splits, test=(*splits.test, splits.profiling[0]))
    with pytest.raises(BridgeError, match="the split 'tuning' has no questions"):
        replace(splits, tuning=())
    with pytest.raises(BridgeError, match="rules have no mode band; they have block, freeze"):
        Settings(modes=("band",))
    with pytest.raises(BridgeError, match=r"epsilon and delta must lie in \(0, 1\), got 0 and 0"):
        Settings(epsilon=0)
    with pytest.raises(BridgeError, match="candidates must be at least 2, got 1"):
        Settings(candidates=1)
    with pytest.raises(BridgeError, match="passes must be positive, got 0"):
        Settings(forward_cost=0)


def test_a_rule_that_refuses_is_reported(vlm, splits, monkeypatch) -> None:
    few = Splits(
        *(getattr(splits, name)[:4] for name in ("profiling", "tuning", "certification", "test"))
    )
    rule = replace(find_rule("gm-skip"), most_layers=2)
    monkeypatch.setattr(
        benchmark_run, "supported_modes", lambda _: {"block": "", "freeze": "no eyes"}
    )
    rules = (rule, find_rule("unified"))
    found = benchmark_rules(vlm, few, replace(FEW, rules=rules, modes=("block", "freeze")))
    assert [(one.rule, one.mode) for one in found.refused] == [
        ("gm-skip", "block"), ("gm-skip", "freeze"), ("unified", "freeze"),
    ]  # fmt: skip
    assert "it is for models of at most 2" in found.refused[0].reason
    assert found.refused[1].reason == "no eyes"
    assert [one.score.rule for one in found.rules] == ["unified"]
    assert found.modes == ["block"]


def test_with_nothing_certified_nothing_is_saved(vlm, splits) -> None:
    harmful = replace(find_rule("random"), seed=0)
    few = replace(splits, certification=splits.certification[:5])  # too few to promise anything
    found = benchmark_rules(vlm, few, replace(FEW, rules=(harmful,), modes=("freeze",)))
    (one,) = found.rules
    assert one.chosen.plan.is_empty
    assert one.chosen.search.path
    assert one.chosen.saving.value == 0.0
    assert one.chosen.latency_ratio is None
    assert one.chosen.disagreement.value == 0.0


def test_a_random_model_is_studied_too(items) -> None:
    vlm, asked = tiny_llava(), limit_per_image(items, 1)
    alone = Splits(*((one,) for one in asked[:4]))
    with pytest.raises(BridgeError, match="an interval by image needs at least 2 images, got 1"):
        benchmark_rules(vlm, alone, replace(FEW, rules=rules_named("shortgpt")))
    few = replace(alone, test=tuple(asked[3:5]))
    found = benchmark_rules(vlm, few, replace(FEW, rules=rules_named("shortgpt")))
    assert [one.score.mode for one in found.rules] == ["block"]
