"""What a skip cannot do is refused by name, before anything is computed."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from tests.vlm_bridge.skip_cases import PRUNE, assert_close, forward, tiny
from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping, supported_modes
from vlm_bridge.skip.fast import fast_forwards
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.tensors import causal, cut_keywords
from vlm_bridge.skip.tracker import PassTracker

L = 4
EXIT, FREEZE = SkipPlan("early_exit", L, exit=2), SkipPlan("freeze", L, layers=(1,))
SUB = SkipPlan("sublayer", L, attention=(1,), mlp=(2,))


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def test_a_llava_does_everything():
    assert supported_modes(tiny()) == dict.fromkeys(MODES, "")


def test_a_plan_for_another_depth():
    with refused("made for 5 layers, the model has 4"), skipping(tiny(), SkipPlan("block", 5)):
        pass


@pytest.mark.parametrize("name", ["flash_attention_2", "flex_attention", "paged|sdpa"])
def test_attention_without_masks_by_token(name):
    vlm = tiny_llava()
    vlm.layout.text_config._attn_implementation = name
    reason = (
        f"attention '{name}' does not take a mask per query and key; load the model with "
        "attn_implementation 'sdpa' or 'eager'"
    )
    assert supported_modes(vlm) == {
        mode: "" if mode in ("block", "sublayer") else reason for mode in MODES
    }
    check_support(vlm, SUB)
    with refused(f"LlavaForConditionalGeneration: freeze is refused: {reason}"):
        check_support(vlm, SkipPlan.compose(SUB, SkipPlan("freeze", L, layers=(3,))))


def test_a_model_without_vision():
    vlm = tiny()
    deaf = replace(vlm, layout=replace(vlm.layout, image_ids=(), video_ids=()))
    with refused(
        "LlavaForConditionalGeneration: early_exit is refused: its decoder reads no image, video "
        "or audio tokens: 'early_exit' skips those; use block or sublayer"
    ):
        check_support(deaf, EXIT)
    check_support(deaf, SUB)


def scaled(layer: nn.Module) -> nn.Module:
    """A layer of a real decoder whose output is scaled: not a residual stream as such."""

    class Scaled(type(layer)):
        def forward(self, hidden_states, **kwargs):
            return super().forward(hidden_states, **kwargs) * 0.5

    layer.__class__ = Scaled
    return layer


def test_layers_that_are_no_plain_residual_stream():
    vlm = tiny_llava()
    vlm.layout.layers[2] = scaled(vlm.layout.layers[2])
    reason = (
        "layer 2: Scaled is not the identity when its attention and its MLP return zero, so a zero "
        "output does not skip a residual update"
    )
    assert supported_modes(vlm)["sublayer"] == reason
    with refused(f"LlavaForConditionalGeneration: sublayer is refused: {reason}"):
        check_support(vlm, SUB)
    check_support(vlm, SkipPlan("sublayer", L, attention=(1,)))
    vlm.layout.layers[2].more = nn.Linear(2, 2)
    with refused(
        "layer 2: Scaled has no single module that is its MLP (beside attention: mlp, more)"
    ):
        check_support(vlm, SUB)
    vlm.layout.layers[2] = nn.Linear(32, 32)
    with refused("layer 2: Linear has 0 attention modules among its children, not one"):
        check_support(vlm, SUB)


def test_the_residual_is_checked_without_weights_too():
    vlm = tiny_llava()
    bare = copy.deepcopy(vlm.model).to("meta")
    layers = bare.get_decoder().layers
    meta = replace(vlm, model=bare, layout=replace(vlm.layout, layers=layers))
    assert supported_modes(meta) == dict.fromkeys(MODES, "")
    layers[2].post_attention_layernorm = nn.Identity()
    assert supported_modes(meta)["sublayer"] == ""  # its pre-norm is nobody's business


def test_attention_that_does_not_go_through_the_interface():
    class Home(nn.Module):
        layer_idx = 0

    vlm = tiny_llava()
    vlm.layout.layers[0].self_attn = Home()
    reason = "layer 0: Home does not go through transformers' AttentionInterface, so its scores"
    with refused(f"token_pruning is refused: {reason}"):
        check_support(vlm, PRUNE)
    with refused(f"token_pruning is refused: {reason}"):
        check_support(vlm, replace(PRUNE, select="sparsevlm"))
    check_support(vlm, replace(PRUNE, select="uniform"))
    check_support(vlm, SkipPlan("token_pruning", L, after=2, keep=0.5))
    with refused(f"progressive_pruning is refused: {reason}"):
        check_support(vlm, SkipPlan("progressive_pruning", L, stages=((1, 0.5), (2, 0.25))))
    check_support(vlm, SkipPlan("progressive_pruning", L, stages=((2, 0.5), (3, 0.25))))


def test_skipping_twice():
    vlm = tiny()
    with skipping(vlm, EXIT):
        with refused("tiny is skipping already; make one plan of both"), skipping(vlm, FREEZE):
            pass
        forward(vlm, batch("single"))
    with skipping(vlm, FREEZE):
        pass


def test_models_that_share_layers_do_not_skip_at_once():
    """Each has a list of its own, as a model and its shorter twin have."""
    vlm, twin = tiny(), replace(tiny(), name="twin")
    for index in range(1, L):
        twin.layout.layers[index] = vlm.layout.layers[index]
    with skipping(vlm, EXIT):
        with refused("twin is skipping already"), skipping(twin, SkipPlan("block", L, layers=(1,))):
            pass
    with skipping(twin, SkipPlan("block", L, layers=(1,))):
        pass


def cache_of(*layers):
    cache = DynamicCache()
    cache.layers += layers
    return cache


@pytest.mark.parametrize("plan", [SkipPlan("block", L, layers=(0,)), EXIT, FREEZE, SUB, PRUNE])
@pytest.mark.parametrize("fast", [True, False])
def test_caches_that_cannot_be_kept_right(plan, fast):
    vlm, inputs = tiny(), batch("single")
    offloaded = cache_of()
    offloaded.offloading = True
    with skipping(vlm, plan, fast=fast):
        with refused("cache layer 1 is a LinearAttentionLayer; skipping supports dynamic and stat"):
            mixed = cache_of(DynamicLayer(), LinearAttentionLayer())
            forward(vlm, inputs, past_key_values=mixed)
        with refused("an offloaded cache is not supported while layers are skipped"):
            forward(vlm, inputs, past_key_values=offloaded)
        with refused("needs a transformers Cache as past_key_values, got tuple"):
            forward(vlm, inputs, past_key_values=((), ()))
    assert not mixed.layers[0].is_initialized


def test_a_cache_filled_under_a_plan_is_refused_outside_it():
    vlm, inputs = tiny(), batch("single")
    with skipping(vlm, EXIT):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    with refused("cannot be used without that plan"):
        forward(vlm, {"input_ids": torch.tensor([[5]])}, past_key_values=cache)


def test_calls_in_which_vision_cannot_be_told():
    vlm = tiny()
    with skipping(vlm, FREEZE):
        with refused("must be called with input_ids"):
            forward(vlm, {"inputs_embeds": torch.zeros(1, 3, 32)})
        with refused("the decoder was called directly"):
            vlm.layout.decoder(input_ids=torch.tensor([[5, 6]]))


def test_the_plain_form_does_not_follow_another_batch():
    vlm, inputs = tiny(), batch("single")
    with skipping(vlm, EXIT, fast=False):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
        cache.batch_repeat_interleave(2)
        with refused(
            "the batch of this cache went from 1 to 2, which a knockout and the plain form"
        ):
            forward(vlm, {"input_ids": torch.tensor([[5], [6]])}, past_key_values=cache)


@pytest.mark.parametrize("plan", [EXIT, FREEZE, PRUNE])
@pytest.mark.parametrize("mask", [torch.ones(1, 9), {"full_attention": None}])
def test_masks_that_cannot_be_cut(plan, mask):
    vlm = tiny()
    tracker = PassTracker(vlm.layout, keep=[0.5])
    tracker.begin(torch.tensor([[False] * 5 + [True] * 4]))
    ((_, forward_),) = fast_forwards(2, vlm.layout.layers[2], EXIT.operations[2], tracker)
    with refused("layer 2 got an attention mask of shape"):
        forward_(torch.zeros(1, 9, 32), attention_mask=mask)


def test_keywords_that_cannot_be_cut():
    rows = torch.tensor([[1, 3]])
    kept = {"types": torch.arange(9)[None], "gate": torch.rand(1, 9, 5), "scale": torch.rand(1, 5)}
    cut = cut_keywords(kept, rows, 9, lambda f, *x: f(*x))
    assert torch.equal(cut["types"], rows)
    assert torch.equal(cut["gate"], kept["gate"][:, [1, 3]])
    assert cut["scale"] is kept["scale"]
    for name, shape in (("gate", (1, 2, 9)), ("bias", (1, 4, 9, 9)), ("padding_mask", (1, 9))):
        with refused(f"a decoder layer takes '{name}' of shape {shape}, which cannot be cut"):
            cut_keywords({name: torch.zeros(shape)}, rows, 9, lambda f, *x: f(*x))


@pytest.mark.parametrize("plan", [FREEZE, SkipPlan("late_entry", L, entry=2)])
def test_no_mask_behind_a_past_means_causal(plan):
    """Decoders may leave the mask out; with several queries and a past, sdpa would cut keys."""
    vlm = tiny()
    layer, tracker = vlm.layout.layers[1], PassTracker(vlm.layout)
    torch.manual_seed(0)
    states = torch.randn(1, 9, 32)
    flags = torch.tensor([[False] * 5 + [True, True, False, False]])
    *_, (_, run_layer) = fast_forwards(1, layer, plan.operations[1], tracker)

    def run(masked):
        cache = DynamicCache(config=vlm.layout.text_config)
        found = []
        for span in (slice(0, 4), slice(4, 9)):
            now, start, length = states[:, span], span.start, span.stop - span.start
            mask = causal(length, start, span.stop, now.dtype, now.device) if masked else None
            tracker.begin(flags[:, span])
            rotary = vlm.layout.decoder.rotary_emb(now, torch.arange(start, span.stop)[None])
            found.append(
                run_layer(
                    now, attention_mask=mask, past_key_values=cache, position_embeddings=rotary
                )
            )
        return torch.cat(found, dim=1)

    with torch.no_grad():
        assert_close(run(masked=False), run(masked=True))


def test_what_accelerate_wraps_is_replaced_inside_its_wrap():
    vlm = tiny_llava()
    layer = vlm.layout.layers[1]
    before = layer.forward
    layer._hf_hook, layer._old_forward = object(), before
    layer.forward = lambda *args, **kwargs: layer._old_forward(*args, **kwargs)
    wrapped = layer.forward
    with skipping(vlm, FREEZE):
        assert layer.forward is wrapped
        assert layer._old_forward is not before
        skipped = forward(vlm, batch("padded")).logits
    assert layer._old_forward is before
    with skipping(tiny(), FREEZE):
        assert torch.equal(skipped, forward(tiny(), batch("padded")).logits)


def test_qwen_models_get_their_rope_deltas_back():
    vlm = tiny_llava()
    vlm.layout.base.rope_deltas = before = torch.ones(1)
    with skipping(vlm, EXIT):
        assert vlm.layout.base.rope_deltas is before
        forward(vlm, batch("single"))
        assert vlm.layout.base.rope_deltas is None
        vlm.layout.base.rope_deltas = torch.zeros(1)
    assert vlm.layout.base.rope_deltas is before


def test_the_parts_of_a_layer_are_found_by_structure():
    layer = tiny().layout.layers[0]
    assert Sublayers.of(layer) == Sublayers(layer.self_attn, layer.mlp)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [EXIT, FREEZE, SUB])
def test_compiled_code_runs_eagerly_inside(plan):
    vlm, inputs = tiny_llava(), batch("padded")
    compiled = torch.compile(vlm.model, backend="eager")
    with torch.no_grad():
        full = compiled(**inputs).logits
        with skipping(vlm, plan):
            skipped, same = compiled(**inputs).logits, forward(vlm, inputs).logits
        again = compiled(**inputs).logits
    assert torch.equal(skipped, same)
    assert_close(again, full)
    assert (skipped - full).abs().max() > 1e-2


@pytest.mark.parametrize("plan", [SkipPlan("block", L, layers=(1,)), EXIT, FREEZE, SUB, PRUNE])
@pytest.mark.parametrize("fast", [True, False])
def test_a_decoder_may_pass_arguments_by_position(plan, fast):
    """As Gemma 4 does: the mask comes second, without its name."""
    vlm, inputs = tiny_llava(), batch("padded")
    with skipping(vlm, plan, fast=fast):
        usual = forward(vlm, inputs, use_cache=True).logits
    for layer in vlm.layout.layers:
        call = type(layer).__call__
        kind = type("Positional", (type(layer),), {})
        kind.__call__ = lambda self, states, *, attention_mask, call=call, **kwargs: call(
            self, states, attention_mask, **kwargs
        )
        layer.__class__ = kind
    with skipping(vlm, plan, fast=fast):
        assert torch.equal(forward(vlm, inputs, use_cache=True).logits, usual)


@pytest.mark.parametrize("plan", [SkipPlan("block", L, layers=(1,)), EXIT, FREEZE, SUB, PRUNE])
@pytest.mark.parametrize("fast", [True, False])
def test_layers_of_older_models_return_tuples(plan, fast):
    """Of a bare output, their decoders would take the first sequence for all."""
    vlm, inputs = tiny_llava(), batch("image first")
    parts = [dict(inputs, input_ids=inputs["input_ids"][:, :4])]  # a chunk of image only
    parts.append({"input_ids": inputs["input_ids"][:, 4:]})
    found = []
    for _ in range(2):
        with skipping(vlm, plan, fast=fast):
            cache = DynamicCache(config=vlm.layout.text_config)
            for part in parts:
                part.pop("attention_mask", None)
                found.append(forward(vlm, part, past_key_values=cache).logits)
        for layer in vlm.layout.layers:
            old, kind = type(layer), type("Older", (type(layer),), {})
            kind.forward = lambda self, hidden_states, _f=old.forward, **kwargs: (
                _f(self, hidden_states, **kwargs),
                "weights",
            )
            kind.__call__ = lambda self, *args, _c=old.__call__, **kw: _c(self, *args, **kw)[0]
            layer.__class__ = kind
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_chunked_attention():
    vlm = tiny()
    types = ("chunked_attention",) * 3 + ("full_attention",)
    chunked = replace(vlm, layout=replace(vlm.layout, attention_types=types))
    with refused("freeze is refused: its chunked attention counts positions from the cache"):
        check_support(chunked, FREEZE)
    assert [mode for mode, why in supported_modes(chunked).items() if not why] == [
        "block",
        "sublayer",
    ]


@pytest.mark.parametrize("plan", [EXIT, FREEZE, PRUNE])
@pytest.mark.parametrize("fast", [True, False])
def test_an_image_id_without_pixels_is_text(plan, fast):
    """As when the model itself generates one."""
    vlm, inputs = tiny(), {"input_ids": torch.tensor([[5, 3, 3, 7]])}
    full = forward(vlm, inputs).logits
    with skipping(vlm, plan, fast=fast):
        assert_close(forward(vlm, inputs).logits, full)
