"""Models that hear, and text-only models: fast = plain in every mode that they have.

Logits to 1e-4 in float32 and greedy tokens exactly, padded and not, with and without cache; the
other modes are refused by name. The models are tiny and random, their classes are the real ones.
"""

from __future__ import annotations

import itertools
import re

import pytest
import torch

from tests.vlm_bridge.families.configs import AUDIO, IMAGE
from tests.vlm_bridge.families.hearing import EVERY, HEARING, PROMPTS, TEXT_ONLY, hearing, inputs_of
from tests.vlm_bridge.families.plans import PLANS
from tests.vlm_bridge.skip_cases import assert_close, forward
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping, supported_modes

L = 4
EXIT, FREEZE = SkipPlan("early_exit", L, exit=2), SkipPlan("freeze", L, layers=(1, 2))
BLOCK = SkipPlan("block", L, layers=(1,))
EVERYWHERE = ("block", "sublayer")
CELLS = [
    pytest.param(*cell, marks=() if cell[2] == "sdpa" else pytest.mark.slow)
    for cell in itertools.product(EVERY, PLANS, ("sdpa", "eager"))
    if cell[0] in HEARING or cell[1] in EVERYWHERE
]


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def said(vlm, inputs):
    """Logits without and with cache, and four greedy tokens, as one pass after another gives."""
    greedy = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=4, min_new_tokens=4)
    real = inputs["attention_mask"].bool()
    logits = [forward(vlm, inputs, use_cache=use).logits[real] for use in (False, True)]
    return logits, greedy


@pytest.mark.parametrize(("name", "mode", "attention"), CELLS)
def test_fast_equals_plain(name, mode, attention):
    vlm = hearing(name, attention)
    for plan, situation in itertools.product(PLANS[mode], PROMPTS):
        inputs = inputs_of(name, situation)
        with skipping(vlm, plan, fast=False):
            plain, tokens = said(vlm, inputs)
        with skipping(vlm, plan):
            fast, again = said(vlm, inputs)
        for a, b in itertools.product(plain, fast):
            assert_close(a, b)
        assert torch.equal(tokens, again)


@pytest.mark.parametrize("name", EVERY)
def test_the_plans_matter(name):
    """A skip that changed nothing would pass every comparison of fast with plain."""
    vlm, inputs = hearing(name), inputs_of(name, "padded")
    real = inputs["attention_mask"].bool()
    full = forward(vlm, inputs).logits[real]
    for mode, plan in ((mode, plan) for mode, plans in PLANS.items() for plan in plans):
        if name in HEARING or mode in EVERYWHERE:
            with skipping(vlm, plan, fast=False):
                skipped = forward(vlm, inputs).logits[real]
            assert (full - skipped).abs().max() > 1e-2, plan.describe()


@pytest.mark.parametrize("name", HEARING)
def test_what_hears_has_every_mode(name):
    assert supported_modes(hearing(name)) == dict.fromkeys(MODES, "")
    assert hearing(name).layout.modality == ("vision and audio" if "Omni" in name else "audio")


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_a_text_only_model_has_the_modes_of_every_token(name):
    vlm = hearing(name)
    modes = supported_modes(vlm)
    assert [mode for mode, why in modes.items() if not why] == list(EVERYWHERE)
    for mode in set(MODES) - set(EVERYWHERE):
        with (
            refused(
                f"{type(vlm.model).__name__}: {mode} is refused: its decoder reads no image, "
                f"video or audio tokens: '{mode}' skips those; use block or sublayer"
            ),
            skipping(vlm, PLANS[mode][0]),
        ):
            pass


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_a_text_only_model_runs_on_embeddings_too(name):
    vlm, inputs = hearing(name), inputs_of(name, "padded")
    embeddings = vlm.model.get_input_embeddings()(inputs["input_ids"])
    if name == "Gemma3":  # its table scales
        assert embeddings.abs().max() > 1
    with skipping(vlm, BLOCK):
        right = forward(vlm, inputs).logits
        rest = {"attention_mask": inputs["attention_mask"], "inputs_embeds": embeddings}
        assert torch.equal(forward(vlm, rest).logits, right)


