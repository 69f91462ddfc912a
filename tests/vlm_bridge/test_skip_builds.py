"""Quantised, packed and wrapped layers: skipped as plain ones are, or refused by name."""

from __future__ import annotations

import copy
import re
import warnings

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, CompileConfig
from transformers.cache_utils import Cache, QuantizedLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tests.vlm_bridge.quantised import (
    Float8,
    Int8,
    Packed,
    Rounding,
    RoundingEach,
    quantised,
    replace_linears,
)
from tests.vlm_bridge.skip_cases import (
    BAND,
    EXIT,
    FREEZE,
    LATE,
    PROGRESSIVE,
    PRUNE,
    assert_close,
    forward,
    tiny,
)
from tests.vlm_bridge.spoken import whisper
from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import ENCODER_MODES, MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping, supported_modes
from vlm_bridge.skip.export import prune
from vlm_bridge.skip.thin import _halved

L = 4
BLOCK = SkipPlan("block", L, layers=(1, 3))
SUB = SkipPlan("sublayer", L, attention=(1,), mlp=(1, 2))
#: One plan of every mode, and of the vision encoder.
EVERY = [
    BLOCK,
    FREEZE,
    SkipPlan("vision_attention", L, layers=(0, 2)),
    SkipPlan("vision_mlp", L, layers=(1,)),
    EXIT,
    LATE,
    BAND,
    SUB,
    PRUNE,
    PROGRESSIVE,
    SkipPlan("token_pruning", L, after=1, keep=0.5, select="sparsevlm"),
    SkipPlan("token_pruning", L, after=0, keep=0.5, select="divprune"),
    SkipPlan("block", 2, layers=(1,), stack="vision"),
    SkipPlan("sublayer", 2, attention=(0,), mlp=(1,), stack="vision"),
]
OF_EVERY_TOKEN = [plan for plan in EVERY if MODES[plan.mode].every_token]
every = pytest.mark.parametrize("plan", EVERY, ids=lambda p: p.describe())
GREEDY = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4}


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def inputs_for(vlm, name):
    dtype = vlm.model.get_input_embeddings().weight.dtype
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch(name).items()}


def both_forms(vlm, plan, name="padded", *, tokens=True):
    """Logits of a pass are close in both forms, and greedy tokens equal; the fast logits."""
    inputs, found = inputs_for(vlm, name), []
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            logits = forward(vlm, inputs).logits
            found.append((logits, vlm.model.generate(**inputs, **GREEDY) if tokens else None))
    (logits, answer), (of_plain, said) = found
    coarse = 8 * torch.finfo(logits.dtype).eps
    torch.testing.assert_close(logits, of_plain, atol=max(1e-4, coarse), rtol=max(1e-4, coarse))
    assert not tokens or torch.equal(answer, said)
    return logits


def test_every_mode_is_tried():
    assert {plan.mode for plan in EVERY} == set(MODES)
    assert {plan.mode for plan in EVERY if plan.stack == "vision"} == set(ENCODER_MODES)


@pytest.mark.parametrize("kind", [Int8, Packed, Float8, RoundingEach])
@every
def test_weights_of_few_bits(plan, kind):
    vlm = quantised(kind)
    check_support(vlm, plan)
    skipped = both_forms(vlm, plan)
    assert (skipped - forward(vlm, batch("padded")).logits).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [Int8, Packed, Float8])
def test_weights_of_few_bits_lose_no_speed(kind):
    vlm = quantised(kind)
    with skipping(vlm, FREEZE):
        assert all(_halved[vlm.layout.layers[layer]] for layer in (1, 2))


def test_layers_without_any_parameter():
    """Packed weights, and norms that have none."""
    vlm = quantised(Packed)
    for layer in vlm.layout.layers:
        layer.input_layernorm = nn.LayerNorm(32, elementwise_affine=False)
        layer.post_attention_layernorm = nn.LayerNorm(32, elementwise_affine=False)
    assert not list(vlm.layout.layers.parameters())
    assert supported_modes(vlm) == dict.fromkeys(MODES, "")
    for plan in EVERY:
        both_forms(vlm, plan)


