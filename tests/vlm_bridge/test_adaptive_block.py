"""`with skipping(vlm, adaptive)`: rows decided apart have the tokens of their own model."""

from __future__ import annotations

import copy
import math
import statistics
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache

import vlm_bridge as vb
from tests.vlm_bridge.families import FAMILIES, FULL, batch, tiny
from tests.vlm_bridge.families.stacks import StackCase, model
from tests.vlm_bridge.skip_cases import BAND, EXIT, FREEZE, LATE, PRUNE
from tests.vlm_bridge.tiny import tiny_llava
from tests.vlm_bridge.words import Words
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import adaptive_answers
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.shared_run import SharedRun
from vlm_bridge.evaluate.signals import signals_of
from vlm_bridge.model.prompts import Batch, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.sureness import sureness_of

BLOCK = SkipPlan("block", 4, layers=(1, 3))
VISION = SkipPlan("block", 2, layers=(1,), stack="vision")
GREEDY = {"max_new_tokens": 5, "do_sample": False}
ALWAYS, NEVER = -math.inf, math.inf


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def inputs(vlm, pictures):
    """12 left-padded prompts of three lengths."""
    return collate(vlm, pictures, range(12)).inputs


def middle_of(vlm, plan, inputs):
    """A gate at which half of the rows stand, or one fewer."""
    run = SharedRun(vlm, some_batch(inputs), [plan], max_new_tokens=5)
    return Gate(
        plan, threshold=statistics.median(signals_of(vlm, run.ask(plan), "margin", "answer"))
    )


def some_batch(inputs):
    rows = range(len(inputs["input_ids"]))
    return Batch(tuple(Item(None, str(row)) for row in rows), tuple(rows), inputs)


def middle(vlm, items, plan):
    """A gate at which half of the answers stand."""
    gate = Gate(plan)
    known = FullAnswers("tiny", tuple(items), ("",) * len(items), max_new_tokens=5)
    signals = sureness_of(known, vlm, gate, batch_size=16).signals
    return replace(gate, threshold=float(np.median(signals)))


def generated(vlm, plan, inputs, **options):
    """By `generate` of the full model, or under one plan for all rows."""
    if plan is None:
        return vlm.model.generate(**inputs, **GREEDY, **options)
    with vb.skipping(vlm, plan):
        return vlm.model.generate(**inputs, **GREEDY, **options)


def rows_of(vlm, plans, gates, inputs):
    """The rows of each plan's own run, padded to the longest answer among them."""
    pad, length = vlm.model.generation_config.pad_token_id, inputs["input_ids"].shape[1]
    by_plan = [generated(vlm, plan, inputs) for plan in (*plans, None)]
    rows = [by_plan[gate][row].tolist() for row, gate in enumerate(gates)]
    ends = vlm.model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]

    def of_answer(row):
        tokens = row[length:]
        stop = next((i for i, token in enumerate(tokens, 1) if token in ends), len(tokens))
        return row[: length + stop]

    rows = [of_answer(row) for row in rows]
    longest = max(map(len, rows))
    return [row + [pad] * (longest - len(row)) for row in rows]


@pytest.mark.parametrize("plan", [BLOCK, FREEZE, LATE, BAND, PRUNE, VISION], ids=str)
def test_a_served_batch_of_mixed_decisions(vlm, pictures, inputs, plan):
    """Every row has the tokens of the model that gave it, in the shape of `generate`."""
    gate = middle(vlm, pictures, plan)
    with vb.skipping(vlm, AdaptivePlan((gate,))) as block:
        made = vlm.model.generate(**inputs, **GREEDY)
        gates = block.gates
    assert Counter(gates) == {0: 6, 1: 6}
    assert made.tolist() == rows_of(vlm, [plan], gates, inputs)
    assert made.dtype == inputs["input_ids"].dtype
    answers = adaptive_answers(vlm, pictures, AdaptivePlan((gate,)), max_new_tokens=5)
    assert answers.gates == gates


@pytest.mark.parametrize("threshold", [ALWAYS, NEVER])
def test_at_both_ends_it_is_generate(vlm, inputs, threshold):
    plan = AdaptivePlan((Gate(EXIT, threshold=threshold),))
    full, alone = generated(vlm, None, inputs), generated(vlm, EXIT, inputs)
    assert not torch.equal(full, alone)
    with vb.skipping(vlm, plan):
        made = vlm.model.generate(inputs["input_ids"], **_without_ids(inputs), **GREEDY)
    assert torch.equal(made, alone if threshold == ALWAYS else full)
    assert torch.equal(generated(vlm, None, inputs), full)


