"""Token by token: each token is the plan's or the full model's, by the rule written out plainly."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TextStreamer

import vlm_bridge as vb
from tests.vlm_bridge.families import FAMILIES, FULL, SITUATIONS, batch, tiny
from tests.vlm_bridge.tiny import batch as llava_batch
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.adaptive import OWN_SIGNALS, AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.by_token import generate_by_token
from vlm_bridge.skip.prefix import complete_inputs_of_rows
from vlm_bridge.skip.token_signal import token_signal

L = 4
BLOCK = SkipPlan("block", L, layers=(1,))
SOME = SkipPlan("sublayer", L, attention=(0,), mlp=(2, 3))
END = 1


def gate(plan=BLOCK, threshold=0.5, signal="margin"):
    return Gate(plan, signal, threshold, over="token")


def greedy(vlm, inputs, tokens):
    """The answers of `generate`, each up to its end of text."""
    made = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
    rows = made[:, inputs["input_ids"].shape[1] :].tolist()
    stops = [row.index(END) if END in row else tokens for row in rows]
    return tuple(tuple(r[: stop + 1]) for r, stop in zip(rows, stops, strict=True))


@contextlib.contextmanager
def without(vlm, plan):
    """The model without the layers of a block plan: each gives back what it is given."""
    layers = [vlm.layout.layers[index] for index in plan.layers]
    for layer in layers:
        layer.forward = lambda hidden_states, *_, **__: hidden_states
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@torch.no_grad()
def by_hand(vlm, inputs, gate, longest):
    """One prompt: whole passes over the text up to the last token of the full model, no crop.

    The tokens behind it are read by the model under the plan, one at a time, with what is cached of
    the full model before them.
    """
    pixels = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
    prompt = inputs["input_ids"]
    ids, by_plan, signals = prompt, [], []

    def full(ids, use_cache=False):
        return vlm.model(input_ids=ids, **pixels, use_cache=use_cache)

    ids = torch.cat([ids, full(ids).logits[:, -1].argmax(-1)[:, None]], 1)
    by_plan.append(False)
    synced = ids.shape[1] - 1  # the full model has read so many
    while int(ids[0, -1]) != END and len(by_plan) < longest:
        cache = full(ids[:, :synced], use_cache=True).past_key_values
        with without(vlm, gate.plan):
            for place in range(synced, ids.shape[1]):
                logits = vlm.model(
                    input_ids=ids[:, place : place + 1], past_key_values=cache, use_cache=True
                ).logits[:, -1]
        signals.append(token_signal(logits, gate.signal).item())
        sure = signals[-1] > gate.threshold
        token = (logits if sure else full(ids).logits[:, -1]).argmax(-1)
        if not sure:
            synced = ids.shape[1]
        by_plan.append(sure)
        ids = torch.cat([ids, token[:, None]], 1)
    return tuple(ids[0, prompt.shape[1] :].tolist()), tuple(by_plan), signals


@pytest.mark.parametrize(
    "name", [n if n in FULL else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES]
)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_where_no_token_stands_the_answers_are_those_of_generate(name, situation):
    """Rows of other lengths, padding, windows that are passed: the cache is the full model's."""
    family = FAMILIES[name]
    vlm, inputs = tiny(family), batch(family, SITUATIONS[situation])
    found = generate_by_token(vlm, inputs, gate(threshold=math.inf), max_new_tokens=12)
    assert found.tokens == greedy(vlm, inputs, 12)
    assert found.plan_share in (0.0, None)
    assert found.full_passes == found.plan_passes + 1


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 30),
    layers=st.sampled_from([(1,), (2,), (1, 3), (0, 1, 2, 3)]),
    signal=st.sampled_from(OWN_SIGNALS),
    quantile=st.floats(0.1, 0.9),
    longest=st.integers(1, 14),
)
def test_one_prompt_is_decided_as_by_hand(seed, layers, signal, quantile, longest):
    vlm, inputs = tiny_llava(seed=seed), llava_batch("single")
    open_gate = gate(SkipPlan("block", L, layers), -math.inf, signal)
    seen = generate_by_token(vlm, inputs, open_gate, max_new_tokens=longest).signals[0]
    # Half-way between two signals, so that rounding does not decide.
    ranked = sorted({*seen, -1.0, 1.0})
    place = int(quantile * (len(ranked) - 1))
    some = gate(open_gate.plan, (ranked[place] + ranked[place + 1]) / 2, signal)
    found = generate_by_token(vlm, inputs, some, max_new_tokens=longest)
    tokens, by_plan, signals = by_hand(vlm, inputs, some, longest)
    assert (found.tokens[0], found.by_plan[0]) == (tokens, by_plan)
    assert found.signals[0] == pytest.approx(signals, rel=1e-3, abs=1e-5)
    assert found.full_passes == 1 + by_plan[1:].count(False)
    assert found.plan_passes == len(tokens) - 1