@pytest.mark.parametrize("plan", [FREEZE, EXIT], ids=lambda plan: plan.mode)
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", HEARING)
def test_an_audio_id_without_sound_is_text(name, plan, fast):
    """As when the model itself generates one."""
    vlm, inputs = hearing(name), {"input_ids": torch.tensor([[15, AUDIO, AUDIO, 17]])}
    full = forward(vlm, inputs).logits
    with skipping(vlm, plan, fast=fast):
        assert_close(forward(vlm, inputs).logits, full)


@pytest.mark.parametrize("plan", [FREEZE, EXIT], ids=lambda plan: plan.mode)
@pytest.mark.parametrize("name", HEARING)
def test_a_generated_audio_id_is_text(name, plan):
    """A model made to say nothing else goes on as after a word with that embedding."""
    vlm, inputs, word = hearing(name), inputs_of(name, "single"), 20
    table = vlm.model.get_input_embeddings().weight
    options = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad(), skipping(vlm, plan):
        before = table[word].clone()
        table[word] = table[AUDIO]
        said = [
            vlm.model.generate(
                **inputs, **options, suppress_tokens=[i for i in range(len(table)) if i != token]
            )
            for token in (AUDIO, word)
        ]
        table[word] = before
    assert said[0].sequences[0, -4:].tolist() == [AUDIO] * 4
    assert said[1].sequences[0, -4:].tolist() == [word] * 4
    assert_close(*(torch.stack(one.logits) for one in said))


@pytest.mark.parametrize("plan", [FREEZE, EXIT], ids=lambda plan: plan.mode)
def test_sounds_without_a_place(plan):
    vlm, inputs = hearing("Voxtral"), inputs_of("Voxtral", "single")
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == AUDIO, 20)
    with (
        skipping(vlm, plan),
        refused(
            "called with input_features, but none of its input_ids is one of its audio tokens [5]"
        ),
    ):
        forward(vlm, inputs)


def test_images_and_sounds_are_told_apart():
    """In a pass with an image alone a typed audio token is text, and the other way round."""
    vlm, inputs = hearing("Qwen2.5-Omni"), inputs_of("Qwen2.5-Omni", "single")
    ids, flags = inputs["input_ids"], []
    for names in (["pixel_values"], ["input_features"], ["pixel_values", "input_features"]):
        with skipping(vlm, EXIT) as tracker:
            flags.append(tracker._places(ids, names))
    assert torch.equal(flags[0], ids == IMAGE)
    assert torch.equal(flags[1], ids == AUDIO)
    assert torch.equal(flags[2], (ids == IMAGE) | (ids == AUDIO))
    for missing, kind in ((IMAGE, "pixel_values"), (AUDIO, "input_features")):
        lost = {**inputs, "input_ids": ids.masked_fill(ids == missing, 20)}
        with skipping(vlm, EXIT), refused(f"called with {kind}, but none of its input_ids"):
            forward(vlm, lost)


def test_an_exit_before_the_first_layer_is_deaf():
    """Two sounds give the same answer, as without sound tokens in any layer."""
    vlm, inputs = hearing("Voxtral"), inputs_of("Voxtral", "single")
    other = {**inputs, "input_features": inputs["input_features"].flip(-1)}
    assert (forward(vlm, inputs).logits - forward(vlm, other).logits).abs().max() > 1e-2
    with skipping(vlm, SkipPlan("early_exit", L, exit=0)):
        a, b = (forward(vlm, each).logits[:, -1] for each in (inputs, other))
    assert torch.equal(a, b)


def test_words_for_what_is_skipped():
    plans = [EXIT, FREEZE, SkipPlan("token_pruning", L, after=1, keep=0.5)]
    assert [plan.describe(hearing("Voxtral").layout.modality) for plan in plans] == [
        "audio tokens leave after layer 1 (early_exit, 4 layers)",
        "freeze audio tokens in layers 1-2 (2 of 4)",
        "keep 50% of audio tokens in layers >= 1 (token_pruning, 4 layers)",
    ]
    both = hearing("Qwen2.5-Omni").layout.modality
    assert FREEZE.describe(both) == "freeze vision and audio tokens in layers 1-2 (2 of 4)"
    vlm, inputs = hearing("Voxtral"), inputs_of("Voxtral", "single")
    with skipping(vlm, EXIT):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    with skipping(vlm, FREEZE), refused("under another plan (audio tokens leave after layer 1"):
        forward(vlm, {"input_ids": torch.tensor([[20]])}, past_key_values=cache)