def _without_ids(inputs):
    return {name: value for name, value in inputs.items() if name != "input_ids"}


def test_a_chain_with_agreement_asks_no_plan_twice(vlm, pictures, inputs, monkeypatch):
    first = middle(vlm, pictures, EXIT)
    second = Gate(BLOCK, "agreement", 0.5, second=EXIT)
    asked, ask = [], SharedRun.ask
    monkeypatch.setattr(SharedRun, "ask", lambda run, plan: (asked.append(plan), ask(run, plan))[1])
    with vb.skipping(vlm, AdaptivePlan((first, second))) as block:
        made = vlm.model.generate(**inputs, **GREEDY)
    assert asked == [EXIT, BLOCK, None]
    assert set(block.gates) >= {0, 2}
    assert made.tolist() == rows_of(vlm, [EXIT, BLOCK], block.gates, inputs)


@pytest.mark.parametrize("name", [*FULL, "PaliGemma", "Qwen3-VL"])
def test_every_family_decides_rows_apart(name):
    """Padded rows with images of which the first row stands: patches, windows, DeepStack."""
    vlm = tiny(FAMILIES[name])
    inputs = batch(FAMILIES[name], ("ttIttttt", "Itttttttt", "tIt"))
    last = vlm.layout.n_layers - 1
    plan = SkipPlan("freeze", last + 1, layers=(last,))
    first = SkipPlan("early_exit", last + 1, exit=last)
    gates = (Gate(first, threshold=NEVER), middle_of(vlm, plan, inputs))
    with vb.skipping(vlm, AdaptivePlan(gates)) as block:
        made = vlm.model.generate(**inputs, **GREEDY)
    assert made.tolist() == rows_of(vlm, [first, plan], block.gates, inputs)


@pytest.mark.parametrize("last", [ALWAYS, NEVER])
@pytest.mark.parametrize("name", ["Qwen2.5-VL", "LLaVA"])
def test_where_rows_cannot_be_taken_apart_the_whole_batch_is_run(name, last):
    """Pruning starts from pixels; those of Qwen are patches of all images in one tensor."""
    vlm = tiny(FAMILIES[name])
    n = vlm.layout.n_layers
    plans = [SkipPlan("block", n, layers=(n - 1,)), SkipPlan("token_pruning", n, after=1, keep=0.5)]
    widths, stood = set(), set()
    vlm.layout.layers[0].mlp.register_forward_hook(lambda _, args, __: widths.add(len(args[0])))
    specs = ("ttIttttt", "Itttttttt", "tIt")
    for turn in range(3):
        inputs = batch(FAMILIES[name], specs[turn:] + specs[:turn])
        gates = (middle_of(vlm, plans[0], inputs), Gate(plans[1], threshold=last))
        widths.clear()
        with vb.skipping(vlm, AdaptivePlan(gates)) as block:
            made = vlm.model.generate(**inputs, **GREEDY)
        assert Counter(block.gates) == {0: 1, 1 if last == ALWAYS else 2: 2}
        if last == ALWAYS:
            assert widths == ({3} if name == "Qwen2.5-VL" else {3, 2})
        assert made.tolist() == rows_of(vlm, plans, block.gates, inputs)
        stood.add(block.gates.index(0))
    assert stood - {2}  # not only the last row, so that others have other places


@pytest.mark.slow
def test_answers_end_where_their_own_end(inputs):
    """A run may go on for a row that does not stand, and that the full model answers in fewer."""
    vlm, length, shorter = tiny_llava(), inputs["input_ids"].shape[1], 0
    for end, plan in product(range(4, len(vlm.tokenizer)), (EXIT, FREEZE, BLOCK)):
        vlm.model.generation_config.eos_token_id = end
        alone, full = generated(vlm, plan, inputs), generated(vlm, None, inputs)
        ended = [(each[:, length:] == end).any(1) for each in (alone, full)]
        rows = (ended[0] | ended[1]).nonzero()[:, 0].tolist()
        if ended[0].all() or len(rows) < 2:
            continue
        some = {name: value[rows] for name, value in inputs.items()}
        with vb.skipping(vlm, AdaptivePlan((middle_of(vlm, plan, some),))) as block:
            made = vlm.model.generate(**some, **GREEDY)
        assert made.tolist() == rows_of(vlm, [plan], block.gates, some)
        shorter += made.shape[1] < generated(vlm, plan, some).shape[1]
    assert shorter


