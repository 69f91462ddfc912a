"""How a skipping model may be called: by wrappers and threads, copied, trained, generated from.

Each use is right, or refused by name before any compute.
"""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tests.vlm_bridge.families import FAMILIES, FULL, PLANS, SITUATIONS, batch, tiny
from tests.vlm_bridge.families.configs import IMAGE, VIDEO
from tests.vlm_bridge.families.more import Wrapper, blip2, ernie, hunyuan, phi4
from tests.vlm_bridge.families.table import build
from tests.vlm_bridge.skip_cases import assert_close, forward
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping, supported_modes
from vlm_bridge.skip.inputs import kind_of, modality_inputs
from vlm_bridge.skip.thin import Halves, try_halves
from vlm_bridge.skip.tracker import PassTracker

L = 4
BLOCK, FREEZE = SkipPlan("block", L, layers=(1,)), SkipPlan("freeze", L, layers=(1,))
EXIT, LATE = SkipPlan("early_exit", L, exit=2), SkipPlan("late_entry", L, entry=1)
PRUNE = SkipPlan("token_pruning", L, after=1, keep=0.5)
SUB = SkipPlan("sublayer", L, attention=(0, 3), mlp=(1,))
PROGRESSIVE = SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5), (3, 0.25)))
ALL = [BLOCK, FREEZE, EXIT, LATE, SUB, PRUNE, PROGRESSIVE]
LLAVA = FAMILIES["LLaVA"]
by_mode = pytest.mark.parametrize("plan", ALL, ids=lambda plan: plan.mode)


def first_fast(*names):
    """A parameter `name`: the first in the fast tier, the others in the slow one."""
    cells = [pytest.param(n, marks=pytest.mark.slow if i else ()) for i, n in enumerate(names)]
    return pytest.mark.parametrize("name", cells)


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def fresh(name="LLaVA", seed=0):
    """A model of its own, which a test may change."""
    return VLM.of(name, build.__wrapped__(FAMILIES[name].config, seed), None)


# Which positions hold vision


@pytest.mark.parametrize("plan", [FREEZE, EXIT, LATE, PRUNE], ids=lambda plan: plan.mode)
def test_pixels_under_another_name(plan):
    """Phi-4 calls them image_pixel_values, and its own decoder takes them."""
    vlm, inputs = phi4()
    full = forward(vlm, inputs).logits
    found = []
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            found.append(forward(vlm, inputs).logits)
    assert_close(*found)
    assert (found[0] - full).abs().max() > 1e-3


def test_pixels_are_told_from_what_describes_them():
    real, none = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.long)
    pixels = dict.fromkeys(("pixel_values", "resized_pixels", "image_patches", "views"), real)
    pixels |= {"pixel_values_videos": none, "high_res_pixel_values": [real, {"tile": real}]}
    names = (
        "image_sizes",
        "pixel_attention_mask",
        "image_grid_thw",
        "feature_attention_mask",
        "labels",
    )
    names += ("inputs_embeds", "attention_mask", "image_position_ids", "audio_feature_lengths")
    other = dict.fromkeys(names, real) | {"image_token_pooling": none, "empty": real[:0]}
    assert modality_inputs(pixels | other).keys() == pixels.keys()
    encoded = {"image": {"pooler_output": real}, "audio": {"pooler_output": real}}
    assert modality_inputs({"mm_encoder_outputs": encoded}).keys() == {"image", "audio"}
    sounds = dict.fromkeys(("input_features", "input_values", "audio_values", "speech"), real)
    assert {kind_of(name) for name in modality_inputs(sounds)} == {"audio"}
    assert [kind_of(name) for name in ("pixel_values", "pixel_values_videos")] == ["image", "video"]


@first_fast("Qwen2.5-VL", "LLaVA-OneVision", "Qwen2-VL")
def test_a_typed_video_token_is_text_beside_an_image(name):
    """It counts as the word with its embedding does."""
    vlm, inputs = fresh(name), batch(FAMILIES[name], SITUATIONS["single"])
    word = inputs["input_ids"][0, -2].item()
    with torch.no_grad():
        embedding = vlm.model.get_input_embeddings().weight
        embedding[VIDEO] = embedding[word]
    typed = {name: value.clone() for name, value in inputs.items()}
    typed["input_ids"][0, -2] = VIDEO
    for plan in (FREEZE, EXIT, SkipPlan("early_exit", L, exit=0)):
        with skipping(vlm, plan):
            assert_close(forward(vlm, typed).logits, forward(vlm, inputs).logits)