@pytest.mark.parametrize("rows", ["padded", "ragged", "no image"])
@pytest.mark.parametrize("plan", [BLOCK, SOME], ids=["block", "sublayer"])
def test_rows_of_a_batch_are_judged_apart(rows, plan):
    """Where one catches up, the others keep what the plan has cached."""
    vlm, inputs = tiny_llava(seed=5), llava_batch(rows)
    vlm.model.generation_config.eos_token_id = None
    seen = generate_by_token(vlm, inputs, gate(plan, -math.inf), max_new_tokens=12)
    limit = sorted(value for row in seen.signals for value in row)[15]
    found = generate_by_token(vlm, inputs, gate(plan, limit), max_new_tokens=12)
    assert 0 < found.plan_share < 1
    for by_plan, signals in zip(found.by_plan, found.signals, strict=True):
        assert by_plan == (False, *(signal > limit for signal in signals))
    assert {len(row) for row in found.tokens} == {12}
    unsure = {i for row in found.by_plan for i, by in enumerate(row) if not by}
    assert found.full_passes == len(unsure)


@pytest.mark.parametrize(
    "name", [n if n in FULL else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES]
)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_families_answer_a_row_as_they_do_alone(name, situation):
    """Also past the window of Gemma 3, which is six tokens."""
    family = FAMILIES[name]
    vlm, inputs = tiny(family), batch(family, SITUATIONS[situation])
    seen = generate_by_token(vlm, inputs, gate(threshold=-math.inf), max_new_tokens=12).signals
    ranked = sorted(value for row in seen for value in row)
    limit = ranked[len(ranked) // 3] + 1e-5 if ranked else 0.5
    found = generate_by_token(vlm, inputs, gate(threshold=limit), max_new_tokens=12)
    for row, tokens in enumerate(found.tokens):
        one = complete_inputs_of_rows(inputs, [row], vlm)
        if one is None:
            pytest.skip("rows cannot be taken from these inputs")
        alone = generate_by_token(vlm, one, gate(threshold=limit), max_new_tokens=12)
        assert (alone.tokens[0], alone.by_plan[0]) == (tokens, found.by_plan[row])


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 30),
    layers=st.sampled_from([(1,), (2,), (1, 3)]),
    threshold=st.sampled_from([0.005, 0.02, 0.1, 0.5]),
)
def test_an_answer_does_not_depend_on_those_beside_it(seed, layers, threshold):
    vlm, inputs = tiny_llava(seed=seed), llava_batch("padded")
    some = gate(SkipPlan("block", L, layers), threshold)
    found = generate_by_token(vlm, inputs, some, max_new_tokens=10)
    n = len(inputs["input_ids"])
    assert n > 1
    for row in range(n):
        twice = {name: torch.stack([value[row]] * 2) for name, value in inputs.items()}
        alone = generate_by_token(vlm, twice, some, max_new_tokens=10)
        assert alone.tokens == (found.tokens[row],) * 2
        assert alone.by_plan == (found.by_plan[row],) * 2


class Heard(TextStreamer):
    def __init__(self):
        self.pieces, self.ended = [], False

    def put(self, value):
        self.pieces.append(value.flatten().tolist())

    def end(self):
        self.ended = True


@pytest.mark.parametrize("threshold", [-math.inf, 0.02, math.inf])
def test_a_streamer_gets_each_token_once(threshold):
    vlm, inputs = tiny_llava(seed=2), llava_batch("single")
    heard = Heard()
    found = generate_by_token(
        vlm, inputs, gate(threshold=threshold), max_new_tokens=9, streamer=heard
    )
    assert [i for piece in heard.pieces[1:] for i in piece] == list(found.tokens[0])
    assert heard.ended


def test_settings_of_generate_are_obeyed_by_plan_and_full_model():
    vlm, inputs = tiny_llava(seed=3), llava_batch("single")
    vlm.model.generation_config.eos_token_id = None
    for threshold in (-math.inf, math.inf):
        once = {**inputs, "no_repeat_ngram_size": 1}
        found = generate_by_token(vlm, once, gate(threshold=threshold), max_new_tokens=12)
        assert len(set(found.tokens[0])) == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do_sample": True}, "inputs sets do_sample=True, which a draft cannot follow"),
        ({"num_beams": 2}, "num_beams=2"),
        ({"max_new_tokens": 3}, r"generate_by_token\(..., max_new_tokens=...\)"),
        ({"inputs_embeds": torch.zeros(1, 2, 3)}, "needs input_ids"),
    ],
)
def test_what_cannot_be_done_is_refused(change, words):
    with pytest.raises(BridgeError, match=words):
        generate_by_token(tiny_llava(), {**llava_batch("single"), **change}, gate())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Gate(BLOCK), "a gate with over='token' is wanted"),
        (BLOCK, "over='token' is wanted"),
        (gate(SkipPlan("freeze", L, (1, 2))), "skips nothing of the tokens of an answer"),
        (gate(SkipPlan("block", 6, (1,))), "6 layers"),
    ],
)
def test_gates_that_judge_no_tokens_are_refused(wrong, words):
    with pytest.raises(BridgeError, match=words):
        generate_by_token(tiny_llava(), llava_batch("single"), wrong)


def test_a_plan_over_tokens_has_one_gate_and_no_agreement():
    with pytest.raises(BridgeError, match="the only one of its plan, got 2 gates"):
        AdaptivePlan((gate(), Gate(SOME)))
    with pytest.raises(BridgeError, match="agreement is of answers"):
        Gate(BLOCK, "agreement", 0.5, over="token", second=SOME)
    plan = AdaptivePlan((gate(threshold=0.25),))
    assert plan.by_token
    assert AdaptivePlan.from_json(plan.to_json()) == plan
    assert plan.describe() == (
        "skip layer 1 (1 of 4) at each token whose margin is above 0.25; else the full model"
    )


def test_public_name():
    assert vb.generate_by_token is generate_by_token