def test_prompts_of_text_alone_and_one_row(vlm):
    ids = torch.tensor([[0, 7, 8], [5, 6, 9]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    for rows in ([0, 1], [1]):
        some = {name: value[rows] for name, value in inputs.items()}
        with vb.skipping(vlm, AdaptivePlan((Gate(BLOCK, threshold=NEVER),))) as block:
            made = vlm.model.generate(**some, **GREEDY)
        assert block.gates == (1,) * len(rows)
        assert torch.equal(made, generated(vlm, None, some))


def test_an_output_object_and_the_settings_of_the_model(vlm, inputs):
    plan = AdaptivePlan((Gate(EXIT, threshold=ALWAYS),))
    with vb.skipping(vlm, plan):
        made = vlm.model.generate(**inputs, **GREEDY, return_dict_in_generate=True, use_cache=True)
    assert torch.equal(made.sequences, generated(vlm, EXIT, inputs))
    held = copy.deepcopy(vlm)
    held.model.generation_config.max_new_tokens = 3
    with vb.skipping(held, plan):
        assert held.model.generate(**inputs).shape[1] <= inputs["input_ids"].shape[1] + 3


@pytest.mark.parametrize("own", [0, None])
def test_the_padding_that_the_model_has_may_be_named(inputs, own):
    """Without a token of its own, that is the end of an answer."""
    vlm = tiny_llava()
    config = vlm.model.generation_config
    config.pad_token_id, config.eos_token_id = own, 1
    pad = config.eos_token_id if own is None else own
    with vb.skipping(vlm, AdaptivePlan((middle_of(vlm, EXIT, inputs),))):
        made = vlm.model.generate(**inputs, **GREEDY, pad_token_id=pad)
        assert torch.equal(made, vlm.model.generate(**inputs, **GREEDY))
        with pytest.raises(BridgeError, match=f"asked for pad_token_id={pad + 5}"):
            vlm.model.generate(**inputs, **GREEDY, pad_token_id=pad + 5)


def test_without_a_cache_runs_start_from_the_beginning(pictures):
    """There are no keys behind which a run could start; before, image tokens had no features."""
    vlm = tiny_llava()
    full = vb.answer(vlm, pictures, max_new_tokens=1)
    vlm.model.generation_config.use_cache = False
    plan = AdaptivePlan((Gate(BLOCK, threshold=NEVER),))
    assert list(adaptive_answers(vlm, pictures, plan, max_new_tokens=1).texts) == full


def test_threads_take_turns(vlm, inputs):
    plan = AdaptivePlan((Gate(EXIT, threshold=ALWAYS),))
    alone = generated(vlm, EXIT, inputs)
    with vb.skipping(vlm, plan), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(lambda: vlm.model.generate(**inputs, **GREEDY)) for _ in range(3)]
        assert all(torch.equal(call.result(), alone) for call in calls)


# --- refusals -----------------------------------------------------------------------------------

REFUSED = {
    "do_sample": True,
    "num_beams": 2,
    "num_return_sequences": 2,
    "streamer": object(),
    "assistant_model": object(),
    "past_key_values": DynamicCache(),
    "inputs_embeds": torch.zeros(1, 2, 32),
    "generation_config": GenerationConfig(max_new_tokens=2),
    "stopping_criteria": [lambda ids, scores: True],
    "logits_processor": [lambda ids, scores: scores],
    "custom_generate": lambda *_, **__: None,
    "max_length": 30,
    "stop_strings": ["red"],
    "cache_implementation": "static",
    "pad_token_id": 7,
    "max_time": 1.0,
    "use_cache": False,
    "output_logits": True,
    "output_hidden_states": True,
    "repetition_penalty": 1.5,
    "eos_token_id": 7,
    "prompt_lookup_num_tokens": 3,
    "negative_prompt_ids": torch.zeros(1, 2),
    "no_such_thing": 1,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_more_than_greedy_tokens_is_refused_before_any_compute(
    vlm, inputs, monkeypatch, name
):
    monkeypatch.setattr(SharedRun, "ask", lambda *_: pytest.fail("ran"))
    given = {**inputs, "max_new_tokens": 2, name: REFUSED[name]}
    with vb.skipping(vlm, AdaptivePlan((Gate(EXIT),))):
        with pytest.raises(BridgeError, match=f"generate was asked for {name}=") as refused:
            vlm.model.generate(**given)
        assert "vb.adaptive_answers(vlm, items, plan)" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_new_tokens": None}, "give max_new_tokens"),
        ({"max_new_tokens": 0}, "at least 1 token"),
        ({"input_ids": None}, "needs input_ids of shape"),
        ({"input_ids": torch.zeros(3, dtype=torch.long)}, r"got a tensor of shape \(3,\)"),
        ({"attention_mask": [[1]]}, "attention_mask must be a tensor"),
        ({"inputs": torch.zeros(1, 2, dtype=torch.long)}, "pass one"),
    ],
)
def test_what_is_missing_is_said(vlm, inputs, change, says):
    with vb.skipping(vlm, AdaptivePlan((Gate(EXIT),))), pytest.raises(BridgeError, match=says):
        vlm.model.generate(**{**inputs, "max_new_tokens": 2, **change})


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("do_sample", True, "sets do_sample=True; pass do_sample=False"),
        ("num_beams", 3, "sets num_beams=3; pass num_beams=1"),
        ("penalty_alpha", 0.5, "penalty_alpha=0.5"),
    ],
)
def test_settings_of_the_model_that_are_not_greedy(inputs, setting, value, says):
    vlm = tiny_llava()
    setattr(vlm.model.generation_config, setting, value)
    with vb.skipping(vlm, AdaptivePlan((Gate(EXIT, threshold=ALWAYS),))):
        with pytest.raises(BridgeError, match=says):
            vlm.model.generate(**inputs, max_new_tokens=2)
        if setting != "penalty_alpha":
            vlm.model.generate(**inputs, **GREEDY | {"num_beams": 1, "max_new_tokens": 2})