def test_vision_lies_at_the_ids_of_the_pixels_of_a_pass():
    ids = torch.tensor([[IMAGE, VIDEO, 9, 9]])
    layout = tiny(FAMILIES["LLaVA-OneVision"]).layout
    tracker = PassTracker(layout)
    assert tracker._places(ids, ["pixel_values"]).tolist() == [[True, False, False, False]]
    both = ["pixel_values", "pixel_values_videos"]
    assert tracker._places(ids, both).tolist() == [[True, True, False, False]]
    for kind in (IMAGE, VIDEO):  # GLM-4V's videos lie at image ids
        alone = ids.masked_fill(ids != kind, 9)
        assert torch.equal(tracker._places(alone, ["pixel_values_videos"]), alone == kind)
    with refused("called with pixel_values_videos and without images, but its input_ids hold im"):
        tracker._places(ids, ["pixel_values_videos"])
    no_videos = replace(tiny(LLAVA).layout, video_ids=(VIDEO,))  # as InstructBLIP-Video
    assert PassTracker(no_videos)._places(ids, ["pixel_values"]).sum() == 2


def test_pixels_by_position():
    vlm, inputs = tiny(LLAVA), batch(LLAVA, SITUATIONS["single"])
    with skipping(vlm, EXIT), torch.no_grad():
        named = vlm.model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"])
        placed = vlm.model(inputs["input_ids"], inputs["pixel_values"])
    assert torch.equal(named.logits, placed.logits)


def test_encoded_images():
    vlm, inputs = tiny(LLAVA), batch(LLAVA, SITUATIONS["single"])
    with torch.no_grad():
        features = vlm.layout.base.get_image_features(inputs["pixel_values"]).pooler_output
    encoded = {"image": BaseModelOutputWithPooling(pooler_output=features)}
    with skipping(vlm, EXIT):
        pixels = forward(vlm, inputs).logits
        del inputs["pixel_values"]
        assert_close(forward(vlm, inputs, mm_encoder_outputs=encoded).logits, pixels)


@pytest.mark.parametrize("plan", [FREEZE, EXIT, PRUNE], ids=lambda plan: plan.mode)
def test_pixels_without_a_place(plan):
    vlm, inputs = tiny(LLAVA), batch(LLAVA, SITUATIONS["single"])
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE, VIDEO)
    with (
        skipping(vlm, plan),
        refused(f"with pixel_values, but none of its input_ids is {[IMAGE]}"[:47]),
    ):
        forward(vlm, inputs)


# A pass ends