ONE_SCALE = (
    "self_attn.q_proj (Rounding) quantises the states of all tokens by one scale or choice, so "
    "that a token changes if others are left out; use block or sublayer, or quantise weights alone"
)


def test_states_rounded_by_one_scale():
    """The fast form leaves tokens out, so that the others would be rounded in another way."""
    vlm = quantised(Rounding)
    reasons = supported_modes(vlm)
    for mode, kind in MODES.items():
        assert reasons[mode] == ("" if kind.every_token else f"layer 0: {ONE_SCALE}")
    assert supported_modes(vlm, "vision") == dict.fromkeys(ENCODER_MODES, "")
    with refused(f"LlavaForConditionalGeneration: early_exit is refused: layer 2: {ONE_SCALE}"):
        check_support(vlm, EXIT)
    for plan in OF_EVERY_TOKEN:
        both_forms(vlm, plan)


def test_a_layer_that_runs_on_all_tokens_may_round_as_it_likes():
    vlm = tiny_llava()
    replace_linears(vlm.layout.layers[0], Rounding)
    both_forms(vlm, EXIT)
    with refused("layer 0: self_attn.q_proj (Rounding)"), skipping(vlm, LATE):
        pass


def test_a_layer_quantised_in_place_is_tried_again():
    vlm = tiny_llava()
    check_support(vlm, EXIT)
    replace_linears(vlm.layout.layers[3].mlp, Rounding)
    with refused("layer 3: mlp.gate_proj (Rounding)"):
        check_support(vlm, EXIT)


class Observed(nn.Linear):
    """A plain map that notes the largest state it has seen, and leaves out some in training."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight = linear.weight
        self.register_buffer("largest", torch.zeros(()))
        self.leave_out = nn.Dropout(0.5)

    def forward(self, states):
        self.largest.copy_(torch.maximum(self.largest, states.abs().max()))
        return super().forward(self.leave_out(states))


@pytest.mark.parametrize("training", [False, True])
def test_a_trial_leaves_a_map_and_the_random_state_as_they_were(training):
    vlm = tiny_llava()
    layer = vlm.layout.layers[1]
    layer.self_attn.q_proj = Observed(layer.self_attn.q_proj)
    vlm.model.train(training)
    state = torch.random.get_rng_state()
    with skipping(vlm, SkipPlan("freeze", 4, layers=(1, 2))):
        pass
    supported_modes(vlm)
    assert layer.self_attn.q_proj.largest == 0
    assert layer.self_attn.q_proj.training == layer.self_attn.q_proj.leave_out.training == training
    assert torch.equal(torch.random.get_rng_state(), state)


class Outliers(nn.Linear):
    """Rounds the columns without large states, chosen among all tokens, if it has a threshold."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight, self.threshold = linear.weight, 0.0

    def forward(self, states):
        if self.threshold:
            small = states.abs().amax(dim=(0, 1)) < self.threshold
            states = torch.where(small, (states * 20).round() / 20, states)
        return super().forward(states)


def test_a_verdict_follows_the_settings_of_a_map():
    vlm, plan = tiny_llava(), SkipPlan("freeze", 4, layers=(1,))
    part = vlm.layout.layers[1].self_attn
    part.q_proj = Outliers(part.q_proj)
    check_support(vlm, plan)
    part.q_proj.threshold = 6.0
    with refused("layer 1: self_attn.q_proj (Outliers) quantises the states of all tokens"):
        check_support(vlm, plan)
    part.q_proj.threshold = 0.0
    check_support(vlm, plan)


def test_a_function_put_in_place_of_a_plain_map_is_tried():
    vlm, plan = tiny_llava(), SkipPlan("freeze", 4, layers=(1,))
    part = vlm.layout.layers[1].self_attn.q_proj
    part.forward = lambda states: nn.functional.linear(
        (states / states.abs().max() * 7).round() * states.abs().max() / 7, part.weight
    )
    with refused("layer 1: self_attn.q_proj (Linear) quantises the states of all tokens"):
        check_support(vlm, plan)


