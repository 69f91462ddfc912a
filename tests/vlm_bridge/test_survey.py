"""A survey of one stack of one model: every number of it measured a second way."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from estimators import clustered_mean
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.families.hearing_processors import sounds, texts, with_processor
from tests.vlm_bridge.tiny import picture, tiny_llava
from vlm_bridge.data import Item, first_units
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, with_other_inputs
from vlm_bridge.evaluate.compare import Comparison, compare
from vlm_bridge.evaluate.next_token import next_token_agreement
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.survey import Survey, SurveyData, survey, write_survey
from vlm_bridge.experiments.survey import run as survey_run
from vlm_bridge.experiments.survey.blocks import blocks_of
from vlm_bridge.experiments.survey.page import write_html
from vlm_bridge.experiments.survey.run import candidate_plans, single_plans
from vlm_bridge.figures.blocks import to_markdown
from vlm_bridge.observe.profile import profile, random_copy
from vlm_bridge.plan.controls import random_plans
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_record
from vlm_bridge.skip import skipping
from vlm_bridge.skip.knockout import knocking_out

SHORT = {"max_new_tokens": 3, "batch_size": 4}
QUESTIONS = ("is there a circle ?", "what is red ?")


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Twelve pictures with a question each, and labels."""
    folder, items = tmp_path_factory.mktemp("pictures"), []
    for number in range(12):
        picture(number).save(folder / f"{number}.png")
        answer_ = ("yes", "no", "circle")[number % 3]
        items.append(Item(folder / f"{number}.png", QUESTIONS[number % 2], answer_))
    return items


def made(vlm, given_, folder, **options):
    return survey(vlm, given_, folder=folder, random_units=2, **{**SHORT, **options})


@pytest.fixture(scope="module")
def surveyed(asked, tmp_path_factory):
    vlm, folder = tiny_llava(), tmp_path_factory.mktemp("kept")
    roles = SurveyData(asked[:4], asked[4:8], asked[8:], asked[:8])
    return vlm, roles, made(vlm, roles, folder, epsilon=0.9, delta=0.5)


@pytest.mark.slow
def test_single_skips_are_those_of_compare(surveyed):
    vlm, roles, found = surveyed
    for single in found.singles:
        alone = compare(vlm, roles.data, single.plan, **SHORT)
        assert single.disagreement == alone.disagreement, single.plan.describe()
        assert single.drop == alone.drop
    counts = {mode: sum(s.plan.mode == mode for s in found.singles) for mode in survey_run.SURVEYED}
    n = vlm.layout.n_layers
    each = {"block": n, "sublayer": 2 * n, "freeze": n, "early_exit": n, "late_entry": n}
    assert counts == each  # without exit n and entry 0, which skip nothing


def test_the_full_model_its_copy_and_the_guess_are_judged_on_the_test(surveyed):
    vlm, roles, found = surveyed
    texts_ = answer(vlm, roles.test, **SHORT)
    assert found.full.accuracy == accuracy(texts_, roles.test)
    assert found.blind == accuracy(blind_answers(roles.training, roles.test), roles.test)
    few = first_units(roles.test, 2)
    other = answer(random_copy(vlm), few, **SHORT)
    assert found.random.accuracy == accuracy(other, few)
    same = [float(a == b) for a, b in zip(other, texts_[:2], strict=True)]
    assert found.random.same == clustered_mean(same, ["a", "b"], bounds=(0, 1))
    shown = with_other_inputs(roles.test)
    assert [item.image for item in shown] == [
        *(item.image for item in roles.test[1:]),
        roles.test[0].image,
    ]
    assert [item.answer for item in shown] == [item.answer for item in roles.test]
    assert found.other.accuracy == accuracy(answer(vlm, shown, **SHORT), shown)
    assert found.counts == {"data": 4, "certification": 4, "test": 4, "random": 2}


def test_a_survey_holds_profile_search_and_cost(surveyed, tmp_path):
    vlm, roles, found = surveyed
    assert found.profile == profile(vlm, roles.data, batch_size=4)
    assert found.profile_random.fingerprint != found.profile.fingerprint
    assert set(found.slopes) == {"block", "freeze", "unseen"}
    assert found.certified is not None, "epsilon .9 on 4 images certifies something"
    assert found.search.certificate.epsilon == 0.9
    again = compare(vlm, roles.test, found.certified, **SHORT)
    assert found.tested.disagreement == again.disagreement
    assert 0 < found.cost.prefill.flops_ratio <= 1
    assert found.candidates == len(candidate_plans(found.singles))
    lines = write_survey(found, tmp_path / "out")
    assert read_record(tmp_path / "out" / "survey.json", Survey, "survey") == found
    page = (tmp_path / "out" / "survey.md").read_text()
    assert "](layers.png)" in page
    assert (tmp_path / "out" / "depth.png").is_file()
    rows = [line for line in lines if line.startswith(tuple(f"| {n} |" for n in range(9)))]
    # Two tables, whose last row has the entry behind all layers, and one of blind layers.
    assert len(rows) == 3 * vlm.layout.n_layers + 2
    assert f"- {found.certified.describe('vision')}. " in page