@by_mode
def test_a_decoder_called_directly_gets_no_earlier_pass(plan):
    vlm = tiny(LLAVA)
    one, two = (batch(LLAVA, (p,)) for p in ("ttIttttt", "tttttItt"))
    states = []
    hook = vlm.layout.decoder.register_forward_pre_hook(
        lambda _, __, kwargs: states.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    forward(vlm, two)
    hook.remove()
    if plan in (BLOCK, SUB):  # they ask for no positions
        return
    with skipping(vlm, plan):
        forward(vlm, one)
        with refused("the decoder was called directly"), torch.no_grad():
            vlm.layout.decoder(inputs_embeds=states[0])


def test_a_pass_that_fails_leaves_nothing_behind():
    vlm, inputs = tiny(LLAVA), batch(LLAVA, SITUATIONS["single"])

    def interrupt(*_):
        raise KeyboardInterrupt

    with skipping(vlm, EXIT) as tracker:
        right = forward(vlm, inputs).logits
        handle = vlm.layout.layers[2].register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            forward(vlm, inputs)
        handle.remove()
        with refused("the decoder was called directly"):
            _ = tracker.current
        assert torch.equal(forward(vlm, inputs).logits, right)


# Wrappers


def wrapped():
    """A model inside a wrapper that delegates, as PEFT's, and the wrapper's layout."""
    wrapper = Wrapper(fresh().model)
    return wrapper, VLM("wrapped", wrapper, None, find_layout(wrapper))


@pytest.mark.parametrize("plan", [FREEZE, EXIT, PRUNE], ids=lambda plan: plan.mode)
def test_a_wrapper_whose_generate_passes_its_forward_by(plan):
    wrapper, vlm = wrapped()
    one, two = batch(LLAVA, ("ttIttttt",)), batch(LLAVA, ("tttttItt",), seed=1)
    options = {"do_sample": False, "max_new_tokens": 3, "min_new_tokens": 3}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    with skipping(fresh(), plan):
        pass
    inner = VLM.of("inner", wrapper.base_model, None)
    with skipping(inner, plan):
        right = inner.model.generate(**two, **options).logits
    with skipping(vlm, plan), torch.no_grad():
        wrapper(**one)
        found = wrapper.generate(**two, **options).logits
    assert all(map(torch.equal, found, right))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about transformers
def test_peft():
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    wrapper = peft.get_peft_model(fresh().model, lora).eval()
    one, two = batch(LLAVA, ("ttIttttt",)), batch(LLAVA, ("tttttItt",), seed=1)
    vlm = VLM("peft", wrapper, None, find_layout(wrapper))
    inner = VLM.of("inner", wrapper.get_base_model(), None)
    for plan in ALL:
        with skipping(inner, plan):
            right = forward(inner, two).logits
        with skipping(vlm, plan):
            forward(vlm, one)
            assert_close(forward(vlm, two).logits, right)


def test_embeddings_that_generate_makes():
    """BLIP-2 gives its language model embeddings; the ids of its prompt tell where vision is."""
    vlm, inputs = blip2()
    for plan in (BLOCK, FREEZE, EXIT, PRUNE):
        found = []
        for fast in (True, False):
            with skipping(vlm, plan, fast=fast):
                logits = forward(vlm, inputs).logits
                said = vlm.model.generate(
                    **inputs, max_new_tokens=3, output_logits=True, return_dict_in_generate=True
                )
            assert_close(said.logits[0], logits[:, -1])
            found.append(torch.stack(said.logits))
        assert_close(*found)


def test_embeddings_alone_are_refused():
    vlm, inputs = tiny(LLAVA), batch(LLAVA, SITUATIONS["single"])
    embeddings = vlm.model.get_input_embeddings()(inputs["input_ids"])
    with skipping(vlm, EXIT), refused("must be called with input_ids"):
        vlm.model.generate(inputs_embeds=embeddings, max_new_tokens=2)


class Recorder:
    """As nnsight: in place of a forward, it notes what the forward returns."""

    def __init__(self, forward):
        self.forward = forward

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


@by_mode
@pytest.mark.parametrize("fast", [True, False])
def test_a_replaced_forward_would_see_a_part_of_the_layer(plan, fast):
    vlm = fresh()
    for layer in vlm.layout.layers:
        for module in (layer, layer.self_attn, layer.mlp):
            module.forward = Recorder(module.forward)
    with refused("was replaced by tests.vlm_bridge.test_skip_runtime.Recorder"):
        with skipping(vlm, plan, fast=fast):
            pass
    assert isinstance(vlm.layout.layers[0].forward, Recorder)


def test_nnsight():
    nnsight = pytest.importorskip("nnsight")
    vlm = fresh()
    nnsight.NNsight(vlm.model)
    with refused("replaced by nnsight"), skipping(vlm, EXIT):
        pass


def test_what_wraps_a_layer_inside_the_block_stays():
    vlm, inputs = fresh(), batch(LLAVA, SITUATIONS["single"])
    full = forward(vlm, inputs).logits
    layer = vlm.layout.layers[3]
    with skipping(vlm, EXIT):
        layer.forward = recorder = Recorder(layer.forward)
        forward(vlm, inputs)
    assert layer.forward is recorder
    assert torch.equal(forward(vlm, inputs).logits, full)


# Threads, copies, contexts


@first_fast("LLaVA", "Qwen2.5-VL")
@by_mode
def test_concurrent_passes(plan, name):
    family = FAMILIES[name]
    vlm = tiny(family)
    prompts = [("ttIttttt",), ("ItItt",), ("tIttttItt",), ("tttttttt",)]
    inputs = [batch(family, prompt, seed=seed) for seed, prompt in enumerate(prompts)]

    def run(number):
        return forward(vlm, inputs[number], use_cache=False).logits

    with skipping(vlm, plan):
        right = [run(number) for number in range(4)]
        with ThreadPoolExecutor(3) as pool:
            numbers = [n % 4 for n in range(60)]
            for number, found in zip(numbers, pool.map(run, numbers), strict=True):
                assert_close(found, right[number])


@by_mode
@pytest.mark.parametrize("fast", [True, False])
def test_a_skipping_model_is_not_copied(plan, fast):
    vlm = fresh()
    copies = [copy.deepcopy, lambda model: torch.save(model, io.BytesIO()), pickle.dumps]
    with skipping(vlm, plan, fast=fast):
        for make in copies:
            with refused("it cannot be copied or pickled; do that outside the block"):
                make(vlm.model)
        with refused("it cannot be copied or pickled"):
            copy.deepcopy(vlm.layout.layers)
    inputs = batch(LLAVA, SITUATIONS["single"])
    assert torch.equal(copy.deepcopy(vlm.model)(**inputs).logits, forward(vlm, inputs).logits)


def stance():
    return torch._dynamo.eval_frame._stance.stance


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_blocks_end_in_any_order(order):
    vlms = [fresh(seed=seed) for seed in (0, 1)]
    blocks = [skipping(vlm, BLOCK) for vlm in vlms]
    assert stance() == "default"
    for block in blocks:
        block.__enter__()
    for position, number in enumerate(order):
        assert stance() == "force_eager"
        blocks[number].__exit__(None, None, None)
        assert "forward" not in vlms[number].layout.layers[1].__dict__
        assert ("forward" in vlms[order[1]].layout.layers[1].__dict__) == (position == 0)
    assert stance() == "default"


def test_a_block_that_cannot_begin_changes_nothing():
    vlm = fresh()
    with refused("made for 5 layers"), skipping(vlm, SkipPlan("block", 5)):
        pass
    assert stance() == "default"
    with skipping(vlm, BLOCK):
        pass


# Positions of M-RoPE models


@first_fast("Qwen2.5-VL", "LLaVA", "Qwen2-VL", "Qwen3-VL")
@pytest.mark.parametrize("between", ["nothing", "another block", "a prompt", "the full model"])
def test_a_conversation_goes_on(name, between):
    family = FAMILIES[name]
    vlm, first = tiny(family), batch(family, SITUATIONS["single"])
    other = batch(family, ("IttIttI",), seed=3)
    more = torch.tensor([[7, 8, 9]])
    ids = torch.cat([first["input_ids"], more], dim=1)
    whole = {**first, **family.types(ids), "input_ids": ids}
    del whole["attention_mask"]
    plan = FREEZE
    with contextlib.ExitStack() as stack:
        stack.enter_context(skipping(vlm, plan))
        right = forward(vlm, whole).logits[:, -1]
        cache = forward(vlm, first, use_cache=True).past_key_values
        if between == "a prompt":
            forward(vlm, other)
        elif between != "nothing":
            stack.close()
            if between == "the full model":
                forward(vlm, other)
            stack.enter_context(skipping(vlm, plan))
        found = forward(vlm, {"input_ids": more}, past_key_values=cache).logits[:, -1]
    assert_close(found, right)


@first_fast("Qwen2.5-VL", "Qwen2-VL", "Qwen3-VL")
def test_the_full_model_goes_on_behind_a_block(name):
    family = FAMILIES[name]
    vlm, first = tiny(family), batch(family, SITUATIONS["single"])
    more = {"input_ids": torch.tensor([[7, 8, 9]])}
    caches = [forward(vlm, first, use_cache=True).past_key_values for _ in range(2)]
    right = forward(vlm, more, past_key_values=caches[0]).logits
    with skipping(vlm, EXIT):
        forward(vlm, batch(family, ("IttIttI",), seed=3))
    assert torch.equal(forward(vlm, more, past_key_values=caches[1]).logits, right)


# Generation


@first_fast("LLaVA", "SmolVLM")
@pytest.mark.parametrize("mode", PLANS)
def test_assisted_decoding_says_what_greedy_decoding_says(name, mode):
    family = FAMILIES[name]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["single"])
    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=40,
        pad_token_id=0,
    )
    draft = LlamaForCausalLM(config).eval()
    options = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
    options["suppress_tokens"] = [IMAGE, VIDEO]
    with skipping(vlm, PLANS[mode][0]):
        greedy = vlm.model.generate(**inputs, **options)
        assisted = vlm.model.generate(**inputs, **options, assistant_model=draft)
        looked_up = vlm.model.generate(**inputs, **options, prompt_lookup_num_tokens=2)
    assert torch.equal(assisted, greedy)
    assert torch.equal(looked_up, greedy)


