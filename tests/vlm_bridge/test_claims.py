"""The protocol end to end: the toy, whose safe layers are planted; resuming; the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vlm_bridge.claims_worlds import all_tests
from tests.vlm_bridge.tiny import picture, tiny_llava
from vlm_bridge import cli
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import full_answers, shared_run
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.claims import (
    ClaimsSettings,
    Given,
    ModelClaims,
    check_claims,
    check_models,
    load_claims_case,
    protocol,
    read_claims,
)
from vlm_bridge.experiments.claims import run as claims_run
from vlm_bridge.experiments.claims.protocol import CLAUSES, RANDOM_WEIGHTS, fatal_layers
from vlm_bridge.experiments.claims.subject import Subject
from vlm_bridge.experiments.claims.testing import rank_tests
from vlm_bridge.experiments.rule_benchmark import Case, Splits
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.units import units

SIZES = {"profiling": 4, "tuning": 12, "certification": 24, "test": 24, "ranked": 16}
FEW = ClaimsSettings(
    **SIZES, null_images=4, draws=3, pairs=6, samples=199, resamples=9, epsilon=0.2, anyway=True
)
TINY = ClaimsSettings(
    **{**SIZES, "profiling": 2, "tuning": 2, "certification": 3, "test": 3, "ranked": 2},
    null_images=2, draws=2, pairs=1, samples=9, resamples=2, max_new_tokens=2, beside=False,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def ranks_of_few_units() -> Iterator[None]:
    """The toy has fewer layers than ranks are tested with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "FEWEST_UNITS", 4)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("checkpoint")


@pytest.fixture(scope="module")
def toy() -> Given:
    return Given(*load_claims_case("toy", "", FEW))


@pytest.fixture(scope="module")
def found(toy, folder) -> ModelClaims:
    return check_claims(toy, replace(FEW, checkpoint=folder))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Case:
    """A random model of six layers, and two or three images a split."""
    folder, asked = tmp_path_factory.mktemp("tiny"), []
    for number in range(10):
        picture(number).save(folder / f"{number}.png")
        asked.append(Item(folder / f"{number}.png", "is there a circle ?", "yes"))
    parts = (asked[:2], asked[2:4], asked[4:7], asked[7:])
    return Case(tiny_llava(layers=6), Splits(*map(tuple, parts)), tuple(asked[:3]), "tiny")


# --- the toy ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_harm_and_plans_are_as_planted(found) -> None:
    block = found.harm_of("block")
    assert block is not None
    harmful = {1, 4, 5, 8}
    assert {int(at) for at, mean in zip(block.places, block.mean, strict=True) if mean > 0.5} == (
        harmful
    )
    assert [at for at, own in zip(block.places, block.counted, strict=True) if not own] == [
        0,
        1,
        10,
    ]
    ours, early, late = found.plans
    assert [each.role for each in (ours, early, late)] == ["ours", "first third", "last third"]
    assert {each.plan.mode for each in found.plans} == {"freeze"}
    harm = found.harm_of("freeze")
    assert harm is not None
    assert max(harm.mean[layer] for layer in ours.plan.layers) == 0.0
    assert ours.changed is not None
    assert ours.changed.value == 0.0
    assert ours.certified is not None
    points = {test.id: {point.name for point in test.points} for test in found.tests}
    assert "depth" in points["V2-early"]
    assert "depth" not in points["V2-late"]  # it is the deepest plan of its size


@pytest.mark.slow
def test_no_plan_of_layers_holds_a_fatal_one(found) -> None:
    for each in found.plans:
        if each.plan.mode in LAYERWISE:
            assert not set(each.plan.layers) & set(fatal_layers(found.n_layers))


@pytest.mark.slow
def test_every_test_is_there_and_the_toy_is_left_out(found) -> None:
    assert {test.id for test in found.tests} == set(CLAUSES)
    assert not found.entry.enters
    aligned = next(test for test in found.tests if test.id == "V2-align/block")
    assert aligned.effect is not None
    assert aligned.effect.value > 0.8
    nulls = {point.name: point for point in aligned.points}
    assert set(nulls) == {"random weights", "shuffled images"}
    shuffled = nulls["shuffled images"].null
    assert shuffled is not None
    assert shuffled.value == pytest.approx(aligned.effect.value)  # no image decides in the toy
    safe = next(test for test in found.tests if test.id == "V1-safe")
    assert safe.p == pytest.approx(0.8**24)
    assert found.latency is not None
    assert len(found.latency.ratios) == 6


@pytest.mark.slow
def test_section_7_is_measured(found) -> None:
    assert {each.other for each in found.stability} == {"other images", "another wording"}
    assert found.behaviour is not None
    assert found.behaviour.full.calibration is not None
    assert found.behaviour.full.calibration.value < 0.01  # always right, and sure
    assert found.behaviour.delask is not None
    assert found.behaviour.delask.confidence.n == found.behaviour.full.confidence.n
    assert found.promise is not None


@pytest.mark.slow
def test_a_second_run_answers_nothing_and_says_the_same(found, toy, folder, monkeypatch) -> None:
    for module in (full_answers, shared_run):
        monkeypatch.setattr(module, "generated" if module is shared_run else "answer_batch", None)
    again = check_claims(toy, replace(FEW, checkpoint=folder))
    assert replace(again, seconds=found.seconds, machine=found.machine) == found


@pytest.mark.slow
def test_json_is_whole(found) -> None:
    assert ModelClaims.from_json(json.loads(found.dumps())) == found