def test_a_pass_and_a_second_plan_are_refused_and_the_model_is_restored(vlm, inputs, pictures):
    plan = AdaptivePlan((Gate(EXIT),))
    full = vlm.model(**inputs).logits
    with vb.skipping(vlm, plan):
        with pytest.raises(BridgeError, match="a single pass has none; call vlm"):
            vlm.model(**inputs)
        says = "as vb.answer .* only vlm.model.generate answers, .* outside the block, by vb.adapt"
        with pytest.raises(BridgeError, match=says):
            vb.answer(vlm, pictures[:2])
        with pytest.raises(BridgeError, match="runs under an adaptive plan already"):
            vb.skipping(vlm, plan).__enter__()
        with pytest.raises(BridgeError, match="cannot be copied"):
            copy.deepcopy(vlm.model)
    with vb.skipping(vlm, EXIT), pytest.raises(BridgeError, match="skipping at present"):
        vb.skipping(vlm, plan).__enter__()
    with pytest.raises(BridgeError, match="leave out fast=False"):
        vb.skipping(vlm, plan, fast=False).__enter__()
    with pytest.raises(BridgeError, match=r"bare LlavaFor\w+ .* make a VLM of it, vb.wrap\(model,"):
        vb.skipping(vlm.model, plan).__enter__()
    with pytest.raises(BridgeError, match="made for 9 layers"):
        vb.skipping(vlm, AdaptivePlan((Gate(SkipPlan("block", 9, layers=(8,))),))).__enter__()
    assert "generate" not in vlm.model.__dict__
    assert torch.equal(vlm.model(**inputs).logits, full)


def test_an_error_inside_frees_the_model(vlm, inputs):
    wrong = inputs | {"pixel_values": inputs["pixel_values"][:, :1]}
    with pytest.raises(RuntimeError), vb.skipping(vlm, AdaptivePlan((Gate(EXIT),))):
        vlm.model.generate(**wrong, **GREEDY)
    with vb.skipping(vlm, AdaptivePlan((Gate(EXIT, threshold=ALWAYS),))):
        made = vlm.model.generate(**inputs, **GREEDY)
    assert torch.equal(made, generated(vlm, EXIT, inputs))


def test_encoder_decoders_are_sent_to_the_verb():
    case = StackCase("Whisper", "audio")
    vlm = replace(VLM.of(case.name, model(case.name), None), processor=Words())
    plan = AdaptivePlan((Gate(SkipPlan("block", vlm.layout.n_layers, layers=(0,))),))
    with pytest.raises(BridgeError, match=r"is an encoder-decoder.*vb.adaptive_answers"):
        vb.skipping(vlm, plan).__enter__()
