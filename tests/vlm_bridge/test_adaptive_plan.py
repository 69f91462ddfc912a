"""Adaptive plans: what they hold, what they refuse, and that they survive a file."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vlm_bridge as vb
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import Generated
from vlm_bridge.evaluate.signals import signals_of, token_signal
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import write_json

A, B = SkipPlan("block", 4, layers=(3,)), SkipPlan("freeze", 4, layers=(1, 2))


@given(st.floats(allow_nan=False), st.sampled_from(["margin", "entropy"]))
def test_a_plan_survives_a_file(tmp_path_factory, threshold, signal):
    plan = AdaptivePlan(
        (Gate(A, signal, threshold), Gate(B, "agreement", 0.5, "first", SkipPlan("block", 4, (1,))))
    )
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    write_json(path, plan.to_json())
    assert AdaptivePlan.read(path) == plan
    assert AdaptivePlan.read(path).hash() == plan.hash()


def test_the_hash_is_of_all_that_decides_and_of_nothing_else():
    gate = Gate(A, "margin", 0.5)
    others = [
        replace(gate, threshold=0.6),
        replace(gate, signal="entropy"),
        replace(gate, over="first"),
        replace(gate, plan=B),
        Gate(A, "agreement", 0.5, second=B),
    ]
    plans = [AdaptivePlan((each,)) for each in (gate, *others)]
    plans += [AdaptivePlan((gate, others[0])), AdaptivePlan((others[0], gate))]
    assert len({plan.hash() for plan in plans}) == len(plans)
    known = Provenance(model="m", tuned=("a",))
    named = AdaptivePlan((replace(gate, plan=replace(A, provenance=known)),))
    assert named.hash() == plans[0].hash()
    assert named.provenance.spent == {"a"}
    assert named.bare().provenance == Provenance()
    assert named.bare() == plans[0]


@given(st.lists(st.floats(-9, 9), min_size=1), st.floats(-9, 9), st.floats(0, 3))
def test_a_higher_threshold_lets_no_more_answers_stand(signals, threshold, more):
    low, high = Gate(A, threshold=threshold), Gate(A, threshold=threshold + more)
    assert all(a or not b for a, b in zip(low.passes(signals), high.passes(signals), strict=True))
    assert all(Gate(A, threshold=-math.inf).passes(signals))
    assert not any(Gate(A, threshold=math.inf).passes(signals))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Gate(A, threshold=math.nan), "must be a number, -inf or inf, got nan"),
        (lambda: Gate(A, threshold="1"), "must be a number, -inf or inf, got '1'"),
        (lambda: Gate(A, threshold=True), "must be a number, -inf or inf, got True"),
        (lambda: Gate(A, "luck"), "margin, entropy, confidence, agreement, got 'luck'"),
        (lambda: Gate(A, over="last"), "must be one of answer, first, token, got 'last'"),
        (
            lambda: Gate("block layers=1"),
            r"must be a SkipPlan, got 'block layers=1'; vb.read_plan\(WORDS\)\(vlm.layout.depth\)",
        ),
        (lambda: Gate(SkipPlan("block", 4)), "skips nothing"),
        (lambda: Gate(A, "agreement"), "agreement needs a second plan"),
        (lambda: Gate(A, "margin", second=B), "no other signal takes one"),
        (lambda: Gate(A, "agreement", second=A), "give another plan"),
        (lambda: AdaptivePlan(()), "has 1 to 8 gates, got 0"),
        (lambda: AdaptivePlan((A,)), "must be Gates"),
        (lambda: AdaptivePlan((Gate(A),) * 9), "has 1 to 8 gates, got 9"),
        (
            lambda: AdaptivePlan((Gate(A), Gate(SkipPlan("block", 5, layers=(1,))))),
            "for 4 and 5 layers of the decoder; they must be of one model",
        ),
        (lambda: Gate(A).passes([0.1, math.nan]), "a margin is NaN"),
    ],
)
def test_bad_plans_are_refused(made, says):
    with pytest.raises(BridgeError, match=says):
        made()


def test_plans_of_two_models_make_no_adaptive_plan():
    of = [
        Gate(replace(A, provenance=Provenance(model=name, fingerprint=name * 64)))
        for name in ("a", "b")
    ]
    with pytest.raises(BridgeError, match="made for b"):
        AdaptivePlan(tuple(of))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gates": []}, "1 to 8 gates"),
        ({"type": "Estimate"}, "p.json does not hold an adaptive plan: .*type AdaptivePlan"),
        ({"type": "SkipPlan"}, "holds a plan for every answer.*`skipit compare MODEL .*p.json"),
        ({"type": "CertifiedAdaptive"}, "holds a whole search; give adaptive.json beside it"),
        ({"more": 1}, "does not know more"),
        ({"schema_version": 9}, "schema version 9"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, change, says):
    body = AdaptivePlan((Gate(A),)).to_json() | change
    (tmp_path / "p.json").write_text(json.dumps(body))
    with pytest.raises(BridgeError, match=says):
        AdaptivePlan.read(tmp_path / "p.json")


@pytest.mark.parametrize("verb", ["certify", "compare", "cost"])
def test_an_adaptive_plan_is_sent_to_the_command_that_runs_it(folder, tmp_path, capsys, verb):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(AdaptivePlan((Gate(A),)).to_json()))
    data = () if verb == "cost" else ("--data", "none.jsonl")
    (tmp_path / "none.jsonl").write_text('{"question": "why ?"}\n')
    data = tuple(str(tmp_path / each) if each.endswith("jsonl") else each for each in data)
    assert run(verb, folder, path, *data, "--out", tmp_path / "out" / "o.json") == 2
    said = capsys.readouterr().err
    assert "holds an adaptive plan, not a plan for every answer; run it with `skipit ada" in said


def test_a_description_ends_where_every_answer_stands():
    always, never = Gate(A, threshold=-math.inf), Gate(B, threshold=0.5)
    assert AdaptivePlan((always,)).describe() == "skip layer 3 (1 of 4) always"
    said = AdaptivePlan((never, always, never)).describe()
    assert said == f"{never.describe()}; else skip layer 3 (1 of 4) always"
    assert AdaptivePlan((never,)).describe() == f"{never.describe()}; else the full model"


def test_words_become_the_plan_of_a_gate():
    words = vb.read_plan("freeze 1-2")(tiny_llava().layout.depth)
    assert Gate(words) == Gate(B)


def test_text_is_no_json_data():
    for kind in (AdaptivePlan, SkipPlan):
        name = kind.__name__
        with pytest.raises(ValueError, match=rf"{name}.from_json takes a dict, .*{name}.read\("):
            kind.from_json("{}")


# --- signals ----------------------------------------------------------------------------------


def test_signals_by_hand():
    """Two equal tokens: margin 0, entropy log 2; a certain one: entropy 0; odds subtract."""
    logits = torch.tensor([[1.0, 1.0, -1e9], [50.0, 0.0, 0.0]])
    torch.testing.assert_close(token_signal(logits, "margin"), torch.tensor([0.0, 50.0]))
    torch.testing.assert_close(
        token_signal(logits, "entropy"), torch.tensor([-math.log(2), 0.0]), atol=1e-6, rtol=0
    )
    odds = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]).log()
    torch.testing.assert_close(token_signal(odds, "confidence"), torch.tensor([0.5, 0.25]))


def test_tokens_behind_the_end_of_an_answer_do_not_count():
    vlm = tiny_llava()
    end = int(vlm.model.generation_config.eos_token_id)
    other = end + 1
    sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    both = torch.cat([sure, sure]), torch.cat([unsure, sure]), torch.cat([unsure, unsure])
    made = Generated(torch.tensor([[other, end, end], [other, other, end]]), both, None)
    assert signals_of(vlm, made, "margin", "answer") == [1.0, 1.0]
    made = Generated(torch.tensor([[end, end, end], [other, end, end]]), both, None)
    assert signals_of(vlm, made, "margin", "answer") == [9.0, 9.0]
    assert signals_of(vlm, made, "margin", "first") == [9.0, 9.0]
