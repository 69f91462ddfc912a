"""Skipping layers of encoders and of encoder-decoders: fast as plain, and as made by hand."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    EncoderDecoderCache,
    StaticCache,
)

from tests.vlm_bridge.families.stacks import CASES, L, StackCase, by_hand, plans_of
from tests.vlm_bridge.skip_cases import assert_close, forward
from vlm_bridge.cost import count_flops
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping, supported_modes

BOTH = [case for case in CASES if case.name in ("Whisper", "mBART")]


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def label(value):
    return f"{value.name}/{value.stack}" if isinstance(value, StackCase) else value.describe()


def cells():
    """Every case with every plan it supports; BART's norms come after its residual sums."""
    for case, number in product(CASES, range(len(plans_of("decoder")))):
        plan = plans_of(case.stack)[number]
        if case.name == "BART" and plan.mode != "block":
            continue
        yield pytest.param(case, plan, id=f"{label(case)}: {label(plan)}")


matrix = pytest.mark.parametrize(("case", "plan"), list(cells()))


def run(case, plan, n, *, fast=True, **options):
    with skipping(case.vlm, plan, fast=fast):
        return forward(case.vlm, {**case.inputs(n), **case.decoder_ids(n)}, **options).logits


def generated(case, plan, n, *, fast=True):
    vlm, tokens = case.vlm, 5
    options = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    with skipping(vlm, plan, fast=fast), torch.no_grad():
        made = vlm.model.generate(**case.inputs(n), **options)
    return made.sequences, torch.stack(made.logits)


@matrix
def test_fast_plain_and_by_hand(case, plan):
    inputs = {**case.inputs(2), **case.decoder_ids(2)}
    full = forward(case.vlm, inputs, use_cache=False).logits
    fast, plain = (run(case, plan, 2, fast=fast, use_cache=False) for fast in (True, False))
    assert_close(fast, plain)
    assert_close(fast, forward(by_hand(case, plan), inputs, use_cache=False).logits)
    assert (fast - full).abs().max() > 1e-3
    assert torch.equal(forward(case.vlm, inputs, use_cache=False).logits, full)


@matrix
@pytest.mark.parametrize("n", [1, 3])
def test_generation(case, plan, n):
    (fast, fast_logits), (plain, plain_logits) = (
        generated(case, plan, n, fast=fast) for fast in (True, False)
    )
    assert torch.equal(fast, plain)
    assert_close(fast_logits, plain_logits)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_skipped_parts_are_not_computed(case):
    stack = case.vlm.layout.stack(case.stack)
    ran = []
    inputs = {**case.inputs(1), **case.decoder_ids(1)}
    handles = [
        part.register_forward_hook(lambda *_, at=(index, name): ran.append(at))
        for index, layer in enumerate(stack.layers)
        for name, part in layer.named_modules()
        if isinstance(part, torch.nn.Linear)
    ]
    full = count_flops(lambda: forward(case.vlm, inputs, use_cache=False))
    ran.clear()
    with skipping(case.vlm, SkipPlan("block", L, layers=(1, 2), stack=case.stack)):
        skipped = count_flops(lambda: forward(case.vlm, inputs, use_cache=False))
    for handle in handles:
        handle.remove()
    assert {index for index, _ in ran} == {0, 3}
    assert skipped < full


