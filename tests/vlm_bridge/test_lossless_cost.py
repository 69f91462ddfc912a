"""Whether lossless generation pays: closed forms, and figures of a tiny model."""

from __future__ import annotations

import json
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import lossless as benchmark
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.cli.lossless import prediction_lines, predictions, speed_line
from vlm_bridge.cost import (
    LosslessPrediction,
    LosslessSpeed,
    PassTimes,
    acceptance_rate,
    expected_tokens,
    pass_times,
    predict_lossless,
    time_lossless,
)
from vlm_bridge.cost.in_turn import InTurn
from vlm_bridge.cost.phase import median_estimate
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan

shares, counts = st.floats(0, 1), st.integers(1, 8)
BLOCK = SkipPlan("block", 4, layers=(1,))
EXIT = SkipPlan("early_exit", 4, exit=2)


@given(a=st.floats(0, 0.99), k=counts)
def test_expected_tokens_in_closed_form(a, k):
    assert expected_tokens(a, k) == pytest.approx((1 - a ** (k + 1)) / (1 - a))
    assert expected_tokens(1.0, k) == k + 1
    assert expected_tokens(0.0, k) == 1


def test_expected_tokens_of_a_simulation():
    """Rounds of independent judgements: accepted up to the first rejection, and one more."""
    draw, a, k, n = random.Random(3), 0.7, 4, 40_000

    def tokens():
        return 1 + next((i for i in range(k) if draw.random() >= a), k)

    assert sum(tokens() for _ in range(n)) / n == pytest.approx(expected_tokens(a, k), rel=0.01)


@given(a=shares, c=st.floats(0.01, 2), verify=st.lists(st.floats(1, 4), min_size=1, max_size=8))
def test_the_best_number_of_drafts_is_the_best(a, c, verify):
    found = predict_lossless(a, c, verify)
    per_token = [(k * c + v) / expected_tokens(a, k) for k, v in enumerate(verify, start=1)]
    assert found.best.work_per_token == min(per_token)
    assert found.pays == (min(per_token) < 1)
    assert found.speed_up * min(per_token) == pytest.approx(1)
    assert LosslessPrediction.from_json(found.to_json()) == found


@given(a=shares, verify=st.lists(st.floats(1, 4), min_size=1, max_size=8))
def test_a_draft_as_slow_as_the_model_never_pays(a, verify):
    """c = 1, as of plans of modality tokens: k + v of work for at most k + 1 tokens."""
    assert not predict_lossless(a, 1.0, verify).pays


def test_theorem_of_the_source():
    """With v = 1 a plan pays for some k exactly if a > c."""
    for a in (0.2, 0.5, 0.8):
        for c in (0.1, 0.3, 0.6, 0.9):
            assert predict_lossless(a, c).pays == (a > c)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1.2, 0.5), r"acceptance is in \[0, 1\], got 1.2"),
        ((float("nan"), 0.5), "acceptance"),
        ((True, 0.5), "acceptance"),
        ((0.5, 0.0), "draft_ratio is a number above 0, got 0.0"),
        ((0.5, float("inf")), "draft_ratio"),
        ((0.5, 0.5, []), "got none"),
        ((0.5, 0.5, [1.0, -1.0]), "a verify_ratio is a number above 0, got -1.0"),
    ],
)
def test_wrong_numbers(arguments, says):
    with pytest.raises(BridgeError, match=says):
        predict_lossless(*arguments)
    with pytest.raises(BridgeError, match="draft_tokens"):
        expected_tokens(0.5, -1)


def test_passes_are_timed_behind_the_prompt():
    vlm, inputs = tiny_llava(), batch("single")
    found = pass_times(vlm, inputs, BLOCK, most_drafts=3, pairs=7)
    assert len(found.verify_ratios) == 3
    assert found.seconds_full > 0
    assert found.draft_ratio.n == 7
    assert PassTimes.from_json(found.to_json()) == found
    with pytest.raises(BridgeError, match="pairs is at least 1, got 0"):
        pass_times(vlm, inputs, BLOCK, pairs=0)


def test_a_draft_that_skips_most_is_faster():
    """Twelve of thirteen layers skipped; the time limit is loose."""
    vlm, inputs = tiny_llava(layers=13), batch("single")
    plan = SkipPlan("block", 13, layers=tuple(range(12)))
    assert pass_times(vlm, inputs, plan, most_drafts=1, pairs=15).draft_ratio.value < 0.7


def test_acceptance_is_by_image(items):
    vlm = tiny_llava(seed=2)
    vlm.model.generation_config.eos_token_id = None
    found = acceptance_rate(vlm, items, BLOCK, max_new_tokens=6)
    assert found.n == len({item.cluster for item in items})
    assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1
    assert acceptance_rate(vlm, items[:3], EXIT, max_new_tokens=6).value == 1
    with pytest.raises(BridgeError, match="no drafted token was judged in 2 answers"):
        acceptance_rate(vlm, items[:2], BLOCK, max_new_tokens=1)


def test_full_and_lossless_in_turn(items):
    vlm = tiny_llava(seed=2)
    vlm.model.generation_config.eos_token_id = None
    found = time_lossless(vlm, items[:6], EXIT, draft_tokens=3, max_new_tokens=9)
    assert (found.same_answers, found.prompts, found.acceptance) == (6, 6, 1)
    assert found.time_ratio.n == 6
    assert found.per_second_full > 0
    assert LosslessSpeed.from_json(found.to_json()) == found
    with pytest.raises(BridgeError, match="no answer to 2 items has two tokens"):
        time_lossless(vlm, items[:2], BLOCK, max_new_tokens=1)