@by_mode
def test_continuous_batching(plan):
    vlm, inputs = tiny(LLAVA), batch(LLAVA, ("ttttttt", "tttt"))
    with skipping(vlm, plan):
        with refused("continuous batching (paged attention) is not supported while layers are"):
            vlm.model.generate(**inputs, max_new_tokens=2, cache_implementation="paged")
        with refused("continuous batching (paged attention)"):
            vlm.model.generate_batch(inputs=inputs["input_ids"].tolist())


@pytest.mark.parametrize("plan", [EXIT, FREEZE, PRUNE], ids=lambda plan: plan.mode)
def test_attention_changed_inside_the_block(plan):
    vlm, inputs = fresh(), batch(LLAVA, SITUATIONS["single"])
    ran = []
    with skipping(vlm, plan):
        vlm.layout.base.vision_tower.register_forward_hook(lambda *_: ran.append(1))
        vlm.layout.text_config._attn_implementation_internal = "paged|sdpa"
        with refused("attention 'paged|sdpa' does not take a mask per query and key"):
            forward(vlm, inputs)
    assert not ran


# Training


@first_fast(*FULL)
@by_mode
def test_gradient_checkpointing(plan, name):
    vlm, inputs = fresh(name), batch(FAMILIES[name], SITUATIONS["single"])
    vlm.model.train()
    vlm.model.activation_checkpointing_enable()
    with skipping(vlm, plan):
        if plan in (BLOCK, SUB):
            vlm.model(**inputs, labels=inputs["input_ids"]).loss.backward()
            return
        with refused(f"{plan.mode} is refused: gradient checkpointing runs layer 0 again"):
            vlm.model(**inputs, labels=inputs["input_ids"])


