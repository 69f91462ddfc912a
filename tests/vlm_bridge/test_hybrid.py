"""Decoders whose layers differ in kind: recurrent, convolution, experts alone, cross-attention.

`block` holds for every kind: fast = plain, with and without a cache, padded and in chunks. The
other modes hold in the layers that are self-attention, and are refused by name elsewhere. The
models are tiny and random, their classes are the real ones.
"""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from transformers import AutoModelForMultimodalLM

from tests.vlm_bridge.families.every import encoded, on_meta, run, small
from tests.vlm_bridge.families.unlisted import gemma4
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.measure.suffix import FullPass
from vlm_bridge.skip import skipping
from vlm_bridge.skip.export import prune
from vlm_bridge.skip.knockout import knocking_out
from vlm_bridge.skip.support import supported_layers, supported_modes

#: Model type -> the kinds of its layers.
KINDS = {
    "qwen3_5": ("linear_attention",) * 3 + ("full_attention",),
    "lfm2_vl": ("conv", "conv", "full_attention", "conv"),
    "lfm3_vl": ("conv", "conv", "full_attention", "sliding_attention"),
    "nemotron_h_omni": ("linear_attention", "moe", "full_attention", "mlp"),
    "inkling_mm_model": ("hybrid_sliding",) * 3 + ("hybrid",),
    "dots3_note": ("indexed_attention",) * 2 + ("sliding_attention",) * 2,
    "mllama": ("full_attention",) * 3 + ("cross_attention",),
}
LAYERS = [(0,), (1,), (2,), (3,), (0, 3), (1, 2)]
IDS = torch.tensor([[21, 35, 40, 52, 23, 77, 30, 64, 91], [80, 33, 25, 47, 62, 28, 99, 41, 36]])
WHOLE, PADDED = torch.ones_like(IDS), torch.ones_like(IDS)
PADDED[0, :3] = 0

kinds = pytest.mark.parametrize("kind", KINDS)


@lru_cache
def tiny(kind: str) -> VLM:
    return VLM.of(kind, small(kind), None)


def greedy(vlm, mask, **options):
    inputs = {"input_ids": IDS, "attention_mask": mask}
    length = {"max_new_tokens": 4, "min_new_tokens": 4}
    return vlm.model.generate(**inputs, **length, do_sample=False, **options)


def in_chunks(vlm, mask, split=5):
    first = {"input_ids": IDS[:, :split], "attention_mask": mask[:, :split]}
    begun = run(vlm, first, use_cache=True)
    second = {"input_ids": IDS[:, split:], "attention_mask": mask}
    rest = run(vlm, second, use_cache=True, past_key_values=begun.past_key_values)
    return torch.cat([begun.logits, rest.logits], dim=1), rest.past_key_values


@kinds
def test_kinds_of_layers(kind):
    assert tiny(kind).layout.attention_types == KINDS[kind]


@kinds
def test_block_of_every_kind(kind):
    check_blocks(kind, PADDED, LAYERS[-2:])


@pytest.mark.slow
@kinds
@pytest.mark.parametrize("mask", [WHOLE, PADDED], ids=["whole", "padded"])
def test_block_of_every_layer(kind, mask):
    check_blocks(kind, mask, LAYERS)


def check_blocks(kind, mask, plans):
    vlm, real = tiny(kind), mask.bool()
    inputs = {"input_ids": IDS, "attention_mask": mask}

    def close(a, b):
        torch.testing.assert_close(a[real], b[real], atol=1e-4, rtol=1e-4)

    for layers in plans:
        plan = SkipPlan("block", 4, layers=layers)
        with skipping(vlm, plan, fast=False):
            whole = run(vlm, inputs, use_cache=False).logits
            tokens = greedy(vlm, mask)
            assert torch.equal(greedy(vlm, mask, use_cache=False), tokens)
        with skipping(vlm, plan):
            close(run(vlm, inputs, use_cache=False).logits, whole)
            close(run(vlm, inputs, use_cache=True).logits, whole)
            parts, cache = in_chunks(vlm, mask)
            close(parts, whole)
            assert cache.get_seq_length() == IDS.shape[1]
            assert torch.equal(greedy(vlm, mask), tokens)


