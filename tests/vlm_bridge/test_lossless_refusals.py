"""What lossless generation cannot do is refused by name, before any layer runs."""

from __future__ import annotations

import contextlib
import inspect
from functools import partial

import pytest
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    MaxLengthCriteria,
    StaticCache,
    StoppingCriteriaList,
)

import vlm_bridge as vb
from tests.vlm_bridge.families import SITUATIONS, UNLISTED, tiny
from tests.vlm_bridge.families import batch as family_batch
from tests.vlm_bridge.families.every import small
from tests.vlm_bridge.families.stacks import model as stack_model
from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan

#: Arguments that are no settings.
POSITIONAL = ("vlm", "inputs", "plan")
BLOCK = SkipPlan("block", 4, layers=(1,))


@contextlib.contextmanager
def nothing_runs(vlm):
    """No decoder layer is called in the block."""

    def called(*_):
        raise AssertionError("a layer ran")

    hooks = [layer.register_forward_pre_hook(called) for layer in vlm.layout.layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def refuse(vlm, inputs, plan=BLOCK, *, says, **options):
    with nothing_runs(vlm), pytest.raises(BridgeError, match=says):
        vb.generate_lossless(vlm, inputs, plan, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"draft_tokens": 0}, "draft_tokens is a whole number from 1, got 0"),
        ({"draft_tokens": -1}, "got -1"),
        ({"draft_tokens": 2.0}, "got 2.0"),
        ({"draft_tokens": True}, "got True"),
        ({"max_new_tokens": 0}, "max_new_tokens is a whole number from 1, got 0"),
        ({"do_sample": 1}, "do_sample is True or False, got 1"),
        ({"temperature": 0.7}, "of sampling; pass do_sample=True"),
        ({"do_sample": True, "temperature": 0.0}, "temperature is a number above 0, got 0.0"),
        ({"do_sample": True, "temperature": float("nan")}, "temperature is a number above 0"),
        ({"do_sample": True, "temperature": "hot"}, "got 'hot'"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is a share above 0, at most 1, got 1.5"),
        ({"do_sample": True, "top_p": 0}, "top_p is a share above 0"),
        ({"do_sample": True, "top_k": -3}, "top_k is a whole number from 0, got -3"),
    ],
)
def test_settings(options, says):
    refuse(tiny_llava(), batch("single"), says=says, **options)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (SkipPlan("block", 4), "the plan skips nothing"),
        (SkipPlan("block", 30, layers=(11,)), "30"),
        (
            SkipPlan("block", 4, layers=(1,), provenance=Provenance(model="x", fingerprint="0")),
            "x",
        ),
        ("block layers=9", "layer 9 is out of range"),
    ],
)
def test_plans(plan, says):
    refuse(tiny_llava(), batch("single"), plan, says=says)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"inputs_embeds": torch.zeros(1, 3, 32)}, "needs input_ids, got inputs_embeds"),
        ({"attention_mask": torch.ones(1, 3)}, "with input_ids None"),
        ({"input_ids": torch.tensor([5, 6])}, r"input_ids \(2,\)"),
        ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, r"input_ids \(1, 0\)"),
        (torch.tensor([[5, 6]]), "got 'Tensor' with input_ids None"),
        (None, "inputs is a mapping"),
    ],
)
def test_inputs(inputs, says):
    refuse(tiny_llava(), inputs, says=says)


def test_no_model():
    with pytest.raises(BridgeError, match="a model is wanted"):
        vb.generate_lossless("reference", batch("single"), BLOCK)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cache_implementation", "static"),
        ("cache_implementation", "offloaded"),
        ("use_cache", False),
        ("guidance_scale", 2.0),
        ("prompt_lookup_num_tokens", 3),
        ("stop_strings", ["a"]),
    ],
)
def test_generation_settings(setting, value):
    vlm = tiny_llava()
    setattr(vlm.model.generation_config, setting, value)
    refuse(vlm, batch("single"), says=setting)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("stopping_criteria", StoppingCriteriaList([MaxLengthCriteria(12)])),
        ("guidance_scale", 3.0),
        ("max_time", 0.0),
        ("max_length", 14),
        ("stop_strings", ["a"]),
        ("num_beams", 2),
        ("num_return_sequences", 2),
        ("prompt_lookup_num_tokens", 3),
        ("cache_implementation", "static"),
        ("use_cache", False),
        ("return_dict_in_generate", True),
        ("negative_prompt_ids", torch.tensor([[5]])),
        ("custom_generate", len),
        ("inputs", torch.tensor([[5]])),
    ],
)
def test_settings_in_the_inputs(setting, value):
    vlm, inputs = tiny_llava(), batch("single")
    refuse(vlm, {**inputs, setting: value}, says=f"inputs sets {setting}=.* a draft cannot follow")
    if setting in GenerationConfig().to_dict():
        config = GenerationConfig(eos_token_id=5, pad_token_id=0)
        setattr(config, setting, value)
        says = f"the generation_config in inputs sets {setting}="
        refuse(vlm, {**inputs, "generation_config": config}, says=says)


