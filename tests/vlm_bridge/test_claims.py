"""Clauses on the toy, whose truth is planted; nothing is run twice; JSON, page and commands."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import claims as claims_command
from tests.vlm_bridge.tiny import picture, tiny_llava
from theory.systems import toy_vlm
from vlm_bridge import cli
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.baselines import accuracy, blind_answers
from vlm_bridge.evaluate.sweep import sweep_outcomes
from vlm_bridge.experiments.claims import (
    ClaimsResult,
    ClaimsSettings,
    ModelClaims,
    check_claims,
    joined,
    read_claims,
    write_page,
)
from vlm_bridge.experiments.claims import nulls as claims_nulls
from vlm_bridge.experiments.claims import overlap as claims_overlap
from vlm_bridge.experiments.claims import run as claims_run
from vlm_bridge.experiments.claims.coincidence import safest
from vlm_bridge.experiments.claims.conclusions import conclusions
from vlm_bridge.experiments.claims.converse import DISTANCE, HARMFUL, HARMLESS
from vlm_bridge.experiments.claims.nulls import RANDOM, SHUFFLED
from vlm_bridge.experiments.rule_benchmark import (
    Case,
    Sizes,
    Splits,
    benchmark_rules,
    load_case,
    open_store,
    plan_cost,
)
from vlm_bridge.experiments.rule_benchmark import run as benchmark_run
from vlm_bridge.experiments.rule_benchmark import scores as benchmark_scores
from vlm_bridge.experiments.rule_benchmark import store as benchmark_store
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, Rule, find_rule, nested_plans
from vlm_bridge.runtime.files import write_record

TOY = toy_vlm()
SIZES = Sizes(images=24, tuning=12, profiling=4)
FEW = ClaimsSettings(
    epsilon=0.2, pairs=1, candidates=4, resamples=5, null_images=2, tokens=0, draws=2, bands=0
)
NAMES = ("skip-it", "skip-it-slopes", "shortgpt", "angular", "shortv", "random")


def rules_named(*names: str) -> tuple[Rule, ...]:
    return tuple(find_rule(name) for name in names)


TOY_RUN = replace(
    FEW, rules=rules_named(*NAMES), modes=("freeze", "block"), null_images=3, tokens=2
)
SMALL = (
    *(
        "--models",
        "toy",
        "--images",
        "24",
        "--tuning",
        "12",
        "--profiling",
        "4",
        "--null-images",
        "3",
    ),
    *("--pairs", "1", "--candidates", "4", "--resamples", "5", "--tokens", "2"),
    *("--epsilon", "0.2"),
)


@pytest.fixture(scope="module")
def toy() -> Case:
    return load_case("toy", "easy-vqa", SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("checkpoint")


def confirmed(toy: Case, folder: Path | None) -> ModelClaims:
    return check_claims(toy, replace(TOY_RUN, checkpoint=folder))


@pytest.fixture(scope="module")
def swept(toy, folder) -> dict[str, int]:
    """Plans run on each split by `skipit claims` after a benchmark with the same checkpoint."""
    benchmark_rules(toy.vlm, toy.splits, replace(TOY_RUN, checkpoint=folder))
    ran: dict[str, int] = {}

    def counted(vlm, items, plans, **options):
        ran[vlm.name, len(items)] = ran.get((vlm.name, len(items)), 0) + len(plans)
        return sweep_outcomes(vlm, items, plans, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_store, "sweep_outcomes", counted)
        confirmed(toy, folder)
    return ran


@pytest.fixture(scope="module")
def found(swept, toy, folder) -> ModelClaims:
    return confirmed(toy, folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Case:
    """A random model, and two or three images a split."""
    folder, asked = tmp_path_factory.mktemp("tiny"), []
    for number in range(9):
        picture(number).save(folder / f"{number}.png")
        asked.append(Item(folder / f"{number}.png", "is there a circle ?", "yes"))
    parts = (asked[:2], asked[2:4], asked[4:6], asked[6:])
    return Case(tiny_llava(), Splits(*map(tuple, parts)), tuple(asked[:3]), "tiny")


@pytest.fixture(scope="module")
def undecided(tiny) -> ModelClaims:
    rules = rules_named("skip-it", "skip-it-slopes", "shortgpt", "vtw")
    return check_claims(tiny, replace(FEW, rules=rules, modes=("block", "freeze", "early_exit")))


@pytest.fixture(scope="module")
def written(undecided, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("written") / "claims.json"
    return write_record(path, ClaimsResult((undecided,), {"command": "made"}))


# --- the planted truth ------------------------------------------------------------------------


@pytest.mark.slow
def test_plans_inside_are_safe_and_plans_outside_are_not(found) -> None:
    safe = {"block": set(TOY.truth.safe_blocks), "freeze": set(TOY.truth.safe_freezes)}
    assert {(one.rule, one.mode) for one in found.controls} == {
        ("skip-it", "freeze"), ("skip-it-slopes", "freeze"), ("skip-it-slopes", "block"),
    }  # fmt: skip
    for one in found.controls:
        assert set(one.safe.plan.layers) <= safe[one.mode]
        assert not set(one.unsafe.plan.layers) <= safe[one.mode]
        assert len(one.safe.plan.layers) == len(one.unsafe.plan.layers) == one.size
        assert not set(one.safe.plan.layers) & set(one.unsafe.plan.layers)
        assert one.safe.disagreement.value == 0.0
        assert one.unsafe.disagreement.value == one.difference.value == 1.0
        assert one.unsafe.drop is not None
        assert one.unsafe.drop.value == 1.0


@pytest.mark.slow
def test_controls_are_what_a_sweep_says(found, toy) -> None:
    one = found.controls[0]
    for measured in (one.safe, one.unsafe):
        (again,) = sweep_outcomes(toy.vlm, toy.splits.test, [measured.plan])
        assert measured.disagreement.value == np.mean(again.disagree)
        assert measured.disagreement.n == SIZES.images


@pytest.mark.slow
def test_both_converses_are_found_where_they_are_planted(found) -> None:
    """Rotations in a plane nothing reads turn far and do no harm; scale_text turns nothing."""
    of = {(one.claim, one.rule, one.mode): one for one in found.converses}
    far = of[HARMLESS, "shortgpt", "block"]
    assert TOY.schedule[far.unit.layers[0]] == "kernel"
    assert far.verdict == "confirmed"
    assert far.place > far.n_units / 2
    frozen = of[HARMLESS, DISTANCE, "freeze"]
    assert frozen.unit.layers[0] in TOY.truth.safe_freezes
    assert (HARMFUL, "skip-it", "freeze") not in of  # not a distance alone
    assert of[HARMFUL, DISTANCE, "freeze"].verdict == "none found"
    near = of[HARMFUL, "shortgpt", "block"]
    assert TOY.schedule[near.unit.layers[0]] in ("scale_text", "encode")
    assert near.verdict == "confirmed"
    assert near.place <= near.n_units / 4


@pytest.mark.slow
def test_accuracies_and_nulls(found, toy) -> None:
    said = found.accuracies
    assert said.model is not None
    assert said.model.value == 1.0
    test = toy.splits.test
    assert said.blind == accuracy(blind_answers(toy.training, test), test)
    nulls = {one.kind: one for one in found.nulls}
    assert list(nulls) == [RANDOM, SHUFFLED]
    assert nulls[SHUFFLED].accuracy is not None
    assert nulls[SHUFFLED].accuracy.value < 1.0  # the image was another one's
    for kind, null in nulls.items():
        read = {(one.rule, one.mode) for one in null.scores}
        assert read == {
            ("skip-it", "freeze"), ("skip-it-slopes", "freeze"), ("skip-it-slopes", "block"),
            ("shortgpt", "block"), ("angular", "block"),
        }, kind  # fmt: skip
        assert [(one.rule, one.mode) for one in null.controls] == [
            (one.rule, one.mode) for one in found.controls
        ]
    assert all(one.safe.disagreement.value == 0.0 for one in nulls[SHUFFLED].controls)
    assert all(one.spearman > 0.7 for one in nulls[SHUFFLED].scores)
    assert any(abs(one.spearman) < 0.9 for one in nulls[RANDOM].scores)


@pytest.mark.slow
def test_cost_is_of_the_certified_plan(found, toy) -> None:
    plan = found.certified.tested.plan
    assert plan in [one.chosen.plan for one in found.benchmark.rules]
    cost = measure_cost(toy.vlm, toy.splits.test, plan, batch_size=4, pairs=1, tokens=2)
    assert found.cost.prefill.flops_ratio == cost.prefill.flops_ratio < 1
    assert found.cost.decode is not None
    assert found.cost.decode.flops_ratio == cost.decode.flops_ratio
    assert (found.cost.kv_ratio, found.cost.peak_ratio) == (cost.kv_ratio, cost.peak_ratio)


@pytest.mark.slow
def test_methods_with_plans_of_their_own_are_compared_by_them(found, toy) -> None:
    """Angular skips a contiguous block, which its scores of single layers do not tell."""
    (angular,) = [one for one in found.benchmark.rules if one.score.rule == "angular"]
    evidence = Evidence(toy.vlm, toy.splits.profiling)
    plans = {len(one.layers): one for one in nested_plans(find_rule("angular"), evidence)}
    differs = 0
    for size in range(1, TOY.n_layers // 2 + 1):
        scores = claims_overlap.method_scores(angular, size, evidence)
        assert tuple(np.flatnonzero(safest(scores, size)).tolist()) == plans[size].layers
        differs += (safest(scores, size) != safest(angular.scores, size)).any()
    assert differs
    (freeze,) = [one for one in found.overlaps if one.rule == "skip-it"]
    assert [one.theirs for one in freeze.peers] == ["shortv", "shortgpt (block)", "angular (block)"]


@pytest.mark.slow
def test_the_clauses_come_out_as_planted(found) -> None:
    verdicts = {one.clause: one.verdict for one in conclusions(found)}
    assert verdicts["iii"] == "supported"
    assert verdicts["iv"] == "supported"


# --- nothing is run twice ---------------------------------------------------------------------


@pytest.mark.slow
def test_little_comes_on_top_of_a_study(swept) -> None:
    """On all test images only the plans of controls; the units are in the checkpoint."""
    assert swept["toy", SIZES.images] <= 6
    assert swept["toy", 3] <= 7  # shuffled images: the empty plan and the controls
    assert swept["toy (random weights)", 3] <= 7


@pytest.mark.slow
def test_a_second_run_measures_nothing(found, toy, folder, monkeypatch) -> None:
    def nothing(*_, **__):
        raise AssertionError("this was measured before")

    for module, name in (
        (benchmark_store, "sweep_outcomes"), (benchmark_scores, "score_units"),
        (benchmark_store, "measure_cost"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, nothing)
    monkeypatch.setattr(claims_run.Evidence, "profile", property(nothing))
    assert confirmed(toy, folder) == found


@pytest.mark.slow
def test_a_killed_run_goes_on(toy, tmp_path, found, folder, monkeypatch) -> None:
    whole = claims_nulls.measure_null

    def dies(kind, *given, **named):
        if kind == SHUFFLED:
            raise KeyboardInterrupt
        return whole(kind, *given, **named)

    rules = rules_named("skip-it-slopes", "shortv")
    ask = replace(FEW, rules=rules, modes=("freeze",), null_images=3, checkpoint=folder)
    monkeypatch.setattr(claims_run, "measure_null", dies)
    with pytest.raises(KeyboardInterrupt):
        check_claims(toy, ask)
    monkeypatch.undo()
    again = check_claims(toy, ask)
    assert again.controls == tuple(
        one for one in found.controls if (one.rule, one.mode) == ("skip-it-slopes", "freeze")
    )
    assert not list(folder.rglob("*.jsonl"))


# --- JSON and the page ------------------------------------------------------------------------


def test_json_is_whole(undecided, written) -> None:
    assert read_claims(written) == ClaimsResult((undecided,), {"command": "made"})
    body = json.loads(written.read_text())
    del body["machine"]
    with pytest.raises(ValueError, match="this ClaimsResult was changed since it was written"):
        ClaimsResult.from_json(body)
    del body["checksum"]
    with pytest.raises(ValueError, match="ClaimsResult version 1 lacks machine"):
        ClaimsResult.from_json(body)


def test_files_that_hold_no_confirmation(tmp_path, written) -> None:
    (tmp_path / "a.json").write_text('{"type": "RuleBenchmark"}')
    with pytest.raises(BridgeError, match=r"a\.json does not hold a result of `skipit claims`"):
        read_claims(tmp_path / "a.json")
    with pytest.raises(BridgeError, match="no result of `skipit claims` at"):
        read_claims(tmp_path / "b.json")
    one = read_claims(written)
    with pytest.raises(BridgeError, match="each model counts once on a task set"):
        joined([one, one])
    other = replace(one.models[0], data="scenes")
    both = joined([one, ClaimsResult((other,), {"command": "later"})])
    assert both.models == (one.models[0], other)
    assert both.machine["command"] == "made; later"


@pytest.mark.slow
def test_the_page_says_what_was_found(found, tmp_path) -> None:
    page = tmp_path / "docs" / "results.md"
    made = ClaimsResult((found,), {"command": "made"})
    write_page(made, page, page.parent / "images", command="python -m benchmarks.claims --write")
    text = page.read_text()
    assert "Made by `python -m benchmarks.claims --write` from measurements of `made`" in text
    for one in conclusions(found):
        assert f"- toy: **{one.verdict}**. {one.reason}" in text
    links = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert len(links) == 4
    assert all((page.parent / link).stat().st_size > 5_000 for link in links)
    for rule in found.benchmark.rules:
        assert f"| {rule.score.mode} | {rule.score.rule} |" in text
    for one in found.controls:
        assert one.unsafe.plan.describe() in text
    assert "AUC is not defined here" not in text


@pytest.mark.slow
def test_too_few_images_are_named(found, tmp_path) -> None:
    few = replace(found.benchmark, n_images={**found.benchmark.n_images, "test": 16})
    made = ClaimsResult((replace(found, benchmark=few),), {"command": "made"})
    text = write_page(made, tmp_path / "a.md", tmp_path, command="c").read_text()
    assert "On 16 images no unit can be shown safe at epsilon 0.2, which takes 17" in text


# --- commands ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_and_the_benchmark(toy, folder, tmp_path, capsys) -> None:
    names = ("--modes", "freeze", "--rules", "skip-it,shortv", "--checkpoint", folder)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["claims", *SMALL, *map(str, names), "--out", str(out)])
    assert not stopped.value.code
    said = capsys.readouterr().out
    read = read_claims(out / "claims.json")
    assert all(f"toy {one}" in said for one in conclusions(read.models[0]))
    assert (out / "claims.md").is_file()
    page = tmp_path / "docs" / "results.md"
    results = ["--results", str(out / "claims.json")]
    claims_command.main([*results, "--json", "--write", str(page)])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    one = read.models[0]
    assert row["accuracy"]["value"] == 1.0
    assert row["flops_ratio"] == one.cost.prefill.flops_ratio
    assert row["latency_ratio"]["value"] == one.cost.prefill.latency_ratio.value
    assert row["drop"]["value"] == 0.0
    assert row["jaccard"] == {"skip-it, freeze": {"shortv": one.overlaps[0].peers[0].jaccard}}
    auc = {r.score.rule: r.score.auc.value for r in one.benchmark.rules}
    assert row["auc"]["freeze"]["ours"]["value"] == auc["skip-it"]
    assert row["auc"]["freeze"]["best_peer"]["value"] == auc["shortv"]
    assert row["auc"]["freeze"]["best_peer_one_pass"] is None
    assert "benchmarks.claims" in page.read_text()
    claims_command.main(results)
    said = capsys.readouterr().out
    assert all(title in said for title in ("certified plans", "AUC", "coincidence"))
    tables = claims_command.tables([one])
    assert tables["coincidence"][0]["Jaccard index with"].startswith("shortv ")
    assert tables["AUC"][0]["best published"].startswith(f"shortv {auc['shortv']:.2f} [")


@pytest.mark.slow
def test_the_benchmark_measures_too(toy, folder, tmp_path, capsys) -> None:
    names = ("--modes", "freeze", "--rules", "skip-it", "shortv", "--checkpoint", str(folder))
    claims_command.main([*SMALL, *names, "--out", str(tmp_path / "c.json"), "--json"])
    assert json.loads(capsys.readouterr().out)["rows"][0]["model"] == "toy"
    assert read_claims(tmp_path / "c.json").models[0].benchmark.model == "toy"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--data", "coco"],
            "unknown task set 'coco'; choose from easy-vqa, scenes, fash",
        ),
        (["--models", "toy,toy"], "name models, each once; got toy, toy"),
        (["--modes", "band"], "rules have no mode band; they have block"),
        (["--rules", "luck"], "unknown rule 'luck'; choose from skip-it"),
        (["--epsilon", "2"], "epsilon and delta must lie in (0, 1), got 2.0"),
    ],
)
def test_what_the_command_refuses(arguments, says, tmp_path, capsys) -> None:
    given = ["--models", "toy", "--images", "2", "--tuning", "2", "--profiling", "2", *arguments]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["claims", *given, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_too_few_images_are_told_before_the_work(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["claims", "--images", "71", "--data", "coco", "--out", str(tmp_path)])
    assert "71 images cannot show that a unit is safe at epsilon 0.05" in capsys.readouterr().err


# --- models with nothing to find --------------------------------------------------------------


def test_a_random_model_is_confirmed_too(undecided) -> None:
    """Three images decide nothing, and the page of that can be written."""
    found = undecided
    assert found.cost is None or found.cost.decode is None
    assert ModelClaims.from_json(json.loads(found.dumps())) == found
    assert {one.mode for one in found.overlaps} == {"freeze", "block", "early_exit"}
    assert {one.mode for one in found.controls} == {"freeze", "block"}
    assert not any(one.holds for one in found.converses if one.claim == HARMLESS)


def test_every_plan_is_timed_for_itself(tiny, tmp_path) -> None:
    store = open_store(tiny.vlm, tiny.splits, replace(FEW, checkpoint=tmp_path))
    plans = [SkipPlan("block", 4, layers=layers) for layers in ((1,), (1, 2))]
    first, second = (plan_cost(store, plan, pairs=1) for plan in plans)
    assert second.prefill.flops_ratio < first.prefill.flops_ratio < 1
    assert plan_cost(store, plans[0], pairs=1) == first


def test_where_only_depths_are_studied_there_is_no_control(tiny, tmp_path) -> None:
    found = check_claims(tiny, replace(FEW, rules=rules_named("vtw"), modes=("early_exit",)))
    assert (found.overlaps, found.controls, found.converses) == ((), (), ())
    said = {one.clause: one for one in conclusions(found)}
    assert said["i"].reason == "No published method shares a mode with a ranking of ours."
    assert said["iv"].verdict == "undecided"
    text = write_page(
        ClaimsResult((found,), {"command": "made"}), tmp_path / "a.md", tmp_path, command="c"
    ).read_text()
    assert "Nothing was measured in these modes." in text


def test_a_model_that_can_do_no_mode_is_refused(tiny, monkeypatch) -> None:
    monkeypatch.setattr(benchmark_run, "supported_modes", lambda _: {"freeze": "no eyes"})
    with pytest.raises(BridgeError, match="tiny: no rule could be scored in freeze: no eyes"):
        check_claims(tiny, replace(FEW, modes=("freeze",)))


def test_bad_requests() -> None:
    with pytest.raises(BridgeError, match="null_images must be at least 2, got 1"):
        ClaimsSettings(null_images=1)
    with pytest.raises(BridgeError, match="tuning must be at least 1, got 0"):
        Sizes(tuning=0)
