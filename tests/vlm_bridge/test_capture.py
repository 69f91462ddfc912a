"""Capture on every family, against what plain hooks and eager attention say themselves."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from hypothesis import given
from hypothesis import strategies as st

from estimators import PairRows, Profile, cosine_distance
from tests.vlm_bridge.families import FAMILIES, SITUATIONS, batch, build, tiny
from tests.vlm_bridge.families.configs import EOS, VIDEO
from tests.vlm_bridge.families.table import AUDIO_FAMILY
from tests.vlm_bridge.tiny import batch as tiny_batch
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import TOKEN_GROUPS
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.collector import INSERTED, VAR, Collector, _pair_rows
from vlm_bridge.observe.hooks import _probabilities, capturing_attention, capturing_states
from vlm_bridge.skip.patching import patched

EVERY = {**FAMILIES, "Qwen2-Audio": AUDIO_FAMILY}


def collected(vlm, *batches):
    collector = Collector(vlm.layout.n_layers)
    for number, inputs in enumerate(batches):
        clusters = [f"{number}/{row}" for row in range(len(inputs["input_ids"]))]
        collector.run(vlm, inputs, clusters)
        forget(vlm)
    return collector.profile("tiny")


def forget(vlm):
    """Qwen models keep positions of the call before."""
    if hasattr(vlm.layout.base, "rope_deltas"):
        vlm.layout.base.rope_deltas = None


def layer_states(vlm, inputs):
    """Input and output of every layer, kept whole by plain hooks."""
    found = {}
    handles = [
        layer.register_forward_hook(
            lambda _, args, kwargs, out, i=i: found.__setitem__(
                i, ((args[0] if args else kwargs["hidden_states"]).clone(), out.clone())
            ),
            with_kwargs=True,
        )
        for i, layer in enumerate(vlm.layout.layers)
    ]
    with torch.no_grad():
        vlm.layout.base(**inputs, use_cache=False)
    forget(vlm)
    for handle in handles:
        handle.remove()
    return [found[i] for i in range(vlm.layout.n_layers)]


@pytest.mark.parametrize("name", list(EVERY))
def test_every_family_is_profiled_as_its_states_are(name):
    family = EVERY[name]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["ragged"])
    found = collected(vlm, inputs)
    groups = vlm.layout.token_groups(inputs["input_ids"], inputs["attention_mask"]).numpy()
    assert set(found.groups) == {TOKEN_GROUPS[code] for code in np.unique(groups)} - {"pad"}
    for layer, (before, after) in enumerate(layer_states(vlm, inputs)):
        for group in found.groups:
            rows = groups == TOKEN_GROUPS.index(group)
            want = cosine_distance(before[rows].numpy(), after[rows].numpy()).mean()
            got = found.values(group, "cosine_distance")[layer]
            assert got == pytest.approx(want, abs=2e-6)


@pytest.mark.parametrize("situation", list(SITUATIONS))
@pytest.mark.parametrize("name", list(FAMILIES))
def test_var_is_what_eager_attention_says(name, situation):
    """Sliding layers, shared heads, M-RoPE and two-way prefixes: sdpa and eager alike, to 1e-6."""
    family = FAMILIES[name]
    inputs = batch(family, SITUATIONS[situation])
    eager = tiny(family, "eager")
    with torch.no_grad():
        weights = eager.layout.base(**inputs, use_cache=False, output_attentions=True).attentions
    forget(eager)
    groups = eager.layout.token_groups(inputs["input_ids"], inputs["attention_mask"])
    vision = groups == TOKEN_GROUPS.index("image")
    asks = (groups == TOKEN_GROUPS.index("text")) & (vision.cumsum(1) > 0)
    want = [float((w.mean(1) * vision[:, None]).sum(-1)[asks].mean()) for w in weights]
    for attention in ("sdpa", "eager"):
        vlm = tiny(family, attention)
        found = collected(vlm, inputs)
        np.testing.assert_allclose(found.values("text", VAR), want, rtol=0, atol=1e-6)
        assert vlm.layout.text_config._attn_implementation == attention


def test_what_deepstack_inserts_is_said_and_measured():
    family = FAMILIES["Qwen3-VL"]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["padded"])
    found = collected(vlm, inputs)
    states = layer_states(vlm, inputs)
    image = inputs["input_ids"] == vlm.layout.image_ids[0]
    want = [0.0]
    for (_, left), (came, _) in pairwise(states):
        moved = (came - left)[image].norm(dim=-1) / left[image].norm(dim=-1)
        want.append(float(moved.mean()))
    np.testing.assert_allclose(found.values("image", INSERTED), want, rtol=1e-5)
    assert want[1] > 0.01
    assert want[2] > 0.01
    assert want[3] == 0
    assert not found.values("text", INSERTED).any()
    assert "the input of layers 1, 2 is not the output of the layer before" in (
        found.index_convention
    )
    assert Profile.from_json(json.loads(json.dumps(found.to_json()))) == found
    plain = collected(tiny_llava(), tiny_batch("padded"))
    assert INSERTED not in plain.measures["image"]


def test_a_video_is_a_group_of_its_own():
    family = FAMILIES["Qwen2.5-VL"]
    vlm = tiny(family)
    inputs = batch(family, ("ttIttt", "It"))
    image = inputs["input_ids"] == vlm.layout.image_ids[0]
    video = {
        **inputs,
        "input_ids": inputs["input_ids"].masked_fill(image, VIDEO),
        "mm_token_type_ids": inputs["mm_token_type_ids"] * 2,
        "pixel_values_videos": inputs["pixel_values"],
        "video_grid_thw": inputs["image_grid_thw"],
    }
    del video["pixel_values"], video["image_grid_thw"]
    found = collected(vlm, inputs, video)
    assert set(found.groups) == {"text", "image", "video"}
    assert found.n_rows["image"] == found.n_rows["video"] == 2 * family.tokens
    assert VAR in found.measures["text"]
    assert VAR not in found.measures["video"]


def test_var_is_attention_to_sounds_where_a_model_hears():
    """Against the weights that eager attention gives out, over text behind the first sound."""
    vlm, inputs = tiny(AUDIO_FAMILY, "eager"), batch(AUDIO_FAMILY, ("ttIttttt",))
    found = collected(vlm, inputs)
    assert set(found.groups) == {"text", "audio"}
    with torch.no_grad():
        weights = vlm.model(**inputs, output_attentions=True).attentions
    sound = inputs["input_ids"][0] == vlm.layout.audio_ids[0]
    asking = (sound.cumsum(0) > 0) & ~sound
    want = [float(w[0].mean(0)[asking][:, sound].sum(-1).mean()) for w in weights]
    np.testing.assert_allclose(found.values("text", VAR), want, rtol=1e-5)
    assert VAR not in found.measures["audio"]


def test_special_tokens_are_told_from_text():
    """VAR of each, row by row: text and special queries must not be mixed up."""
    family = FAMILIES["LLaVA"]
    inputs = batch(family, SITUATIONS["padded"])
    words = [(inputs["input_ids"][row] > VIDEO).nonzero()[-2, 0] for row in range(3)]
    for row, place in enumerate(words):
        inputs["input_ids"][row, place] = EOS
    eager = tiny(family, "eager")
    with torch.no_grad():
        weights = eager.layout.base(**inputs, use_cache=False, output_attentions=True).attentions
    found = collected(tiny(family), inputs)
    groups = eager.layout.token_groups(inputs["input_ids"], inputs["attention_mask"])
    vision = groups == TOKEN_GROUPS.index("image")
    assert set(found.groups) == {"text", "image", "special"}
    for group in ("text", "special"):
        asks = (groups == TOKEN_GROUPS.index(group)) & (vision.cumsum(1) > 0)
        want = [float((w.mean(1) * vision[:, None]).sum(-1)[asks].mean()) for w in weights]
        np.testing.assert_allclose(found.values(group, VAR), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rows", [None, torch.tensor([[0, 4], [3, 2]])], ids=["all", "some"])
def test_without_a_mask_attention_is_what_sdpa_computes(rows, causal):
    draw = torch.Generator().manual_seed(0)
    query, value = torch.randn(2, 4, 5, 8, generator=draw), torch.randn(2, 2, 5, 3, generator=draw)
    key = torch.randn(2, 2, 5, 8, generator=draw)
    want = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=causal, enable_gqa=True
    )
    got = _probabilities(query, key, None, None, rows, causal) @ value.repeat_interleave(2, 1)
    if rows is not None:
        want = torch.stack([want[i][:, rows[i]] for i in range(2)])
    torch.testing.assert_close(got, want)


def test_an_encoder_that_shares_the_configuration_is_not_observed():
    vlm, inputs, seen = tiny_llava(), tiny_batch("padded"), []
    before = collected(vlm, inputs)
    text = vlm.layout.text_config
    for module in vlm.model.model.vision_tower.modules():
        if hasattr(module, "q_proj"):
            module.config = text  # its attention looks nothing else up there
    with torch.no_grad(), capturing_attention(vlm, lambda layer, _: seen.append(layer)):
        vlm.layout.base(**inputs)
    assert seen == [0, 1, 2, 3]
    np.testing.assert_allclose(
        collected(vlm, inputs).values("text", VAR), before.values("text", VAR), atol=1e-6
    )


def test_only_the_queries_that_ask_are_observed():
    vlm, inputs = tiny_llava(), tiny_batch("padded")
    whole, some = {}, {}
    rows = torch.tensor([[5, 7], [0, 9], [8, 8]])
    with torch.no_grad():
        with capturing_attention(vlm, whole.__setitem__):
            vlm.layout.base(**inputs)
        with capturing_attention(vlm, some.__setitem__, lambda _: rows):
            vlm.layout.base(**inputs)
    for layer in range(4):
        want = torch.stack([whole[layer][i][:, rows[i]] for i in range(3)])
        torch.testing.assert_close(some[layer], want)


def test_attention_of_an_unknown_kind_is_an_error():
    vlm = tiny_llava()
    attention = vlm.layout.layers[2].self_attn

    def own(hidden_states, **_):
        return attention.o_proj(attention.q_proj(hidden_states)), None

    with (
        patched(attention, own),
        pytest.raises(BridgeError, match="attention of layer 2 cannot be observed"),
    ):
        collected(vlm, tiny_batch("padded"))


def test_states_changed_in_place_between_layers_are_an_error():
    vlm = tiny_llava()
    handle = vlm.layout.layers[2].register_forward_pre_hook(lambda _, args: args[0].add_(1.0))
    with pytest.raises(BridgeError, match="between layers 1 and 2 are changed in place"):
        collected(vlm, tiny_batch("padded"))
    handle.remove()


def test_clusters_must_fit_the_batch():
    with pytest.raises(BridgeError, match="1 clusters for 3 sequences"):
        Collector(4).run(tiny_llava(), tiny_batch("padded"), ["a"])


@pytest.mark.parametrize("how", ["one device", "layers on disk"])
def test_capture_under_a_device_map(how, tmp_path):
    """accelerate wraps every layer; what is captured is what the model alone shows."""
    alone = tiny_llava()
    want = collected(alone, tiny_batch("padded"))
    vlm = tiny_llava()
    places = {f"model.language_model.layers.{i}": "cpu" for i in range(4)}
    if how == "layers on disk":
        places |= {f"model.language_model.layers.{i}": "disk" for i in (1, 3)}
    model = dispatch_model(
        vlm.model,
        {"": "cpu", **places},
        main_device="cpu",
        offload_dir=str(tmp_path),
        force_hooks=True,
    )
    found = collected(VLM("tiny", model, vlm.processor, vlm.layout), tiny_batch("padded"))
    assert found == want


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_are_reduced_in_float32(dtype):
    family = FAMILIES["LLaVA"]
    build.cache_clear()
    vlm, inputs = tiny(family), batch(family, SITUATIONS["padded"])
    try:
        vlm.model.to(dtype)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        found = collected(vlm, inputs)
        image = inputs["input_ids"] == vlm.layout.image_ids[0]
        for layer, (before, after) in enumerate(layer_states(vlm, inputs)):
            x, y = before[image].float().numpy(), after[image].float().numpy()
            want = cosine_distance(x, y).mean()
            assert found.values("image", "cosine_distance")[layer] == pytest.approx(want, abs=2e-6)
    finally:
        build.cache_clear()


@given(
    st.integers(0, 9999),
    st.floats(-6, 1).map(lambda e: 10.0**e),
    st.floats(-2, 2).map(lambda e: 10.0**e),
)
def test_four_numbers_say_what_the_vectors_say(seed, step, scale):
    """Nearly equal states, opposite ones, one much longer than the other: float32 is enough."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, 32)).astype(np.float32)
    y = (scale * (x + step * rng.normal(size=x.shape))).astype(np.float32)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    four = torch.stack(
        [a.norm(dim=-1), b.norm(dim=-1), (b - a).norm(dim=-1), (a * b).sum(-1)]
    ).numpy()
    (got,), want = _pair_rows(four[:, None].astype(np.float64), "text"), PairRows.of(x, y)
    np.testing.assert_allclose(got.cosine, want.cosine, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got.relative_update, want.relative_update, rtol=1e-4)
    np.testing.assert_allclose(got.norm_ratio, want.norm_ratio, rtol=1e-5)


def test_small_distances_keep_their_relative_accuracy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 64)).astype(np.float32)
    y = (x + 1e-4 * rng.normal(size=x.shape)).astype(np.float32)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    four = torch.stack(
        [a.norm(dim=-1), b.norm(dim=-1), (b - a).norm(dim=-1), (a * b).sum(-1)]
    ).numpy()
    (got,) = _pair_rows(four[:, None].astype(np.float64), "text")
    np.testing.assert_allclose(got.cosine, cosine_distance(x, y), rtol=1e-3)
    assert got.cosine.max() < 1e-7  # where 1 - cos in float32 has no digit left


def test_hooks_of_an_earlier_pass_hold_nothing():
    vlm, seen = tiny_llava(), []
    with torch.no_grad(), capturing_states(vlm, lambda *_: None, lambda *a: seen.append(a[0])):
        vlm.layout.base(**tiny_batch("single"))
        vlm.layout.base(**tiny_batch("padded"))
    assert not seen  # the input of layer 0 is never compared with the pass before