@by_mode
def test_gradients_are_those_of_the_plain_form(plan):
    found = []
    for fast in (True, False):
        vlm, inputs = fresh(), batch(LLAVA, SITUATIONS["single"])
        with skipping(vlm, plan, fast=fast):
            vlm.model(**inputs, labels=inputs["input_ids"]).loss.backward()
        found.append(vlm.model.get_input_embeddings().weight.grad)
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)


# What the model gives out


@first_fast(*FULL)
@pytest.mark.parametrize("fast", [True, False])
def test_output_hidden_states_show_the_skip(name, fast):
    family = FAMILIES[name]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["single"])
    seen = (inputs["input_ids"] == IMAGE)[0]
    forward(vlm, inputs, output_hidden_states=True)  # installs the hooks of transformers
    for plan, still in ((FREEZE, [1]), (LATE, [0]), (EXIT, [2]), (BLOCK, [1])):
        with skipping(vlm, plan, fast=fast):
            states = forward(vlm, inputs, output_hidden_states=True).hidden_states
        assert len(states) == L + 1
        for layer in still:
            assert torch.equal(states[layer + 1][0, seen], states[layer][0, seen]), plan.mode


@by_mode
def test_output_attentions_have_an_entry_per_layer(plan):
    vlm, inputs = tiny(LLAVA, "eager"), batch(LLAVA, SITUATIONS["single"])
    found = []
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            found.append(forward(vlm, inputs, output_attentions=True).attentions)
    for quick, plain in zip(*found, strict=True):
        if quick.shape == plain.shape:
            assert_close(quick, plain)
    skipped = {BLOCK: [1], SUB: [0, 3]}.get(plan, [])
    for layer in skipped:
        assert not found[0][layer].any()


# Families


@pytest.mark.parametrize("make", [hunyuan, ernie], ids=lambda make: make.__name__)
def test_families_with_odd_layers(make):
    vlm, inputs = make()
    n_vision = int(inputs["mm_token_type_ids"].sum())
    features = torch.randn(n_vision, 32, generator=torch.Generator().manual_seed(1))
    grid = torch.tensor([[1, 4, 4]])
    modes = supported_modes(vlm)
    for plan in ALL:
        if modes[plan.mode]:
            continue
        found = []
        for fast in (True, False):
            encoded = {"image": BaseModelOutputWithPooling(pooler_output=[features])}
            with skipping(vlm, plan, fast=fast):
                found.append(
                    forward(vlm, inputs, mm_encoder_outputs=encoded, image_grid_thw=grid).logits
                )
        assert_close(*found)
    if make is hunyuan:
        assert not any(modes.values())
    else:
        by_sublayer = ["vision_attention", "vision_mlp", "sublayer"]
        assert [mode for mode, reason in modes.items() if reason] == by_sublayer