@pytest.mark.parametrize("case", BOTH, ids=label)
@pytest.mark.parametrize("fast", [True, False])
def test_decoding_with_a_cache_is_decoding_without(case, fast):
    for plan in plans_of(case.stack):
        whole = run(case, plan, 2, fast=fast, use_cache=False)
        vlm, ids = case.vlm, case.decoder_ids(2)["decoder_input_ids"]
        with skipping(vlm, plan, fast=fast):
            cache, found = None, []
            for chunk in ids.split((3, 2, 1), dim=1):
                given = {**case.inputs(2), "decoder_input_ids": chunk}
                output = forward(vlm, given, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                found.append(output.logits)
                assert cache.get_seq_length() == sum(part.shape[1] for part in found)
            encoded = 8 if case.name == "Whisper" else 7
            cross = cache.cross_attention_cache.layers
            assert [layer.get_seq_length() for layer in cross] == [encoded] * L
        assert_close(torch.cat(found, dim=1), whole)


@pytest.mark.parametrize("stack", ["audio", "decoder"])
def test_a_static_cache(stack):
    """Of Whisper, the states of whose encoder fill the cache exactly."""
    case = StackCase("Whisper", stack)
    given = {**case.inputs(2), **case.decoder_ids(2)}
    for plan in plans_of(stack):
        with skipping(case.vlm, plan):
            cache = EncoderDecoderCache(
                *(StaticCache(case.vlm.model.config, max_cache_len=n) for n in (12, 8))
            )
            found = forward(case.vlm, given, past_key_values=cache, use_cache=True).logits
        assert_close(found, run(case, plan, 2, use_cache=False))


@pytest.mark.parametrize("case", BOTH, ids=label)
def test_a_cache_belongs_to_its_plan(case):
    vlm, given = case.vlm, {**case.inputs(1), **case.decoder_ids(1)}
    one, two = (SkipPlan("block", L, layers=(i,), stack=case.stack) for i in (1, 2))
    full = forward(vlm, given, use_cache=True).past_key_values
    with skipping(vlm, one):
        filled = forward(vlm, given, use_cache=True).past_key_values
        with refused("this cache was filled by the full model"):
            forward(vlm, given, past_key_values=full)
    with skipping(vlm, two), refused("this cache was filled under another plan"):
        forward(vlm, given, past_key_values=filled)
    with skipping(vlm, one, fast=False), refused("filled by the fast form of its plan"):
        forward(vlm, given, past_key_values=filled)


@pytest.mark.parametrize("name", ["Whisper", "mBART", "LLaVA", "Qwen2-Audio"])
def test_several_stacks_at_once(name):
    case = next(case for case in CASES if case.name == name)
    blocked = SkipPlan("block", L, layers=(1,), stack=case.stack)
    half = SkipPlan("sublayer", L, attention=(0,), mlp=(2,))
    both = SkipPlan.compose(blocked, half)
    fast, plain = (generated(case, both, 2, fast=fast) for fast in (True, False))
    assert torch.equal(fast[0], plain[0])
    assert_close(fast[1], plain[1])
    for one in (blocked, half):
        assert (generated(case, one, 2)[1] - fast[1]).abs().max() > 1e-3


def test_a_plan_of_an_encoder_acts_where_its_layers_run():
    case = CASES[0]
    pixels = case.inputs(1)["pixel_values"]
    features = case.vlm.layout.base.get_image_features
    with torch.no_grad():
        full = features(pixels).pooler_output[0]
        with skipping(case.vlm, plans_of("vision")[0]):
            skipped = features(pixels).pooler_output[0]
        assert torch.equal(features(pixels).pooler_output[0], full)
    assert (skipped - full).abs().max() > 1e-3


@pytest.mark.parametrize("case", CASES, ids=label)
def test_modes_of_a_stack(case):
    after = {mode for mode, reason in supported_modes(case.vlm, case.stack).items() if not reason}
    assert after == ({"block"} if case.name == "BART" else {"block", "sublayer"})
    with torch.device("meta"):
        meta = VLM.of(case.name, type(case.vlm.model)(case.vlm.model.config), None)
    assert supported_modes(meta, case.stack) == supported_modes(case.vlm, case.stack)


# Refusals


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_norms_after_the_sum(stack):
    case = StackCase("BART", stack)
    with refused("is not the identity when its attention and its MLP return zero"):
        run(case, SkipPlan("sublayer", L, mlp=(1,), stack=stack), 1)


@pytest.mark.parametrize(
    ("case", "plan", "message"),
    [
        (CASES[0], SkipPlan("block", L, stack="audio"), "has no stack 'audio'; it has vision, dec"),
        (CASES[0], SkipPlan("block", 3, stack="vision"), "3 layers, the vision encoder has 4"),
        (CASES[8], SkipPlan("block", L, stack="encoder"), "no stack 'encoder'; it has audio, dec"),
        (
            CASES[8],
            SkipPlan("freeze", L, layers=(1,)),
            "its decoder reads no image, video or audio tokens: 'freeze' skips those",
        ),
        (
            CASES[8],
            SkipPlan("early_exit", L, exit=1),
            "its decoder reads no image, video or audio tokens: 'early_exit' skips those",
        ),
    ],
)
def test_refusals(case, plan, message):
    with refused(message), skipping(case.vlm, plan):
        pass


def test_t5_hands_on_a_position_bias():
    """Its layers return a bias that the first computes, and stand in another list."""
    config = AutoConfig.for_model("t5", d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config)
    with refused("T5ForConditionalGeneration: found no list of decoder layers"):
        VLM.of("t5", model, None)


def test_replaced_layers_are_refused():
    case = CASES[0]
    vlm = by_hand(case, SkipPlan("block", L, stack="vision"))
    layers = vlm.layout.stack("vision").layers
    tower = next(m for m in vlm.model.modules() if getattr(m, "layers", None) is layers)
    tower.layers = torch.nn.ModuleList(layers[:2])
    with refused("the vision encoder of LLaVA was replaced after it was loaded"):
        with skipping(vlm, plans_of("vision")[0]):
            pass