def test_a_survey_blinds_text_band_by_band(surveyed, tmp_path):
    vlm, roles, found = surveyed
    n = vlm.layout.n_layers
    assert [one.layers for one in found.knockouts] == [(layer,) for layer in range(n)]
    full = answer(vlm, roles.data, **SHORT)
    for one in found.knockouts:
        with knocking_out(vlm, one.layers):
            blind = answer(vlm, roles.data, **SHORT)
        changed = np.mean([a != b for a, b in zip(full, blind, strict=True)])
        assert one.changed.disagreement.value == pytest.approx(changed)
    page = "\n".join(to_markdown(blocks_of(found)))
    assert "| blind layers | answers changed |\n|---|---|\n| 0 | " in page
    whole = "\n".join(to_markdown(blocks_of(replace(found, knockouts=()))))
    assert "blind layers" not in whole


def test_a_certified_plan_stands_beside_its_controls(surveyed):
    vlm, roles, found = surveyed
    alone = compare(vlm, roles.test, found.certified, **SHORT)
    assert found.controls.plan.disagreement == alone.disagreement
    assert found.controls.knockouts == ()
    page = "\n".join(to_markdown(blocks_of(found)))
    share = f"{alone.disagreement.value:.1%}"
    assert f"Controls on 4 images: the plan changes {share} (" in page
    plan = SkipPlan("freeze", vlm.layout.n_layers, layers=(1, 2))
    drawn = tuple(compare(vlm, roles.test, one, **SHORT) for one in random_plans(plan, draws=3))
    controls = replace(found.controls, random=drawn, deepest=drawn[0])
    page = "\n".join(to_markdown(blocks_of(replace(found, controls=controls))))
    rates = [one.disagreement.value for one in drawn]
    assert f", 3 random plans of its size {min(rates):.1%} to {max(rates):.1%} (drawn" in page
    assert f"it would do so well with p = {controls.p_value:.3g}), the deepest layers " in page


def test_a_survey_that_was_killed_goes_on(asked, tmp_path, monkeypatch):
    vlm, roles = tiny_llava(), SurveyData(asked[:4])
    whole = made(vlm, roles, tmp_path / "whole", modes=["block"])
    calls = []
    before = survey_run.Comparison.of

    def dies(plan, *rest):
        calls.append(plan)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return before(plan, *rest)

    monkeypatch.setattr(survey_run.Comparison, "of", dies)
    with pytest.raises(KeyboardInterrupt):
        made(vlm, roles, tmp_path / "killed", modes=["block"])
    monkeypatch.undo()
    asked_again = []
    generate = vlm.model.generate
    monkeypatch.setattr(
        vlm.model, "generate", lambda **inputs: asked_again.append(1) or generate(**inputs)
    )
    again = made(vlm, roles, tmp_path / "killed", modes=["block"])
    assert replace(again, seconds=0, machine={}) == replace(whole, seconds=0, machine={})
    # The batch of single skips was kept; every layer is a band that text is blind in.
    assert len(asked_again) == vlm.layout.n_layers


def harmless(n, harms):
    """Comparisons of single blocks with the given numbers of changed answers, of 10."""
    items = [Item(None, f"why {number}?") for number in range(10)]
    for layer in range(n):
        changed = ["x"] * harms[layer] + ["y"] * (10 - harms[layer])
        outcomes = Outcomes.of_words(items, ["y"] * 10, changed)
        yield Comparison.of(SkipPlan("block", n, layers=(layer,)), outcomes, "generated answer")


@settings(max_examples=30)
@given(st.lists(st.integers(0, 10), min_size=2, max_size=7))
def test_candidates_join_the_least_harmful_first(harms):
    n = len(harms)
    plans = candidate_plans(list(harmless(n, harms)))
    assert [plan.layers for plan in plans[:n]] == [(layer,) for layer in range(n)]
    nested = [set(plan.layers) for plan in plans[n:]]
    assert [len(layers) for layers in nested] == list(range(2, n))
    for layers in nested:
        worst = max(harms[layer] for layer in layers)
        assert all(harms[layer] >= worst for layer in set(range(n)) - layers)
    assert all(a < b for a, b in itertools.pairwise(nested))