@kinds
def test_the_blocks_matter(kind):
    """A skip that changed nothing would pass every comparison of fast with plain."""
    vlm = tiny(kind)
    inputs = {"input_ids": IDS, "attention_mask": WHOLE}
    full = run(vlm, inputs).logits
    for layer, of_kind in enumerate(KINDS[kind]):
        with skipping(vlm, SkipPlan("block", 4, layers=(layer,)), fast=False):
            skipped = run(vlm, inputs).logits
        # Without an image nothing runs there.
        assert ((full - skipped).abs().max() > 1e-3) == (of_kind != "cross_attention")


@pytest.mark.parametrize("kind", ["qwen3_5", "lfm3_vl", "nemotron_h_omni"])
def test_a_skipped_layer_leaves_no_state(kind):
    """Its place in the cache is one channel of zeros; the state of no other layer changes place."""
    vlm = tiny(kind)
    with skipping(vlm, SkipPlan("block", 4, layers=(0,))):
        cache = run(vlm, {"input_ids": IDS}, use_cache=True).past_key_values
    state = cache.layers[0].conv_states[0]
    assert state.shape == (2, 1, 1)
    assert not state.any()
    assert cache.has_previous_state(0)


def test_beams_go_on_with_a_skipped_recurrent_layer():
    vlm, plan = tiny("qwen3_5"), SkipPlan("block", 4, layers=(0, 2))
    with skipping(vlm, plan, fast=False):
        plain = greedy(vlm, PADDED, num_beams=3)
    with skipping(vlm, plan):
        assert torch.equal(greedy(vlm, PADDED, num_beams=3), plain)


OF_ATTENTION = {
    "qwen3_5": [
        SkipPlan("freeze", 4, layers=(3,)),
        SkipPlan("vision_attention", 4, layers=(3,)),
        SkipPlan("vision_mlp", 4, layers=(3,)),
        SkipPlan("sublayer", 4, attention=(3,)),
        SkipPlan("sublayer", 4, mlp=(3,)),
        SkipPlan("early_exit", 4, exit=3),
        SkipPlan("token_pruning", 4, after=3, keep=0.5, select="divprune"),
        SkipPlan.compose(SkipPlan("block", 4, layers=(0,)), SkipPlan("early_exit", 4, exit=3)),
    ],
    "lfm3_vl": [
        SkipPlan("freeze", 4, layers=(2, 3)),
        SkipPlan("vision_attention", 4, layers=(2,)),
        SkipPlan("vision_mlp", 4, layers=(3,)),
        SkipPlan("sublayer", 4, attention=(2,), mlp=(3,)),
        SkipPlan("early_exit", 4, exit=2),
        SkipPlan("token_pruning", 4, after=3, keep=0.5),
    ],
}


@pytest.mark.parametrize(
    ("kind", "plan"), [(kind, plan) for kind, plans in OF_ATTENTION.items() for plan in plans]
)
def test_other_modes_in_layers_of_self_attention(kind, plan):
    vlm = tiny(kind)
    inputs = encoded(vlm)
    following = {"input_ids": IDS[:1, :3]}
    found = []
    for fast in (False, True):
        with skipping(vlm, plan, fast=fast):
            whole = run(vlm, inputs, use_cache=False).logits
            begun = run(vlm, inputs, use_cache=True)
            rest = run(vlm, following, use_cache=True, past_key_values=begun.past_key_values)
            found.append((whole, begun.logits, rest.logits))
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)
    assert (found[0][0] - run(vlm, inputs, use_cache=False).logits).abs().max() > 1e-3


