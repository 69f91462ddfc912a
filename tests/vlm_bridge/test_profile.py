"""The streamed profile against the same numbers computed from stored states, in the open."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from estimators import cosine_distance, relative_update_norm
from tests.vlm_bridge.families.processors import with_processor
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import TOKEN_GROUPS
from vlm_bridge.model.prompts import batches
from vlm_bridge.observe.hooks import capturing_attention, capturing_states
from vlm_bridge.observe.profile import profile, random_copy


def stored(vlm, items):
    """Per layer: group codes, input and output states of every position, by plain hooks."""
    found = {}

    def keep(layer, before, after):
        groups = vlm.layout.token_groups(batch.inputs["input_ids"], batch.inputs["attention_mask"])
        found.setdefault(layer, []).append(
            (groups.flatten(), before.flatten(0, 1), after.flatten(0, 1))
        )

    with torch.no_grad(), capturing_states(vlm, keep):
        for batch in batches(vlm, items, batch_size=3):
            vlm.model(**batch.inputs)
    return {
        layer: [torch.cat(part) for part in zip(*rows, strict=True)]
        for layer, rows in found.items()
    }


@pytest.mark.parametrize("group", ["text", "image"])
def test_profile_equals_stored_states(items, group):
    vlm = tiny_llava()
    found = profile(vlm, items, batch_size=3)
    for layer, (groups, before, after) in stored(vlm, items).items():
        rows = groups == TOKEN_GROUPS.index(group)
        x, y = before[rows].numpy(), after[rows].numpy()
        assert found.n_rows[group] == len(x)
        got = found.values(group, "cosine_distance")[layer]
        assert got == pytest.approx(cosine_distance(x, y).mean(), abs=1e-6)
        got = found.values(group, "relative_update_norm")[layer]
        assert got == pytest.approx(relative_update_norm(x, y).mean(), rel=1e-5)


def test_batch_size_changes_nothing(items):
    vlm = tiny_llava()
    one, many = (profile(vlm, items, batch_size=size) for size in (1, 8))
    for group in one.groups:
        for measure in one.measures[group]:
            np.testing.assert_allclose(
                one.values(group, measure), many.values(group, measure), rtol=2e-4, atol=1e-6
            )


def test_states_are_before_the_final_norm_and_layers_are_zero_based(items):
    vlm = tiny_llava()
    seen = {}
    batch = next(batches(vlm, items[:1]))
    with torch.no_grad(), capturing_states(vlm, lambda i, x, y: seen.__setitem__(i, (x, y))):
        last = vlm.model.model(**batch.inputs).last_hidden_state
    assert sorted(seen) == [0, 1, 2, 3]
    for layer in range(3):
        assert torch.equal(seen[layer][1], seen[layer + 1][0])
    assert torch.equal(vlm.layout.decoder.norm(seen[3][1]), last)
    assert not torch.allclose(seen[3][1], last)
    tokens = batch.inputs["input_ids"] != vlm.layout.vision_ids[0]
    embedded = vlm.model.get_input_embeddings()(batch.inputs["input_ids"])
    assert torch.equal(seen[0][0][tokens], embedded[tokens])


@pytest.mark.parametrize("size", [1, 4])
def test_attention_mass_equals_eager_attention(items, size):
    """Left-padded rows included: the mask must reach the observed attention."""
    observed = []
    vlm = tiny_llava()
    with torch.no_grad(), capturing_attention(vlm, lambda _, p: observed.append(p)):
        for batch in batches(vlm, items, batch_size=size):
            vlm.model(**batch.inputs)
    assert vlm.layout.text_config._attn_implementation == "sdpa"
    eager = tiny_llava(attention="eager")
    expected, masks = [], []
    with torch.no_grad():
        for batch in batches(eager, items, batch_size=size):
            out = eager.model(**batch.inputs, output_attentions=True)
            expected += out.attentions
            masks += [batch.inputs["attention_mask"].bool()] * len(out.attentions)
    assert len(observed) == len(expected)
    for got, want, mask in zip(observed, expected, masks, strict=True):
        rows = mask[:, None, :].expand(got.shape[:3])
        torch.testing.assert_close(got[rows], want[rows], atol=1e-5, rtol=1e-4)


def test_var_is_the_mass_on_image_keys(items):
    vlm = tiny_llava()
    found = profile(vlm, items[:1])
    masses = []
    with torch.no_grad(), capturing_attention(vlm, lambda _, p: masses.append(p[0].mean(0))):
        batch = next(batches(vlm, items[:1]))
        vlm.model(**batch.inputs)
    image = batch.inputs["input_ids"][0] == 3
    groups = vlm.layout.token_groups(batch.inputs["input_ids"], None)[0]
    asks = (groups == TOKEN_GROUPS.index("text")) & (image.cumsum(0) > 0)
    want = [mass[asks][:, image].sum(-1).mean().item() for mass in masses]
    np.testing.assert_allclose(found.values("text", "var"), want, rtol=1e-5)


def test_hooks_go_away_when_the_model_fails(items):
    vlm = tiny_llava()
    with pytest.raises(RuntimeError, match="boom"), capturing_states(vlm, lambda *_: None):
        raise RuntimeError("boom")
    assert not any(layer._forward_hooks for layer in vlm.layout.layers)
    with pytest.raises(RuntimeError, match="boom"), capturing_attention(vlm, lambda *_: None):
        raise RuntimeError("boom")
    assert vlm.layout.text_config._attn_implementation == "sdpa"


def test_a_random_copy_shows_its_images():
    """Gemma3's projector is made of zeros, which training fills."""
    copy = random_copy(with_processor("Gemma3"))
    assert all(p.any() for p in copy.model.parameters() if p.dim() > 1)


def test_random_copy_is_the_same_shape_and_seeded(items):
    vlm = tiny_llava()
    first, again, other = (
        random_copy(vlm, seed=1),
        random_copy(vlm, seed=1),
        random_copy(vlm, seed=2),
    )
    weights = [copy.layout.layers[0].mlp.up_proj.weight for copy in (vlm, first, again, other)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[1], weights[3])
    assert profile(first, items).n_layers == 4


def test_a_state_without_direction_is_said(items):
    vlm = tiny_llava()
    with torch.no_grad():
        vlm.model.get_input_embeddings().weight.zero_()
    with pytest.raises(BridgeError, match="layer 0: a state of the text tokens is zero"):
        profile(vlm, items)


def test_no_items_is_an_error():
    with pytest.raises(BridgeError, match="there are no items"):
        profile(tiny_llava(), [])
