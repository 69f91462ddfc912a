"""Plans over tokens: answered, measured and certified as whole answers, by verb and by command."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import vlm_bridge as vb
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from tests.vlm_bridge.tiny import batch as llava_batch
from vlm_bridge.data import image_ids
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import adaptive_answers
from vlm_bridge.evaluate.adaptive_latency import stream_latency
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.by_token import decoding_passes, token_outcomes
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection.adaptive import adaptive_search
from vlm_bridge.selection.by_token import CertifiedByToken, search_by_token, thresholds

#: Every test answers some sixty questions token by token.
pytestmark = pytest.mark.slow

PLANS = [SkipPlan("block", 4, (2,)), SkipPlan("block", 4, (3,))]
LONG = {"max_new_tokens": 6}
EPSILON = 0.85


def over_tokens(threshold, plan=PLANS[0]):
    return AdaptivePlan((Gate(plan, "margin", threshold, over="token"),))


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava(seed=1)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """20 tuning and 40 certification images."""
    items = asked_pictures(tmp_path_factory.mktemp("pictures"), 60)
    return items[:20], items[20:]


@pytest.fixture(scope="module")
def found(vlm, split):
    return search_by_token(vlm, *split, PLANS, epsilon=EPSILON, **LONG)


def test_at_inf_the_full_model_answers(vlm, split):
    made = adaptive_answers(vlm, split[0], over_tokens(math.inf), **LONG)
    assert list(made.texts) == answer(vlm, split[0], **LONG)
    assert set(made.gates) == {1}
    alone = adaptive_answers(vlm, split[0], over_tokens(-math.inf), **LONG)
    assert set(alone.gates) == {0}
    assert alone.texts != made.texts


def test_outcomes_are_those_of_the_tokens(vlm, split):
    full = FullAnswers.ask(vlm, split[0], **LONG)
    plan = over_tokens(-math.inf)
    made = token_outcomes(full, vlm, plan)
    (middle,) = thresholds(made.signals, [0.5])
    some = over_tokens(middle)
    made, texts = token_outcomes(full, vlm, some), adaptive_answers(vlm, full.items, some, **LONG)
    changed = [float(a != b) for a, b in zip(full.texts, texts.texts, strict=True)]
    assert list(made.outcomes.disagree) == changed
    assert [int(not row or not all(row)) for row in made.by_plan] == list(texts.gates)
    for by_plan, signals in zip(made.by_plan, made.signals, strict=True):
        assert by_plan == tuple(signal > middle for signal in signals)
    measured = made.measure(some)
    share = np.mean([np.mean(row) if row else 0.0 for row in made.by_plan])
    assert measured.plan_share.value == pytest.approx(share)
    # One of four layers is left out of each pass; a token of the full model costs one more.
    costs = [0.75 + 1 - np.mean(row) if row else 1.0 for row in made.by_plan]
    assert measured.passes.value == pytest.approx(np.mean(costs))


@pytest.mark.parametrize(
    ("by_plan", "work", "want"),
    [([], 0.5, 1.0), ([True] * 4, 0.5, 0.5), ([False] * 4, 0.5, 1.5), ([True, False], 0, 0.5)],
)
def test_passes_in_closed_form(by_plan, work, want):
    assert decoding_passes(by_plan, work) == want


def test_a_search_certifies_what_it_measures(vlm, split, found):
    assert found.plan is not None
    assert found.certificate.holds
    assert found.certificate.bound == EPSILON
    assert found.certificate.plan_hash == found.plan.hash()
    assert set(found.plan.provenance.tuned) == set(image_ids(split[0]))
    assert set(found.plan.provenance.certified) == set(image_ids(split[1]))
    made = adaptive_answers(vlm, split[1], found.plan, **LONG)
    full = answer(vlm, split[1], **LONG)
    changed = np.mean([a != b for a, b in zip(full, made.texts, strict=True)])
    held = sum(each.holds for each in found.certificates)
    assert found.tested[held - 1].changed.value == pytest.approx(changed)
    assert found.path[held - 1].passes.value < 1
    assert len(found.tried) > len(PLANS)
    assert CertifiedByToken.from_json(json.loads(found.dumps())) == found


def test_a_checkpoint_and_a_ledger_make_the_same_search_free(vlm, split, found, tmp_path):
    kept = {"checkpoint": tmp_path / "c", "ledger": Ledger(tmp_path / "l.jsonl"), **LONG}
    first = search_by_token(vlm, *split, PLANS, epsilon=EPSILON, **kept)
    assert first.plan == found.plan
    assert search_by_token(vlm, *split, PLANS, epsilon=EPSILON, **kept) == first
    with pytest.raises(BridgeError, match="leaves no delta for this data"):
        search_by_token(vlm, *split, PLANS, epsilon=EPSILON / 2, **kept)


def test_without_a_certificate_there_is_no_plan(vlm, split):
    none = search_by_token(vlm, split[0], split[1][:5], PLANS, epsilon=0.01, **LONG)
    assert (none.plan, none.certificate) == (None, None)
    assert len(none.tested) == len(none.certificates) <= 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"signal": "agreement"}, "signal must be one of margin, entropy, confidence"),
        ({"sent_on": [1.0]}, r"sent_on must be shares in \[0, 1\)"),
        ({"sent_on": []}, "sent_on must be shares"),
        ({"epsilon": 0.0}, r"epsilon must lie in \(0, 1\)"),
        ({"candidates": ["freeze 1-2"]}, "skips nothing of the tokens of an answer"),
    ],
)
def test_bad_settings_are_refused(vlm, split, change, says):
    with pytest.raises(BridgeError, match=says):
        search_by_token(vlm, *split, **{"candidates": PLANS, **change})


def test_a_search_of_whole_answers_names_the_other(vlm, split):
    with pytest.raises(BridgeError, match=r"vb\.search_by_token"):
        adaptive_search(vlm, *split, PLANS, over="token")


def test_generate_in_a_block_decides_by_token(vlm):
    inputs, plan = llava_batch("padded"), over_tokens(0.02)
    made = vb.generate_by_token(vlm, inputs, plan.gates[0], max_new_tokens=6)
    with vb.skipping(vlm, plan) as block:
        tokens = vlm.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert block.gates == made.gates
    assert torch.equal(tokens[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    for row, want in zip(
        tokens[:, inputs["input_ids"].shape[1] :].tolist(), made.tokens, strict=True
    ):
        assert tuple(row[: len(want)]) == want


def test_a_stream_is_timed(vlm, split):
    timed = stream_latency(vlm, split[0][:9], over_tokens(math.inf), batch_size=3, **LONG)
    assert timed.full_share == 1.0
    assert timed.decision_share > 0


def test_the_command_line_searches_and_runs(folder, split, tmp_path, capsys):
    files = {}
    for name, items in zip(("data", "certification"), split, strict=True):
        files[name] = items[0].image.parent / f"{name}.jsonl"
        rows = [{"image": i.image.name, "question": i.question, "answer": "yes"} for i in items]
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "search"
    how = (
        "--rule",
        "shortgpt",
        "--mode",
        "block",
        "--adaptive",
        "--over",
        "token",
        "--epsilon",
        0.97,
    )
    short = ("--max-new-tokens", 6)
    words = [w for name, value in files.items() for w in (f"--{name}", value)]
    assert run("search", folder, *words, *how, *short, "--out", out) == 0, capsys.readouterr()
    said = " ".join(capsys.readouterr().out.split())
    assert "work of the passes behind the prompt" in said
    found = CertifiedByToken.from_json(json.loads((out / "search.json").read_text()))
    assert (found.plan is not None) == (out / "adaptive.json").exists() == ("certified:" in said)
    (out / "plan.json").write_text(over_tokens(0.02).dumps())
    result = tmp_path / "r.json"
    words = ("--data", files["data"], *short, "--latency", 0, "--out", result)
    assert run("adaptive", folder, out / "plan.json", *words) == 0
    assert json.loads(result.read_text())["measured"]["plan_share"]["value"] > 0
    for wrong in (("--gates", 2), ("--signal", "agreement")):
        assert run("search", folder, *words[:2], "--certification", words[1], *how, *wrong) == 2
        assert "--over token takes one --signal" in " ".join(capsys.readouterr().err.split())


def test_modes_that_cannot_be_judged_by_token_are_refused_first(folder, tmp_path, capsys):
    words = ("--data", "none.jsonl", "--certification", "none.jsonl", "--out", tmp_path / "s")
    assert run("search", folder, *words, "--adaptive", "--over", "token") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--mode block or sublayer, got freeze (--rule skip-it)" in said
    assert "skip-it-slopes" in said


def test_a_search_that_was_killed_can_be_given_again(folder, jsonl, tmp_path, monkeypatch, capsys):
    """Its first file is search.json, without which the others would be taken for others' files."""

    def kill(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vlm_bridge.cli.searching.run_search", kill)
    monkeypatch.setattr("vlm_bridge.cli.searching.check_splits", lambda *_: None)
    words = ("--data", jsonl, "--certification", jsonl, "--out", tmp_path / "s")
    assert run("search", folder, *words, "--rule", "deepest-first", "--mode", "block") != 0
    assert not (tmp_path / "s" / "scores.json").exists()


def test_a_plan_over_tokens_is_another_plan():
    plan = over_tokens(0.5)
    of_answers = AdaptivePlan((replace(plan.gates[0], over="answer"),))
    assert plan.hash() != of_answers.hash()