WHERE = "layer 0 (Qwen3_5DecoderLayer, linear_attention)"
REFUSED = [
    SkipPlan("freeze", 4, layers=(0, 3)),
    SkipPlan("sublayer", 4, mlp=(0,)),
    SkipPlan("late_entry", 4, entry=2),
    SkipPlan("band", 4, entry=1, exit=3),
]


@pytest.mark.parametrize("plan", REFUSED)
def test_a_kind_that_lacks_the_mode(plan):
    vlm = tiny("qwen3_5")
    with pytest.raises(BridgeError) as error, skipping(vlm, plan):
        pass
    assert str(error.value) == (
        f"Qwen3_5ForConditionalGeneration: {plan.mode} is refused: {WHERE} can only be skipped "
        f"whole, for all tokens (block); {plan.mode} is possible in layer 3"
    )


def test_token_pruning_that_reaches_a_recurrent_layer():
    vlm = tiny("nemotron_h_omni")
    plan = SkipPlan("token_pruning", 4, after=2, keep=0.5, select="divprune")
    with pytest.raises(BridgeError, match=r"layer 3 \(NemotronHBlock, mlp\) can only be skipped"):
        with skipping(vlm, plan):
            pass


@kinds
def test_block_is_the_mode_of_all_layers(kind):
    reasons = supported_modes(tiny(kind))
    assert [mode for mode in MODES if not reasons[mode]] == ["block"]


def test_cross_attention_leaves_no_position_to_skip():
    reason = supported_modes(tiny("mllama"))["freeze"]
    assert reason == (
        "it looks at the image through cross-attention, so that no position of its prompt holds "
        "image features, which 'freeze' skips; use block"
    )


def test_several_states_from_layer_to_layer():
    vlm = tiny("inkling2")
    with pytest.raises(BridgeError, match="passes more than one state of every token") as error:
        with skipping(vlm, SkipPlan("block", 4, layers=(1,))):
            pass
    assert "block_states" in str(error.value)


def test_layers_that_return_more_than_their_states():
    reason = supported_modes(tiny("mistral_large4"))["block"]
    assert reason.startswith(
        "MistralLarge4TextModel does not run if its layers return their hidden"
    )


@kinds
def test_without_weights(kind):
    """The modes are known before weights are read."""
    assert supported_modes(VLM.of(kind, on_meta(kind), None)) == supported_modes(tiny(kind))


# --- a model that looks at the image through cross-attention ----------------------------------


@lru_cache
def looking() -> tuple[VLM, dict[str, torch.Tensor]]:
    """Mllama with an encoded image of six states; the first token of the prompt names it."""
    vlm = tiny("mllama")
    states = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[vlm.layout.image_ids[0], 35, 40, 52, 23]])
    return vlm, {"input_ids": ids, "cross_attention_states": states}


@pytest.mark.parametrize("layers", [(3,), (0, 3), (1,)])
def test_block_beside_an_image(layers):
    vlm, inputs = looking()
    plan, following = SkipPlan("block", 4, layers=layers), {"input_ids": IDS[:1, :2]}
    full, found = run(vlm, inputs).logits, []
    for fast in (False, True):
        with skipping(vlm, plan, fast=fast):
            begun = run(vlm, inputs, use_cache=True)
            rest = run(vlm, following, use_cache=True, past_key_values=begun.past_key_values)
            found.append(torch.cat([begun.logits, rest.logits], dim=1))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)
    assert (found[0][:, :5] - full).abs().max() > 1e-3


def test_a_skipped_cross_attention_keeps_nothing():
    vlm, inputs = looking()
    full = run(vlm, inputs, use_cache=True).past_key_values
    with skipping(vlm, SkipPlan("block", 4, layers=(3,))):
        cache = run(vlm, inputs, use_cache=True).past_key_values
    assert full.get_seq_length(3) == 6
    assert cache.get_seq_length(3) == 0
    assert cache.get_seq_length() == 5