@pytest.mark.slow
def test_the_command(found, folder, tmp_path, capsys) -> None:
    words = [f"--{name}={value}" for name, value in SIZES.items()]
    words += ["--null-images=4", "--draws=3", "--pairs=6", "--samples=199", "--resamples=9"]
    words += ["--epsilon=0.2", "--anyway", f"--checkpoint={folder}", f"--out={tmp_path / 'o'}"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["claims", "toy", *words])
    assert ended.value.code == 0
    (model,) = read_claims(tmp_path / "o" / "claims.json").models
    assert model.tests == found.tests
    assert "toy is left out of every verdict: 100.0% right" in capsys.readouterr().out
    for name in ("claims.md", "claims.html", "claims-harm-0.png"):
        assert (tmp_path / "o" / name).is_file()


# --- a tiny random model ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_goes_on(tiny, tmp_path, monkeypatch) -> None:
    """Killed in the nulls, it answers only what is missing, and ends as one that was not."""
    settings = replace(TINY, anyway=True, checkpoint=tmp_path)
    asked: list[str] = []
    whole = full_answers.answer_batch

    def counted(vlm, *given, **named):
        asked.append(vlm.name)
        return whole(vlm, *given, **named)

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(full_answers, "answer_batch", counted)
    monkeypatch.setattr(claims_run, "plan_tests", dies)
    with pytest.raises(KeyboardInterrupt):
        check_claims(Given(tiny), settings)
    monkeypatch.undo()
    monkeypatch.setattr(full_answers, "answer_batch", counted)
    before = len(asked)
    again = check_claims(Given(tiny), settings)
    after = len(asked) - before
    asked.clear()
    fresh = check_claims(Given(tiny), replace(settings, checkpoint=None))
    assert before + after == len(asked)
    assert 0 < after < before
    timed = {"latency": None, "seconds": 0.0, "machine": {}}
    kept = [
        replace(run, **timed, tests=tuple(t for t in run.tests if t.id != "V1-faster"))
        for run in (again, fresh)
    ]
    assert kept[0].settings == kept[1].settings
    assert kept[0].to_json() == kept[1].to_json()


def test_a_model_that_does_not_enter_is_left_early(tiny, monkeypatch) -> None:
    monkeypatch.setattr(claims_run, "nulls", None)  # nothing after the entry is run
    found = check_claims(Given(tiny, name="t"), TINY)
    assert not found.entry.enters
    assert (found.tests, found.plans, found.name) == ((), (), "t")
    assert [each.mode for each in found.harm] == ["block"]


def test_nulls_that_were_not_measured_support_nothing(tiny, tmp_path, monkeypatch) -> None:
    model = Subject("model", tiny.vlm, tiny.splits.profiling, tiny.splits.test, tmp_path, TINY)
    assert not list(rank_tests(model, []))  # three counted layers have no rank given depth
    eight = tiny_llava(layers=8)
    model = Subject("model", eight, tiny.splits.profiling, tiny.splits.test, tmp_path, TINY)
    tests = list(rank_tests(model, []))
    assert [test.id for test in tests] == [
        "V1-coincide", "V2-measurable", "V2-align/block", "V2-align/freeze", "V2-align/vision_mlp",
    ]  # fmt: skip
    for test in tests:
        modes = 2 if test.id == "V1-coincide" else 1
        assert [(point.name, point.holds, point.text) for point in test.points] == [
            (RANDOM_WEIGHTS, False, "not measured"),
            ("shuffled images", False, "not measured"),
        ] * modes
    monkeypatch.setattr(protocol, "FEWEST_UNITS", 16)
    assert not list(rank_tests(model, []))  # five units decide no rank


def test_answers_are_in_the_order_of_the_questions(tiny, tmp_path) -> None:
    model = Subject("model", tiny.vlm, tiny.splits.profiling, tiny.splits.test, tmp_path, TINY)
    plan = units("block", 6)[0]
    items = tiny.splits.test
    mixed = Outcomes.of_words([items[1], items[2], items[0]], ["a"] * 3, ["b", "a", "a"])
    model.test._outcomes[plan.hash()] = mixed  # batches may come in another order
    assert model.test.changed(plan).tolist() == [0.0, 1.0, 0.0]
    assert model.test.all_changed([plan, plan]).tolist() == [[0.0] * 2, [1.0] * 2, [0.0] * 2]
    assert model.counted("block") == [False, False, True, True, True, False]
    assert model.held_out("block") == (0, 1, 5)
    assert all(model.counted("early_exit"))


def test_models_are_named_each_once(tiny) -> None:
    for names in ([], ["a", "a"]):
        with pytest.raises(BridgeError, match="name models, each once"):
            check_models(names, lambda _: Given(tiny), TINY)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["reference"], "name the questions with --data"),
        (["toy", "toy", "--name=a"], "--name is of one model"),
        (["toy", "--ranked=500"], "ranked is 500"),
        (["toy", "--at=test"], "SPLIT=PART:FIRST"),
        (["toy", "--epsilon=2"], "epsilon must lie between 0 and 1"),
    ],
)
def test_what_the_command_refuses(words, says, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["claims", *words, f"--out={tmp_path}"])
    assert ended.value.code
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_dry_run_writes_nothing(tmp_path, capsys) -> None:
    words = [f"--{name}={value}" for name, value in SIZES.items()]
    with pytest.raises(SystemExit) as ended:
        cli.main(["claims", "toy", *words, "--dry-run", f"--out={tmp_path / 'o'}"])
    assert ended.value.code == 0
    assert "forward passes over a prompt" in capsys.readouterr().out
    assert not (tmp_path / "o").exists()


def test_made_up_tests_cover_the_clauses() -> None:
    assert [test.id for test in all_tests(0.5)] == list(CLAUSES)
