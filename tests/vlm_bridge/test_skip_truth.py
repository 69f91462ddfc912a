"""Skipped models against decoders run by hand, row by row, with no code of the bridge's skip.

One sequence at a time, without padding and cache: the rows that exist in a layer are taken
out, the layer runs on them with their original positions and a triangle mask, and they are
put back.
"""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from tests.vlm_bridge.selectors import farthest_first, relevant_words
from tests.vlm_bridge.skip_cases import PLANS, forward, tiny
from tests.vlm_bridge.tiny import BATCHES, batch
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.selectors.cdpruner import cdpruner_places
from vlm_bridge.skip.selectors.dart import dart_places

BY_ATTENTION = ("fastv", "sparsevlm")


def run_rows(vlm, index, states, rows, *, attention, mlp):
    """Layer `index` on `rows` of (t, width) states: new rows, eager attention weights.

    `attention` and `mlp` are (t, 1), 1 for the rows that get the update and 0 for others.
    """
    layer, decoder = vlm.layout.layers[index], vlm.layout.decoder
    x = states[rows][None]
    triangle = torch.full((len(rows), len(rows)), -1e9).triu(1)[None, None]
    rotary = decoder.rotary_emb(x, rows[None])
    update, weights = layer.self_attn(
        layer.input_layernorm(x), position_embeddings=rotary, attention_mask=triangle
    )
    x = x + update * attention[rows]
    x = x + layer.mlp(layer.post_attention_layernorm(x)) * mlp[rows]
    return x[0], weights


def selected_by_hand(select, features, text, count, received):
    """Places of the modality tokens that stay; the selectors themselves are in test_selectors."""
    name, _, seed = select.partition(":")
    if name == "visionzip":
        return received.topk(count).indices
    if name == "random":
        return torch.randperm(len(features), generator=torch.Generator().manual_seed(int(seed)))[
            :count
        ]
    if name == "uniform":
        return torch.tensor([int((i + 0.5) * len(features) / count) for i in range(count)])
    if name == "divprune":
        return torch.tensor(farthest_first(features, count))
    return {"cdpruner": cdpruner_places, "dart": dart_places}[name](features, text, count, 0)


def by_hand(vlm, plan, states, vision, received):
    """Final logits of one sequence of input states (t, width) under `plan`.

    `received` (t,) is the attention that each token received in the vision encoder.
    """
    parts = {part.mode: part for part in plan.parts or (plan,)}
    everything, text = torch.arange(len(states)), (~vision).nonzero()[:, 0]
    there = vision.nonzero()[:, 0]  # the modality tokens that pruning has left so far
    for index in range(plan.n_layers):
        rows = everything
        prune = parts.get("token_pruning", parts.get("progressive_pruning"))
        shares = {} if prune is None or not vision.any() else dict(prune.pruning)
        by_attention = prune is not None and prune.select in BY_ATTENTION
        if index in shares and not by_attention:
            count = max(1, round(shares[index] * int(vision.sum())))
            places = selected_by_hand(
                prune.select, states[there], states[~vision], count, received[there]
            )
            there = there[places.sort().values]
        if shares and index >= min(shares):
            rows = everything[~vision | torch.isin(everything, there)]
        for part in parts.values():
            if part.exit is not None and index >= part.exit:
                rows = text
            if part.entry is not None and index < part.entry:
                rows = text
        if "block" in parts and index in parts["block"].layers:
            continue
        updates = {}
        for name in ("attention", "mlp"):
            of_modality = parts.get(f"vision_{name}")
            updated = torch.ones(len(states), 1)
            if of_modality is not None and index in of_modality.layers:
                updated[vision] = 0
            if "sublayer" in parts and index in getattr(parts["sublayer"], name):
                updated[:] = 0
            updates[name] = updated
        new, weights = run_rows(vlm, index, states, rows, **updates)
        if index + 1 in shares and by_attention:
            raters = torch.tensor([-1])
            if prune.select == "sparsevlm":
                words = relevant_words(states, vision, torch.isin(everything, there))
                raters = torch.isin(rows, torch.as_tensor(words)).nonzero()[:, 0]
            scores = weights[0, :, raters][..., torch.isin(rows, there)].mean((0, 1))
            count = max(1, round(shares[index + 1] * int(vision.sum())))
            there = there[scores.topk(count).indices.sort().values]
        if "freeze" in parts and index in parts["freeze"].layers:
            new = torch.where(vision[rows][:, None], states[rows], new)
        states = states.index_copy(0, rows, new)
    return vlm.model.lm_head(vlm.layout.decoder.norm(states))


@lru_cache
def inputs_of(name):
    """A batch of `BATCHES`, or `even`: ragged vision counts, equal lengths, no padding."""
    if name != "even":
        return batch(name)
    inputs = batch("image first")
    inputs["input_ids"] = inputs["input_ids"].clone()
    inputs["input_ids"][1, :4] = torch.tensor([7, 9, 8, 6])
    inputs["pixel_values"] = inputs["pixel_values"][:1]
    return inputs


@lru_cache
def first_states(name):
    """Input of layer 0, image features merged in, from a pass of the full model."""
    vlm, found = tiny("eager"), []
    handle = vlm.layout.layers[0].register_forward_pre_hook(
        lambda _, args: found.append(args[0]), with_kwargs=False
    )
    forward(vlm, inputs_of(name))
    handle.remove()
    return found[0]


@lru_cache
def first_received(name):
    """(batch, t): attention of the class token in the second-to-last layer of the encoder."""
    inputs = inputs_of(name)
    received = torch.zeros(inputs["input_ids"].shape)
    if "pixel_values" in inputs:
        tower = tiny("eager").layout.base.vision_tower
        with torch.no_grad():
            weights = tower(inputs["pixel_values"], output_attentions=True).attentions[-2]
        received[inputs["input_ids"] == 3] = weights[:, :, 0, 1:].mean(1).flatten()
    return received


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.describe())
@pytest.mark.parametrize("name", [*BATCHES, "even"])
@pytest.mark.parametrize("attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def test_skipping_is_what_it_says(plan, name, attention):
    vlm, inputs = tiny("eager"), inputs_of(name)
    with skipping(tiny(attention), plan):
        skipped = forward(tiny(attention), inputs, use_cache=True).logits
    for i, states in enumerate(first_states(name)):
        # Left padding shifts positions, which rotary attention does not see.
        real = inputs["attention_mask"][i].bool()
        vision = inputs["input_ids"][i][real] == 3
        with torch.no_grad():
            truth = by_hand(vlm, plan, states[real], vision, first_received(name)[i][real])
        torch.testing.assert_close(skipped[i][real], truth, atol=1e-4, rtol=1e-4)


def test_nothing_skipped_is_the_full_model():
    vlm, inputs = tiny("eager"), batch("single")
    truth = forward(vlm, inputs).logits[0]
    plan = SkipPlan("early_exit", 4, exit=4)
    with torch.no_grad():
        vision = inputs["input_ids"][0] == 3
        received = first_received("single")[0]
        hand = by_hand(vlm, plan, first_states("single")[0], vision, received)
    torch.testing.assert_close(hand, truth, atol=1e-4, rtol=1e-4)