def test_texts_are_scored_by_next_tokens(tmp_path):
    vlm, items = with_processor("Llama"), texts(6)
    found = made(vlm, SurveyData(items), tmp_path / "kept")
    assert {single.plan.mode for single in found.singles} == {"block", "sublayer"}
    assert set(found.slopes) == {"block"}
    for single, agreement in zip(found.singles, found.agreement, strict=True):
        shares = []
        for item in items:
            ids = vlm.tokenizer(item.question, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                full = vlm.model(input_ids=ids).logits.argmax(-1)
                with skipping(vlm, single.plan, fast=False):
                    skipped = vlm.model(input_ids=ids).logits.argmax(-1)
            shares.append(float((full == skipped).double().mean()))
        assert agreement.value == pytest.approx(np.mean(shares))
    assert any("the likeliest next token stays" in line for line in to_markdown(blocks_of(found)))


def test_nothing_skipped_agrees_everywhere():
    vlm, items = with_processor("Llama"), texts(3)
    n = vlm.layout.n_layers
    whole, all_but_one = SkipPlan("block", n), SkipPlan("block", n, layers=tuple(range(1, n)))
    same, other = next_token_agreement(vlm, items, [whole, all_but_one])
    assert same.value == 1
    assert other.value < 1


def test_next_tokens_are_of_texts_alone(asked, tmp_path):
    with pytest.raises(BridgeError, match=r"compared on texts alone, and 0\.png"):
        next_token_agreement(tiny_llava(), asked[:2], [])


def test_an_encoder_is_surveyed_without_slopes(tmp_path):
    vlm, items = with_processor("Qwen2-Audio"), sounds(tmp_path, 4)
    found = made(vlm, SurveyData(items), tmp_path / "kept", stack="audio", modes=["block"])
    assert {single.plan.stack for single in found.singles} == {"audio"}
    assert (found.slopes, found.no_slopes) == ({}, "slopes are of a decoder")
    assert found.knockouts == ()
    page = "\n".join(to_markdown(blocks_of(found)))
    assert f"audio encoder of {found.n_layers} layers" in page
    assert "No slopes: slopes are of a decoder." in page
    assert "Intervals are at 95%, by recording." in page
    assert "nothing was certified" in page


def test_modes_that_a_stack_lacks_are_named(tmp_path):
    vlm = with_processor("Llama")
    with pytest.raises(
        BridgeError, match="has none of freeze in its decoder: its decoder reads no image"
    ):
        single_plans(vlm, "decoder", ["freeze"])
    with pytest.raises(BridgeError, match="no stack 'vision'"):
        single_plans(vlm, "vision", ["block"])


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ((range(4), range(3, 6)), "are also in the certification questions"),
        ((range(4), range(4, 6), range(3, 5)), "are also in the test questions"),
        ((range(4), range(4, 6), range(5, 8)), "are in both; certify and test on others"),
        ((range(1),), "an interval by image needs at least 2 images, got 1"),
    ],
)
def test_a_unit_has_one_role(roles, says, asked):
    parts = [[asked[place] for place in places] for places in roles]
    with pytest.raises(BridgeError, match=says):
        SurveyData(*parts).check()