# --- layers that use the keys and values of earlier ones --------------------------------------

SHARED = ("sliding_attention", "full_attention", *("shared_keys",) * 2, *("reused_keys",) * 2)


@lru_cache
def sharing() -> VLM:
    """Gemma4 whose last two layers have no keys of their own, with inputs by layer."""
    config = gemma4()
    config.text_config.num_hidden_layers = 6
    config.text_config.layer_types = ["sliding_attention", "full_attention"] * 3
    config.text_config.num_kv_shared_layers = 2
    config.text_config.hidden_size_per_layer_input = 8
    torch.manual_seed(0)
    model = AutoModelForMultimodalLM.from_config(config)
    return VLM.of("gemma4", model.float().eval(), None)


def test_who_shares():
    assert sharing().layout.attention_types == SHARED


@pytest.mark.parametrize("layers", [(0,), (4,), (5,), (1, 4, 5)])
def test_block_of_layers_that_make_no_keys_for_others(layers):
    vlm, found, tokens = sharing(), [], []
    words = IDS % 30 + 10
    inputs = {"input_ids": words, "mm_token_type_ids": torch.zeros_like(words)}
    length = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    full = run(vlm, inputs).logits
    for fast in (False, True):
        with skipping(vlm, SkipPlan("block", 6, layers=layers), fast=fast):
            found.append(run(vlm, inputs, use_cache=True).logits)
            tokens.append(vlm.model.generate(**inputs, **length))
            tokens.append(vlm.model.generate(**inputs, **length, use_cache=False))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)
    assert all(torch.equal(made, tokens[0]) for made in tokens)
    assert (found[0] - full).abs().max() > 1e-3


def test_a_layer_that_makes_keys_for_others():
    with pytest.raises(BridgeError) as error:
        with skipping(sharing(), SkipPlan("block", 6, layers=(1, 2))):
            pass
    assert str(error.value) == (
        "Gemma4ForConditionalGeneration: block is refused: layer 2 (Gemma4TextDecoderLayer, "
        "shared_keys) makes the keys and values that later layers use; block is possible in "
        "layers 0-1, 4-5"
    )


# --- export -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "layers"),
    [("qwen3_5", (0,)), ("lfm3_vl", (1, 3)), ("mllama", (0,))],
)
@pytest.mark.slow
def test_a_pruned_model_answers_as_under_the_plan(kind, layers, tmp_path):
    vlm, plan = tiny(kind), SkipPlan("block", 4, layers=layers)
    folder = prune(vlm, plan, tmp_path / "pruned")
    smaller = AutoModelForMultimodalLM.from_pretrained(folder).eval()
    with skipping(vlm, plan):
        expected = run(vlm, {"input_ids": IDS}).logits
    with torch.no_grad():
        torch.testing.assert_close(smaller(input_ids=IDS).logits, expected, atol=1e-4, rtol=1e-4)


def test_layers_with_values_of_their_own_are_not_pruned(tmp_path):
    plan = SkipPlan("block", 4, layers=(2,))
    with pytest.raises(BridgeError, match="gives single layers values of their own"):
        prune(tiny("dots3_note"), plan, tmp_path / "pruned")
    assert not (tmp_path / "pruned").exists()


def test_what_does_not_attend_is_not_blinded():
    """Controls and slopes of a mixed decoder are about its layers of self-attention."""
    vlm = tiny("lfm2_vl")
    assert supported_layers(vlm, "freeze") == (2,)
    assert supported_layers(vlm, "block") == (0, 1, 2, 3)
    states = FullPass.__new__(FullPass)
    states.vlm = vlm
    states._check_attends(2)
    with pytest.raises(BridgeError, match=r"layer 0 of lfm2_vl has no self-attention \(conv\)"):
        states._check_attends(0)
    with pytest.raises(BridgeError, match="layer 0"), knocking_out(vlm, (0,)):
        pass