@pytest.mark.parametrize(
    "name", [n for n in inspect.signature(vb.generate_lossless).parameters if n not in POSITIONAL]
)
def test_arguments_in_the_inputs(name):
    inputs = {**batch("single"), name: None}
    refuse(tiny_llava(), inputs, says=f"inputs holds {name}; pass it as an argument")


def test_a_generation_config_of_another_type():
    inputs = {**batch("single"), "generation_config": {"num_beams": 2}}
    refuse(tiny_llava(), inputs, says="must be a GenerationConfig, got")


def test_caches():
    vlm, inputs = tiny_llava(), batch("no image")
    static = StaticCache(config=vlm.layout.text_config, max_cache_len=40)
    refuse(vlm, {**inputs, "past_key_values": static}, says="cache layer 0 is a StaticLayer")
    with vb.skipping(vlm, BLOCK), torch.no_grad():
        filled = vlm.model(
            input_ids=inputs["input_ids"][:, :3], past_key_values=DynamicCache()
        ).past_key_values
    refuse(vlm, {**inputs, "past_key_values": filled}, says="filled under another plan")


def test_streamer_of_a_batch():
    refuse(tiny_llava(), batch("padded"), says="one prompt, got a batch of 3", streamer=object())


def test_inside_a_block_of_skipping():
    vlm = tiny_llava()
    with vb.skipping(vlm, BLOCK), pytest.raises(BridgeError, match="is skipping at present"):
        vb.generate_lossless(vlm, batch("single"), BLOCK)


@pytest.mark.parametrize("name", ["Whisper", "BART"])
def test_encoder_decoders(name):
    model = stack_model(name)
    vlm = VLM.of(name, model, None)
    depth = vlm.layout.n_layers
    ids = {"input_ids": torch.tensor([[5, 6, 7]])}
    plan = SkipPlan("block", depth, layers=(0,))
    refuse(vlm, ids, plan, says="is an encoder-decoder")


@pytest.mark.parametrize("kind", ["qwen3_5", "lfm2_vl", "nemotron_h_omni", "mllama"])
def test_states_that_cannot_be_taken_back(kind):
    """Recurrent, convolutional and cross-attention layers, whichever layer is skipped."""
    vlm = VLM.of(kind, small(kind), None)
    layer = vlm.layout.attention_types.index("full_attention")
    plan = SkipPlan("block", 4, layers=(layer,))
    refuse(vlm, {"input_ids": torch.tensor([[21, 35, 40]])}, plan, says="cannot be taken back")


def test_chunked_attention():
    family = UNLISTED["Llama4"]
    vlm = tiny(family)
    refuse(vlm, family_batch(family, SITUATIONS["single"]), says="chunked_attention")


def test_a_generator_on_another_device():
    if not torch.cuda.is_available():
        pytest.skip("needs a second device")
    refuse(
        tiny_llava(),
        batch("single"),
        says="generator is on cuda",
        do_sample=True,
        generator=torch.Generator("cuda"),
    )


def test_a_broken_model():
    vlm = tiny_llava()
    with torch.no_grad():
        vlm.layout.layers[2].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(vb.BrokenModel, match="layer 2"):
        vb.generate_lossless(vlm, batch("single"), BLOCK)


def test_a_replaced_forward():
    vlm = tiny_llava()
    layer = vlm.layout.layers[1]
    layer.forward = partial(type(layer).forward, layer)
    refuse(vlm, batch("single"), says="was replaced")