def test_one_statistic_of_speed():
    """Times whose medians over prompts say slower while most pairs say faster."""
    full = (1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0)
    other = (0.9, 1.8, 2.7, 9.0, 9.0, 9.9, 10.8)
    assert statistics.median(other) > statistics.median(full)
    found = InTurn(full, other, same=7, prompts=7)
    assert found.ratio.value == pytest.approx(0.9)
    speed = LosslessSpeed(2, 0.25, found.ratio, 7, 7, 1.0)
    said = speed_line(speed, "texts")
    assert "speed-up 1.11 (0.44 to 1.11; median of the paired ratios of 7 texts)" in said
    assert said.count("per second") == 1
    reported = benchmark.of_times(found)
    assert reported["speed_up"] == pytest.approx(speed.speed_up)
    assert reported["per_second_full"] == 1 / 4.0
    assert [name for name in reported if name.startswith("per_second")] == ["per_second_full"]


def times(draft, verify):
    return PassTimes(0.1, median_estimate([draft] * 7), (median_estimate([verify] * 7),) * 8)


@pytest.mark.parametrize(
    ("acceptance", "draft", "verify", "says"),
    [
        (0.9, 0.2, 1.0, ": pays"),
        (0.3, 0.9, 1.2, ": does not pay"),
        (0.0, 1.0, 1.2, ": does not pay"),
    ],
)
def test_the_verdict(acceptance, draft, verify, says):
    of = times(draft, verify)
    found = predictions(acceptance, of)
    assert prediction_lines(of, found, found[1].best.draft_tokens)[-1].endswith(says)


def test_a_verdict_is_not_more_certain_than_its_numbers():
    of = PassTimes(
        0.1,
        median_estimate([0.2, 0.4, 0.45, 0.5, 0.7, 0.9, 1.4]),
        (median_estimate([1.0] * 7),) * 8,
    )
    found = predictions(0.6, of)
    assert prediction_lines(of, found, 1)[-1].endswith(
        f"speed-up {found[1].rounds[0].tokens / found[1].rounds[0].work:.2f} "
        f"({found[0].rounds[0].tokens / found[0].rounds[0].work:.2f} to "
        f"{found[2].rounds[0].tokens / found[2].rounds[0].work:.2f}): "
        "not decided, 1 is within the interval"
    )
    low, middle, high = (each.speed_up for each in found)
    assert low < middle < high


@pytest.mark.parametrize(("draft", "verify"), [(0.6, 0.8), (0.97, 1.1), (1.0, 1.0), (1.4, 0.9)])
@pytest.mark.parametrize("acceptance", [0.0, 0.9, 1.0])
def test_a_plan_that_saves_nothing_never_pays(acceptance, draft, verify):
    """Its draft is the full model, so what is faster about it is noise."""
    of = times(draft, verify)
    found = predictions(acceptance, of, saves=False)
    assert not any(each.pays for each in found)
    assert prediction_lines(of, found, 2, saves=False)[-1].endswith(
        ": does not pay, since the plan skips nothing in decoding"
    )
    if draft < 1 and acceptance > 0.8:
        assert predictions(1.0, of)[1].pays  # of a plan that saves


def test_few_questions_give_no_interval_and_say_what_would():
    few = LosslessSpeed(3, 10.0, median_estimate([0.8] * 4), 4, 4, 0.9)
    assert (
        "4 pairs cannot give a 95% interval; each question is one pair, raise --limit or --data"
        in speed_line(few, "images")
    )


def test_the_command(folder, jsonl, tmp_path, capsys):
    out = tmp_path / "cost.json"
    few = ("--data", jsonl, "--tokens", 4, "--pairs", 7, "--out", out, "--lossless")
    assert run("cost", folder, "block layers=1", *few) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "skip layer 1 (1 of 4)"
    assert said[1].startswith("acceptance of a judged drafted token")
    assert "5 images" in said[1]
    assert said[3].startswith("predicted for k = ")
    assert said[4].startswith("measured: ")
    assert "5 of 5 answers equal token for token" in said[4]
    body = json.loads(out.read_text())
    assert set(body["lossless"]) == {"acceptance", "passes", "prediction", "measured"}
    given = (*few, "--acceptance", 0.5, "--draft-tokens", 3, "--limit", 2, "--json")
    assert run("cost", folder, "early_exit exit=2", *given) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(out.read_text())
    assert json.loads(printed.out)["lossless"]["measured"]["prompts"] == 2
    assert "predicted for k = 3" in printed.err
    assert "in decoding it saves nothing" in printed.err
    assert ": does not pay, since the plan skips nothing in decoding" in printed.err
    assert json.loads(printed.out)["lossless"]["prediction"]["pays"] is False
    assert "2 pairs cannot give a 95% interval; each question is one pair" in printed.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--lossless",), "give --data"),
        (("--acceptance", 0.5), "--acceptance goes with --lossless only"),
        (("--lossless", "--data", "easy-vqa:test", "--tokens", 1), "give --tokens 2 up"),
    ],
)
def test_the_command_refuses(folder, tmp_path, capsys, options, says):
    out = tmp_path / "cost.json"
    assert run("cost", folder, "block layers=1", *options, "--out", out) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()