def test_what_an_opt_layer_cannot_skip():
    vlm, _ = blip2()
    modes = supported_modes(vlm)
    for mode in ("sublayer", "vision_attention", "vision_mlp"):
        assert modes.pop(mode) == (
            "layer 0: OPTDecoderLayer has no single module that is its MLP (beside attention: fc1, "
            "fc2), so its output cannot be skipped"
        )
    assert not any(modes.values())


# Frozen layers make keys and values only


def test_a_frozen_layer_runs_no_projection_twice():
    """Queries, outputs and MLPs are made of text rows, keys and values once of all rows."""
    vlm, inputs = fresh(), batch(LLAVA, SITUATIONS["single"])
    layer, rows = vlm.layout.layers[1], {}
    attention = layer.self_attn
    parts = {name: getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    for name, part in {**parts, "mlp": layer.mlp}.items():
        run = part.forward
        rows[name] = []

        def counted(self, states, name=name, run=run):
            rows[name].append(states.shape[1])
            return run(states)

        part.__class__ = type("Counted", (type(part),), {"forward": counted})
    forward(vlm, inputs)  # a full pass, to see that it counts
    assert set(map(tuple, rows.values())) == {(11,)}
    with skipping(vlm, FREEZE):  # has tried whether its attention can be halved
        for counts in rows.values():
            counts.clear()
        forward(vlm, inputs)
    assert rows == {"q_proj": [7], "k_proj": [11], "v_proj": [11], "o_proj": [7], "mlp": [7]}


class FusedAttention(nn.Module):
    """Scales its keys by its queries, row by row: keys without queries would be others."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.layer_idx, self.head_dim = inner, inner.layer_idx, inner.head_dim
        self.q_proj, self.k_proj, self.v_proj = inner.q_proj, inner.k_proj, inner.v_proj

    def forward(self, hidden_states, past_key_values=None, **kwargs):
        scale = 1 + self.q_proj(hidden_states).mean(-1)[:, None, :, None]

        class Scaled:
            def update(self, keys, values, *rest):
                keys = keys * scale
                return (
                    (keys, values)
                    if past_key_values is None
                    else past_key_values.update(keys, values, *rest)
                )

        return self.inner(hidden_states, past_key_values=Scaled(), **kwargs)


def test_attention_that_cannot_be_halved_runs_whole():
    vlm, inputs = tiny_llava(), batch(LLAVA, SITUATIONS["single"])
    vlm.layout.layers[1].self_attn = FusedAttention(vlm.layout.layers[1].self_attn)
    try_halves(vlm.layout, range(L))
    assert [bool(Halves(layer).replacements) for layer in vlm.layout.layers] == [1, 0, 1, 1]
    inputs = {**inputs, "input_ids": inputs["input_ids"].clamp(max=15)}
    plan = SkipPlan("freeze", L, layers=(1, 2))
    with skipping(vlm, plan):
        fast = forward(vlm, inputs, use_cache=False).logits
    with skipping(vlm, plan, fast=False):
        assert_close(fast, forward(vlm, inputs, use_cache=False).logits)


@pytest.mark.parametrize("mode", ["freeze", "early_exit", "token_pruning"])
def test_no_mask_is_open_where_attention_goes_both_ways(mode: str) -> None:
    """PaliGemma attends to the whole prompt, without a mask if no token types are given."""
    family = FAMILIES["PaliGemma"]
    vlm, plan = tiny(family), PLANS[mode][0]
    inputs = {k: v for k, v in batch(family, ("ttIttttt",)).items() if "type_ids" not in k}
    with torch.no_grad():
        full = vlm.model(**inputs, use_cache=False).logits
        with skipping(vlm, plan):
            fast = vlm.model(**inputs, use_cache=False).logits
        with skipping(vlm, plan, fast=False):
            plain = vlm.model(**inputs, use_cache=False).logits
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)
    assert (full - fast).abs().max() > 1e-3