def test_a_map_that_takes_more_than_states_is_not_tried():
    class Picky(Int8):
        def forward(self, states, *, needed=None):
            if needed is None and states.shape[1] == 2:
                raise ValueError("no")
            return super().forward(states)

    vlm = tiny_llava()
    replace_linears(vlm.layout.layers[2].mlp, Picky)
    check_support(vlm, EXIT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every
def test_half_precision(plan, dtype):
    """Tokens may differ where two logits are as good as equal."""
    vlm = tiny_llava()
    vlm.model.to(dtype)
    both_forms(vlm, plan, tokens=False)


def dynamically_quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.ao.quantization.quantize_dynamic(tiny_llava().model, {nn.Linear})
    return VLM.of("tiny", made, None)


def test_dynamic_quantisation_of_torch():
    vlm = dynamically_quantised()
    assert {mode for mode, why in supported_modes(vlm).items() if not why} == {"block", "sublayer"}
    for plan in OF_EVERY_TOKEN:
        both_forms(vlm, plan)
    with refused("q_proj (Linear) quantises the states of all tokens"), skipping(vlm, FREEZE):
        pass
    with refused("the weights of tiny are packed (model.vision_tower.encoder.layers.0.self_attn"):
        _ = vlm.fingerprint


def by_torchao(vlm):
    ao = pytest.importorskip("torchao.quantization")
    linears = ("language_model.layers", "vision_tower.encoder")
    ao.quantize_(
        vlm.model,
        ao.Int8WeightOnlyConfig(),
        lambda module, name: (
            isinstance(module, nn.Linear) and any(part in name for part in linears)
        ),
    )


def by_quanto(vlm, weights):
    quanto = pytest.importorskip("optimum.quanto")
    quanto.quantize(vlm.layout.decoder, weights=weights)
    quanto.freeze(vlm.layout.decoder)


def by_bitsandbytes(vlm):
    bnb = pytest.importorskip("bitsandbytes")

    def four_bits(linear):
        new = bnb.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=torch.float32,
        )
        new.load_state_dict(linear.state_dict())
        return new.to("cpu")

    replace_linears(vlm.layout.decoder, four_bits)