def test_the_command_writes_page_and_record(folder, jsonl, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--max-new-tokens", 2, "--random-units", 2, "--mode", "block", "--out", out)
    assert run("survey", folder, "--data", jsonl, "--training", jsonl, *options) == 0
    printed = capsys.readouterr().out
    assert "most frequent training answer" in printed
    assert (out / "survey.md").read_text().startswith("# ")
    stored = json.loads((out / "survey.json").read_text())
    assert stored["data"] == {"data": str(jsonl), "training": str(jsonl)}
    assert stored["sources"] == [f"model: {folder}", f"data: {jsonl}"]
    page = (out / "survey.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 2  # blocks and profile; no depths
    assert run("report", out / "survey.json", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "survey.html").read_text() == page
    assert run("report", out / "survey.json", "--rules", jsonl, "--out", tmp_path / "again") == 2
    assert "a survey has none" in capsys.readouterr().err
    assert run("survey", folder, "--data", jsonl, "--test", jsonl, *options) == 2
    assert "are also in the test questions" in capsys.readouterr().err


def test_names_are_escaped(surveyed, tmp_path):
    _, _, found = surveyed
    hostile = replace(found, model="<script>a|b", sources=("<img src=x> | y",))
    html = write_html(hostile, tmp_path, figures={}).read_text()
    assert "<script" not in html
    assert "<img src=x>" not in html
    markdown = "\n".join(to_markdown(blocks_of(hostile)))
    assert "<script" not in markdown
    assert "<img" not in markdown


def test_a_plan_is_not_said_to_be_tested_on_what_ordered_it(surveyed):
    _, _, found = surveyed
    page = "\n".join(to_markdown(blocks_of(found)))
    assert "On the test questions: " not in page  # the library was given no names
    named = replace(found, data={"data": "a", "certification": "b", "test": "c"})
    assert "On the test questions: " in "\n".join(to_markdown(blocks_of(named)))


@pytest.mark.parametrize(
    ("roles", "options", "message"),
    [
        ({"test": slice(8, 9)}, {}, "needs at least 2 images, got 1"),
        ({"training": None}, {}, "a blind baseline needs answers, and no training question"),
        ({}, {"epsilon": 2.0}, "epsilon must lie between 0 and 1, got 2.0"),
        ({}, {"delta": 0.0}, "delta must lie between 0 and 1, got 0.0"),
        ({}, {"modes": ["block", "nonsense"]}, "no mode 'nonsense'; a survey has block, sublayer"),
    ],
)
def test_what_cannot_end_well_does_not_begin(asked, tmp_path, monkeypatch, roles, options, message):
    """Before anything is asked, and before a ledger is charged."""
    vlm = tiny_llava()
    monkeypatch.setattr(vlm.model, "generate", lambda **_: pytest.fail("asked"))
    training = roles.pop("training", slice(0, 0))
    unlabelled = [replace(item, answer=None) for item in asked[8:]]
    given_ = SurveyData(
        asked[:4],
        asked[4:8],
        asked[roles.pop("test", slice(0, 0))],
        unlabelled if training is None else (),
    )
    with pytest.raises(BridgeError, match=message):
        made(vlm, given_, tmp_path, **options)


BROKEN = {
    "no single skips": lambda body: body.update(singles=[]),
    "another depth": lambda body: body.update(n_layers=10**30),
    "a depth below zero": lambda body: body.update(n_layers=-1),
    "no such stack": lambda body: body.update(stack="x"),
    "slopes of fewer layers": lambda body: body["slopes"]["block"].pop(),
    "no counts": lambda body: body.update(counts={}),
    "agreement of other plans": lambda body: body.update(
        agreement=[body["singles"][0]["disagreement"]]
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_record_that_contradicts_itself_is_refused(surveyed, tmp_path, capsys, name):
    _, _, found = surveyed
    body = found.to_json()
    BROKEN[name](body)
    (tmp_path / "survey.json").write_text(json.dumps(body))
    assert run("report", tmp_path / "survey.json", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "does not hold a survey: " in said or "n_layers" in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_a_survey_is_known_by_what_it_holds(surveyed, tmp_path):
    _, _, found = surveyed
    (tmp_path / "renamed.json").write_text(json.dumps(found.to_json()))
    assert run("report", tmp_path / "renamed.json", "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "survey.html").is_file()
    assert run("report", tmp_path / "renamed.json", "--out", tmp_path / "out") == 0  # once more
    picture(1).save(tmp_path / "profile.png")
    assert run("report", tmp_path / "renamed.json", "--out", tmp_path) == 2  # of no earlier run


def test_too_few_layers_are_not_ranked(asked, tmp_path):
    found = made(tiny_llava(), SurveyData(asked[:4]), tmp_path / "a", modes=["block"], step=3)
    page = "\n".join(to_markdown(blocks_of(found)))
    assert "No rank correlations: with 4 layers even a perfect one says little; it comes by" in page
    assert "once in 24 orders" in page
    assert "equally harmful" not in page
    assert "nan" not in page


def test_every_single_skip_has_its_quality(surveyed):
    _, _, found = surveyed
    page = "\n".join(to_markdown(blocks_of(found)))
    assert "The accuracy of the same answers; that of the full model is " in page
    assert ". A star: not reliable (" in page  # four images say little
    table = page.split("The accuracy of the same answers")[1].split("\n\n")[1].splitlines()
    assert table[0] == "| layer | block | attention | MLP | freeze | exit | entry |"
    blocks = [single for single in found.singles if single.plan.mode == "block"]
    for line, single in zip(table[2:], blocks, strict=False):  # the last row has no block
        low, high = single.accuracy_skipped.interval
        star = "" if single.accuracy_skipped.reliable else "*"
        wanted = f"{single.accuracy_skipped.value:.0%} ({low:.0%} to {high:.0%}){star}"
        assert line.split(" | ")[1] == wanted


def test_ranks_are_those_of_harm(surveyed, monkeypatch):
    _, _, found = surveyed
    monkeypatch.setattr("vlm_bridge.experiments.survey.blocks._FEWEST_TO_RANK", 3)
    page = "\n".join(to_markdown(blocks_of(found)))
    line = next(line for line in page.splitlines() if line.startswith("| depth alone |"))
    harms = [s.disagreement.value for s in found.singles if s.plan.mode == "block"]
    wanted = stats.spearmanr(range(len(harms)), harms).statistic
    cell = line.split(" | ")[1]
    assert cell == ("-" if np.isnan(wanted) else f"{wanted:.2f}")