LIBRARIES = {
    "torchao int8": by_torchao,
    "quanto int8": lambda vlm: by_quanto(vlm, "qint8"),
    "quanto int4": lambda vlm: by_quanto(vlm, "qint4"),
    "bitsandbytes 4 bits": by_bitsandbytes,
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_of_quantisation(library):
    vlm, again, other = tiny_llava(), tiny_llava(), tiny_llava(seed=1)
    for model in (vlm, again, other):
        LIBRARIES[library](model)
    assert vlm.fingerprint == again.fingerprint != other.fingerprint
    for plan in EVERY:
        both_forms(vlm, plan)


class Wrapper(torch.Tensor):
    """A tensor made of others, as torchao keeps a quantised weight."""

    @staticmethod
    def __new__(cls, whole, scale):
        return torch.Tensor._make_wrapper_subclass(cls, whole.shape, dtype=scale.dtype)

    def __init__(self, whole, scale):
        self.whole, self.scale = whole, scale

    def __tensor_flatten__(self):
        return ["whole", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner, _, *__):
        return Wrapper(inner["whole"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return Wrapper(args[0].whole, args[0].scale)
        args = [a.whole * a.scale if isinstance(a, Wrapper) else a for a in args]
        if func in (torch.ops.aten.t.default, torch.ops.aten.mm.default):
            return func(*args)
        raise NotImplementedError(func)


def wrap_weight(linear):
    made = Int8(linear)
    new = nn.Linear(linear.in_features, linear.out_features, bias=False)
    new.weight = nn.Parameter(Wrapper(made.weight.data, made.scale), requires_grad=False)
    return new


def with_wrapped_weights():
    vlm = tiny_llava()
    replace_linears(vlm.layout.decoder, wrap_weight)
    return vlm


@every
def test_weights_that_are_no_plain_tensors(plan):
    assert torch.equal(both_forms(with_wrapped_weights(), plan), both_forms(of_int8(), plan))


def of_int8():
    vlm = tiny_llava()
    replace_linears(vlm.layout.decoder, Int8)
    return vlm


def test_the_fingerprint_of_weights_that_are_no_plain_tensors():
    vlm, other = with_wrapped_weights(), with_wrapped_weights()
    before = vlm.fingerprint
    assert before == other.fingerprint
    other.layout.layers[2].mlp.up_proj.weight.scale.mul_(2)
    assert other.fingerprint != before
    assert other.running_fingerprint(quick=True) != before


def test_quantised_weights_are_not_pruned(tmp_path):
    with refused("is a Wrapper); prune the model first, then quantise it"):
        prune(with_wrapped_weights(), BLOCK, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_torch_compile_wraps():
    vlm = tiny_llava()
    vlm.layout.layers[1] = torch.compile(vlm.layout.layers[1], backend="eager")
    reason = "layer 1 is wrapped by torch.compile, so that its parts cannot be replaced; compile"
    for plan in (BLOCK, FREEZE, SUB, SkipPlan("late_entry", L, entry=2)):
        with refused(reason), skipping(vlm, plan):
            pass
    both_forms(vlm, EXIT)  # which does not touch it
    encoder = vlm.layout.stack("vision").layers
    encoder[1] = torch.compile(encoder[1], backend="eager")
    with refused(f"block in the vision encoder is refused: {reason}"):
        check_support(vlm, EVERY[-2])


def test_attention_that_torch_compile_wraps():
    vlm = tiny_llava()
    layer = vlm.layout.layers[2]
    layer.self_attn = torch.compile(layer.self_attn, backend="eager")
    with refused("self_attn of layer 2 is wrapped by torch.compile"), skipping(vlm, EXIT):
        pass


def in_place(vlm):
    for layer in vlm.layout.layers:
        layer.compile(backend="eager")


def forwards(vlm):
    for layer in vlm.layout.layers:
        layer.forward = torch.compile(layer.forward, backend="eager")


def sublayers(vlm):
    for layer in vlm.layout.layers:
        layer.self_attn.compile(backend="eager")
        layer.mlp = torch.compile(layer.mlp, backend="eager")
        layer.self_attn.q_proj = torch.compile(layer.self_attn.q_proj, backend="eager")


def whole(vlm):
    vlm.model.forward = torch.compile(vlm.model.forward, backend="eager")


def decoder(vlm):
    vlm.model.model.language_model = torch.compile(vlm.layout.decoder, backend="eager")


@pytest.mark.parametrize("how", [in_place, forwards, sublayers, whole, decoder])
@pytest.mark.parametrize("plan", [BLOCK, FREEZE, EXIT, SUB, PRUNE], ids=lambda p: p.mode)
def test_compiled_parts_run_eagerly(how, plan):
    vlm, inputs = tiny_llava(), batch("padded")
    how(vlm)
    with skipping(tiny(), plan):
        expected = forward(tiny(), inputs).logits
    assert torch.equal(both_forms(vlm, plan), expected)


def compile_whole(vlm):
    return torch.compile(vlm.model, backend="eager")


def compile_in_place(vlm):
    vlm.model.compile(backend="eager")
    return vlm.model


def compile_strictly(vlm):
    return torch.compile(vlm.model, backend="aot_eager", dynamic=False, fullgraph=True)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [compile_whole, compile_in_place, compile_strictly])
@pytest.mark.parametrize("plan", [BLOCK, EXIT], ids=lambda p: p.mode)
def test_compiled_inside_the_block(compiled, plan):
    """It runs eagerly there, and after the block the full model runs; no graph is left over."""
    torch.compiler.reset()
    vlm, inputs = tiny_llava(), batch("padded")
    full = forward(vlm, inputs).logits
    with skipping(tiny(), plan):
        expected = forward(tiny(), inputs).logits
    with torch.no_grad():
        with skipping(vlm, plan):
            model = compiled(vlm)
            assert torch.equal(model(**inputs).logits, expected)
        if compiled is not compile_strictly:
            assert_close(model(**inputs).logits, full)
        with skipping(vlm, plan):
            assert torch.equal(model(**inputs).logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
def test_a_static_cache_that_generate_compiles(before):
    vlm, inputs = tiny_llava(), batch("padded")
    full = vlm.model.generate(**inputs, **GREEDY)
    with skipping(tiny(), EXIT):
        expected = tiny().model.generate(**inputs, **GREEDY)
    config = CompileConfig(backend="eager", fullgraph=False)
    config._compile_all_devices = True
    options = {**GREEDY, "cache_implementation": "static", "compile_config": config}
    if before:
        assert torch.equal(vlm.model.generate(**inputs, **options), full)
    with skipping(vlm, EXIT):
        assert torch.equal(vlm.model.generate(**inputs, **options), expected)
    assert torch.equal(vlm.model.generate(**inputs, **options), full)
    assert not torch.equal(full, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_block_inside_compiled_code():
    vlm = tiny_llava()

    @torch.compile(backend="eager")
    def run(inputs):
        with skipping(vlm, BLOCK):
            return vlm.model(**inputs)

    with refused("a block of `skipping` begins inside a function that torch.compile compiles"):
        run(batch("padded"))
    both_forms(vlm, BLOCK)


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, pixels):
        return self.model(
            input_ids=ids, attention_mask=mask, pixel_values=pixels, use_cache=False
        ).logits


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plan", [BLOCK, EXIT], ids=lambda p: p.mode)
def test_a_graph_of_a_model_that_skips(plan):
    vlm, inputs = tiny_llava(), batch("padded")
    model = Logits(vlm.model)
    arguments = tuple(inputs[name] for name in ("input_ids", "attention_mask", "pixel_values"))
    with skipping(vlm, plan):
        with refused("the model was traced or exported while layers are skipped"):
            torch.jit.trace(model, arguments)
        with refused("the model was traced or exported while layers are skipped"):
            torch.export.export(model, arguments, strict=False)
        with refused("the model was traced or exported while layers are skipped"):
            torch.export.export(vlm.model, (), dict(inputs), strict=False)
    both_forms(vlm, plan)


@pytest.mark.parametrize("plan", [BLOCK, EXIT, FREEZE, SUB, PRUNE], ids=lambda p: p.mode)
@pytest.mark.parametrize("name", ["quantized", "offloaded", "offloaded_static"])
def test_caches_by_name(plan, name):
    """Before the library of the cache is asked for, which may not be installed."""
    vlm, inputs = tiny(), batch("padded")
    said = f"cache_implementation '{name}' is not supported while layers are skipped; generate with"
    config = copy.copy(vlm.model.generation_config)
    config.cache_implementation = name
    with skipping(vlm, plan):
        with refused(said):
            vlm.model.generate(**inputs, **GREEDY, cache_implementation=name)
        with refused(said):
            vlm.model.generate(**inputs, generation_config=config, max_new_tokens=2)
        by_argument = {**GREEDY, "cache_implementation": "dynamic"}
        vlm.model.generate(**inputs, generation_config=config, **by_argument)


def test_a_cache_that_the_model_names_itself():
    vlm = tiny_llava()
    vlm.model.generation_config.cache_implementation = "quantized"
    with skipping(vlm, EXIT), refused("cache_implementation 'quantized' is not supported"):
        vlm.model.generate(**batch("padded"), max_new_tokens=2)


class EightBits(QuantizedLayer):
    """A cache layer that keeps integers, as those of quanto and HQQ."""

    def _quantize(self, tensor, axis):
        scale = tensor.abs().max() / 127
        return (tensor / scale).round().to(torch.int8), scale

    def _dequantize(self, tensor):
        return tensor[0] * tensor[1]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("plan", [BLOCK, EXIT, FREEZE, SUB, PRUNE], ids=lambda p: p.mode)
def test_a_quantised_cache(plan, fast):
    vlm, inputs = tiny(), batch("padded")
    cache = Cache(layers=[EightBits() for _ in range(L)])
    forward(vlm, inputs, past_key_values=cache)  # it is one that the full model can use
    with skipping(vlm, plan, fast=fast):
        with refused("cache layer 0 is a EightBits; skipping supports dynamic and static caches"):
            forward(vlm, inputs, past_key_values=Cache(layers=[EightBits() for _ in range(L)]))


def ignoring_masks(module, query, key, value, mask, scaling=None, **_):
    """Attention that is causal whatever the mask says, as some kernels are."""
    groups = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, 1) for states in (key, value))
    keys = key.shape[2]
    open_ = torch.ones(query.shape[2], keys, dtype=torch.bool).tril(keys - query.shape[2])
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=open_, scale=scaling
    )
    return output.transpose(1, 2).contiguous(), None


def without_scores(*args, **kwargs):
    """Attention that follows masks and gives no weights, as sdpa does."""
    return sdpa_attention_forward(*args, **kwargs)[0], None


def with_attention(name):
    vlm = tiny_llava()
    vlm.layout.text_config._attn_implementation = name
    return vlm


@pytest.mark.parametrize("plan", [FREEZE, EXIT, LATE, PRUNE], ids=lambda p: p.mode)
def test_attention_that_gets_no_mask(plan):
    AttentionInterface.register("ignoring_masks", ignoring_masks)
    vlm = with_attention("ignoring_masks")
    with refused("attention 'ignoring_masks' may not follow a mask per query and key: none is"):
        check_support(vlm, plan)
    with skipping(vlm, SUB):
        forward(vlm, batch("single"))
    other = tiny_llava()
    with skipping(other, plan):
        other.layout.text_config._attn_implementation = "ignoring_masks"
        with refused("may not follow a mask per query and key"):
            forward(other, batch("single"))


@pytest.mark.parametrize("plan", [FREEZE, EXIT, PRUNE, PROGRESSIVE, EVERY[10]], ids=str)
def test_attention_that_follows_masks_and_gives_no_scores(plan):
    """The scores of tokens are computed from queries and keys, whatever the kernel returns."""
    AttentionInterface.register("without_scores", without_scores)
    AttentionMaskInterface.register("without_scores", sdpa_mask)
    with skipping(tiny(), plan):
        expected = forward(tiny(), batch("padded")).logits
    assert torch.equal(both_forms(with_attention("without_scores"), plan), expected)


@pytest.mark.parametrize(
    "name",
    ["flash_attention_3", "flash_attention_4", "kernels-community/flash-attn2", "paged|eager"],
)
def test_kernels_that_cut_no_mask(name):
    vlm = with_attention(name)
    assert {mode for mode, why in supported_modes(vlm).items() if not why} == {"block", "sublayer"}
    with refused(f"attention '{name}' does not take a mask per query and key; load the model"):
        check_support(vlm, EVERY[10])


@pytest.mark.parametrize("kind", [Int8, Packed, Rounding])
@pytest.mark.parametrize("stack", ["decoder", "audio"])
def test_quantised_maps_of_an_encoder_decoder(kind, stack):
    """Its layers have two linear maps of any build in place of an MLP."""
    model = copy.deepcopy(whisper())
    for part in (model.model.encoder.layers, model.model.decoder.layers):
        replace_linears(part, kind)
    vlm = VLM.of("tiny", model, None)
    n = vlm.layout.depth(stack)
    features = torch.rand(1, model.config.num_mel_bins, 2 * model.config.max_source_positions)
    inputs = {"input_features": features, "decoder_input_ids": torch.tensor([[1, 2, 3]])}
    full = forward(vlm, inputs).logits
    for plan in (
        SkipPlan("block", n, layers=(n - 1,), stack=stack),
        SkipPlan("sublayer", n, attention=(0,), mlp=(n - 1,), stack=stack),
    ):
        found = []
        for fast in (True, False):
            with skipping(vlm, plan, fast=fast):
                found.append(forward(vlm, inputs).logits)
        assert_close(*found)
        assert (found[0] - full).abs().max() > 1e-4
