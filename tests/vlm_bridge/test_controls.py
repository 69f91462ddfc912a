"""Controls of a plan: random and deepest plans of its size, coarser images, attention knockout."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.skip_cases import assert_close, forward
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.cli.tables import controls_lines
from vlm_bridge.data import Item, read_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import controls as controls_module
from vlm_bridge.evaluate.controls import (
    Controlled,
    compare_with_controls,
    p_value_against,
    with_coarser_images,
)
from vlm_bridge.model.prompts import batches
from vlm_bridge.plan.controls import deepest_plan, random_plans
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.knockout import knocking_out

FREEZE = SkipPlan("freeze", 4, layers=(1, 2))


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


# Random and deepest plans


@given(st.integers(3, 12), st.data())
def test_random_plans_are_different_and_of_the_same_size(n, data):
    layers = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n - 1))
    plan = SkipPlan("block", n, layers=tuple(sorted(layers)))
    drawn = random_plans(plan, draws=20, seed=3)
    assert len(drawn) == min(20, math.comb(n, len(layers)) - 1)
    assert len(set(drawn)) == len(drawn)
    assert plan not in drawn
    assert {len(one.layers) for one in drawn} == {len(layers)}
    assert random_plans(plan, draws=20, seed=3) == drawn


def test_random_plans_are_uniform():
    """Every pair of five layers but the plan's own comes as often, first of the draws."""
    plan = SkipPlan("freeze", 5, layers=(0, 4))
    firsts = Counter(random_plans(plan, draws=1, seed=seed)[0].layers for seed in range(1800))
    assert set(firsts) == set(combinations(range(5), 2)) - {(0, 4)}
    assert max(firsts.values()) < 2 * min(firsts.values())


def test_parts_of_layers_keep_their_numbers():
    plan = SkipPlan("sublayer", 6, attention=(0, 1, 2), mlp=(5,))
    for one in random_plans(plan):
        assert (len(one.attention), len(one.mlp)) == (3, 1)
    assert deepest_plan(plan) == SkipPlan("sublayer", 6, attention=(3, 4, 5), mlp=(5,))


def test_layers_that_are_held_out_stay_as_in_the_plan():
    plan = SkipPlan("block", 8, layers=(0, 3, 5))
    for one in random_plans(plan, held_out=(0, 7)):
        assert 0 in one.layers
        assert 7 not in one.layers
        assert len(one.layers) == 3
    none = SkipPlan("block", 3, layers=(1,))
    assert random_plans(none, held_out=(0, 2)) == []


def test_random_shares_of_tokens():
    plan = SkipPlan("token_pruning", 6, after=2, keep=0.25)
    drawn = random_plans(plan, draws=3, seed=5)
    assert [one.select for one in drawn] == ["random:5", "random:6", "random:7"]
    assert {(one.after, one.keep) for one in drawn} == {(2, 0.25)}
    stages = SkipPlan("progressive_pruning", 6, stages=((1, 0.5), (3, 0.25)))
    assert {one.stages for one in random_plans(stages, draws=2)} == {stages.stages}
    own = SkipPlan("token_pruning", 6, after=2, keep=0.25, select="random")
    assert [one.select for one in random_plans(own, draws=2)] == ["random:1", "random:2"]


def test_a_plan_without_controls_is_refused():
    with refused("early_exit has one plan of each size"):
        random_plans(SkipPlan("early_exit", 6, exit=3))
    with refused("drawn for one mode in one stack, not for block+freeze; compare its parts"):
        deepest_plan(SkipPlan.compose(SkipPlan("block", 4, layers=(0,)), FREEZE))
    with refused("a plan that skips nothing has no controls"):
        random_plans(SkipPlan("block", 4))
    with refused("token_pruning names no layers"):
        deepest_plan(SkipPlan("token_pruning", 6, after=2, keep=0.5))


def test_draws_and_held_out_layers_out_of_range():
    plan = SkipPlan("block", 4, layers=(1,))
    with refused("layer 9 is held out, and layers are 0 to 3"):
        random_plans(plan, held_out=(9,))
    with refused("a number of draws is at least 0, got -1"):
        random_plans(plan, draws=-1)
    assert deepest_plan(plan, held_out=(3,)).layers == (2,)


def test_controls_of_a_hybrid_are_drawn_among_its_attention(tmp_path, monkeypatch):
    """Layers that a mode cannot skip are neither drawn nor knocked out."""
    vlm = tiny_llava()
    monkeypatch.setattr(controls_module, "supported_layers", lambda *_: (0, 2, 3))
    items = [Item(tmp_path / f"{n}.png", "what?") for n in range(2)]
    for number, item in enumerate(items):
        Image.new("RGB", (8, 8), (90 * number, 0, 0)).save(item.image)
    plan = SkipPlan("freeze", 4, layers=(0, 2))
    found = compare_with_controls(vlm, items, plan, folder=tmp_path, draws=9, bands=2)
    assert {one.plan.layers for one in found.random} == {(0, 3), (2, 3)}
    assert found.deepest.plan.layers == (2, 3)
    assert [one.layers for one in found.knockouts] == [(0,), (2, 3)]


def test_controls_come_from_nowhere():
    """No measurement chose them, so they are no plan of the model that chose the plan."""
    plan = SkipPlan("block", 4, layers=(1,))
    assert all(not one.provenance.fingerprint for one in [*random_plans(plan), deepest_plan(plan)])


# Attention knockout


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, draw, items = tmp_path_factory.mktemp("seen"), torch.Generator().manual_seed(2), []
    for number in range(4):
        path = folder / f"{number}.png"
        pixels = torch.randint(0, 256, (20, 30, 3), generator=draw, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
        question = "what colour is it?" if number % 2 else "what?"
        items.append(Item(path, question, "red"))
    return items


def inputs_of(vlm, items):
    return next(batches(vlm, items, batch_size=len(items))).inputs


def test_blind_in_every_layer_is_as_without_vision_in_any(pictures):
    """Then no later layer reads what modality tokens become: an exit before the first layer."""
    vlm = tiny_llava()
    inputs = inputs_of(vlm, pictures)
    text = ~vlm.layout.modality_flags(inputs["input_ids"]) & inputs["attention_mask"].bool()
    with skipping(vlm, SkipPlan("early_exit", 4, exit=0)):
        right = forward(vlm, inputs).logits[text]
    with knocking_out(vlm, range(4)):
        assert_close(forward(vlm, inputs).logits[text], right)
    assert (forward(vlm, inputs).logits[text] - right).abs().max() > 1e-2


@pytest.mark.parametrize("layers", [(0,), (1, 2), (3,)])
def test_knockout_by_hand(layers, pictures):
    """The attention of those layers is given a mask without the keys of the image."""
    vlm = tiny_llava()
    inputs = inputs_of(vlm, pictures)
    vision = vlm.layout.modality_flags(inputs["input_ids"])
    real = inputs["attention_mask"].bool()
    length = real.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril()[None] & real[:, None, :]
    blind = seen & ~(vision[:, None, :] & ~vision[:, :, None])
    closed = torch.finfo(torch.float32).min
    masks = [torch.where(mask, 0.0, closed)[:, None] for mask in (seen, blind)]

    def masked(mask):
        return lambda _, args, kwargs: (args, {**kwargs, "attention_mask": mask})

    hooks = [
        layer.register_forward_pre_hook(masked(masks[index in layers]), with_kwargs=True)
        for index, layer in enumerate(vlm.layout.layers)
    ]
    right = forward(vlm, inputs).logits[real]
    for hook in hooks:
        hook.remove()
    with knocking_out(vlm, layers):
        found = forward(vlm, inputs).logits[real]
    assert_close(found, right)
    assert (forward(vlm, inputs).logits[real] - right).abs().max() > 1e-3


def test_knockout_while_generating(pictures):
    """With a cache, token by token, the answer is that of one pass over prompt and answer."""
    vlm = tiny_llava()
    inputs = inputs_of(vlm, pictures)
    options = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4}
    with torch.no_grad(), knocking_out(vlm, (0, 2)):
        made = vlm.model.generate(
            **inputs, **options, output_logits=True, return_dict_in_generate=True
        )
        ones = torch.ones_like(made.sequences[:, inputs["input_ids"].shape[1] :])
        whole = {
            **inputs,
            "input_ids": made.sequences,
            "attention_mask": torch.cat([inputs["attention_mask"], ones], dim=1),
        }
        logits = forward(vlm, whole).logits[:, -5:-1]
        assert_close(torch.stack(made.logits, dim=1), logits)
    with torch.no_grad():
        full = vlm.model.generate(
            **inputs, **options, output_logits=True, return_dict_in_generate=True
        )
    assert (full.logits[0] - made.logits[0]).abs().max() > 1e-3


def test_a_knockout_ends_and_excludes_plans(pictures):
    vlm = tiny_llava()
    inputs = inputs_of(vlm, pictures)
    before = forward(vlm, inputs).logits
    with knocking_out(vlm, (1,)):
        with refused("is skipping already"), skipping(vlm, FREEZE):
            pass
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    assert torch.equal(forward(vlm, inputs).logits, before)
    more = {"input_ids": inputs["input_ids"][:, -1:], "past_key_values": cache}
    with skipping(vlm, FREEZE), refused("filled under another plan (text does not attend to"):
        forward(vlm, more)


def test_what_cannot_be_knocked_out(pictures):
    with refused("layer 9"), knocking_out(tiny_llava(), (9,)):
        pass


# Coarser images


@pytest.mark.parametrize(("share", "size"), [(1.0, (30, 20)), (0.25, (15, 10)), (1e-6, (1, 1))])
def test_coarser_images_keep_a_share_of_their_pixels(share, size, pictures, tmp_path):
    coarser = with_coarser_images(pictures, share, tmp_path)
    for item, one in zip(pictures, coarser, strict=True):
        assert read_image(one.image).size == size
        assert (one.question, one.answer, one.cluster) == (
            *(item.question, item.answer, item.cluster),
        )
    stamps = [one.image.stat().st_mtime_ns for one in coarser]
    again = with_coarser_images(pictures, share, tmp_path)
    assert [one.image.stat().st_mtime_ns for one in again] == stamps


def test_coarser_images_are_of_their_own_image(tmp_path):
    """Two images of one name in one cluster, one changed in place, one half written."""
    items = []
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / name / "x.png")
        items.append(Item(tmp_path / name / "x.png", "what?", cluster="../one/" + "c" * 300))
    folder = tmp_path / "coarser"

    def colours():
        made = with_coarser_images(items, 0.25, folder)
        assert {one.image.parent for one in made} == {folder}
        return [read_image(one.image).getpixel((0, 0)) for one in made]

    assert colours() == [(255, 0, 0), (0, 0, 255)]
    Image.new("RGB", (8, 8), "lime").save(items[0].image)
    assert colours() == [(0, 255, 0), (0, 0, 255)]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BridgeError):
        with_coarser_images(items, 0.25, tmp_path / "file" / "coarser")


def test_images_that_become_equal_are_said_not_to_serve(tmp_path):
    items = []
    for number in range(3):
        Image.new("RGB", (16 + number, 16), "red").save(tmp_path / f"{number}.png")
        items.append(Item(tmp_path / f"{number}.png", "what?"))
    plan = SkipPlan("token_pruning", 4, after=1, keep=0.001)
    found = compare_with_controls(tiny_llava(), items, plan, folder=tmp_path, draws=1, bands=0)
    assert found.coarser is None
    assert found.no_coarser in "\n".join(controls_lines(found, "vision"))
    assert "cluster" in found.no_coarser


def test_the_share_kept_is_that_of_the_last_stage_that_runs(pictures, tmp_path):
    plan = SkipPlan("progressive_pruning", 4, stages=((1, 0.75), (4, 0.01)))
    found = compare_with_controls(tiny_llava(), pictures, plan, folder=tmp_path, draws=1, bands=0)
    assert any("image with 0.75 of its pixels" in line for line in controls_lines(found, "vision"))


def test_what_is_no_image_is_not_made_coarser(tmp_path, pictures):
    with refused("has no image to make coarser"):
        with_coarser_images([Item(None, "why?")], 0.5, tmp_path)
    with refused("a share of pixels lies in (0, 1], got 0"):
        with_coarser_images(pictures, 0, tmp_path)


# All of them


def test_a_plan_beside_its_controls(pictures, tmp_path):
    vlm = tiny_llava()
    options = {"folder": tmp_path, "draws": 4, "bands": 3, "max_new_tokens": 2}
    found = compare_with_controls(vlm, pictures, FREEZE, **options)
    assert Controlled.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert compare_with_controls(vlm, pictures, FREEZE, **options) == found
    assert [one.layers for one in found.knockouts] == [(0,), (1,), (2, 3)]
    assert found.deepest.plan.layers == (2, 3)
    assert found.coarser is None
    low = sum(one.disagreement.value <= found.plan.disagreement.value for one in found.random)
    assert found.p_value == (1 + low) / 5
    lines = list(controls_lines(found, "vision"))
    assert len(lines) == 1 + 1 + 1 + 1 + 3 + 1
    assert lines[1].startswith("plan: freeze vision tokens in layers 1-2 (2 of 4)\t")
    assert (
        f"with p = {(1 + low) / 5:.3g} (4 draws, seed 0; with so few p is never below 0.2)"
        in lines[-1]
    )


@pytest.mark.parametrize(
    "plan",
    [
        SkipPlan("token_pruning", 4, after=1, keep=0.5),
        SkipPlan("progressive_pruning", 4, stages=((1, 0.75), (2, 0.5))),
    ],
    ids=lambda plan: plan.mode,
)
def test_a_pruning_beside_a_coarser_image(plan, pictures, tmp_path):
    vlm = tiny_llava()
    found = compare_with_controls(vlm, pictures, plan, folder=tmp_path, draws=2, bands=0)
    assert found.coarser.n_images == len(pictures)
    assert found.deepest is None
    assert found.knockouts == ()
    assert any("image with 0.5 of its pixels" in line for line in controls_lines(found, "vision"))
    everything = with_coarser_images(pictures, 1.0, tmp_path / "same")
    assert [read_image(a.image).tobytes() for a in everything] == [
        read_image(b.image).tobytes() for b in pictures
    ]


def test_rates_that_differ_by_rounding_are_equal():
    """Means of the same number of changes, summed in two orders."""
    one, other = 0.15555555555555553, 0.15555555555555556
    assert p_value_against([other] * 20, one) == p_value_against([one] * 20, other) == 1.0
    assert p_value_against([0.16] * 20, 0.15) == 1 / 21


def test_a_stage_that_never_runs_has_no_controls_of_its_size(pictures, tmp_path):
    plan = SkipPlan("progressive_pruning", 4, stages=((4, 0.5),), entry=1)
    found = compare_with_controls(tiny_llava(), pictures, plan, folder=tmp_path, bands=0)
    assert (found.random, found.deepest, found.coarser) == ((), None, None)
    assert plan.describe() == "vision tokens enter at layer 1 (progressive_pruning, 4 layers)"


def test_a_depth_has_knockouts_alone(pictures, tmp_path):
    plan = SkipPlan("early_exit", 4, exit=2)
    found = compare_with_controls(tiny_llava(), pictures, plan, folder=tmp_path, bands=2)
    assert (found.random, found.deepest) == ((), None)
    assert math.isnan(found.p_value)
    assert len(found.knockouts) == 2
    assert not any("random" in line for line in controls_lines(found, "vision"))


def test_controls_on_the_command_line(folder, jsonl, tmp_path, capsys):
    words = ("controls", folder, "block layers=1", "--data", jsonl, "--max-new-tokens", 2)
    few = ("--draws", 2, "--bands", 2, "--out", tmp_path)
    assert run(*words, *few) == 0
    said = capsys.readouterr().out
    assert "2 random plans of its size\tmedian " in said
    assert "text blind to vision tokens in layers 2-3\t" in said
    assert json.loads((tmp_path / "controls.json").read_text())["type"] == "Controlled"
    assert run(*words, *few, "--hold-out", "0,2-3") == 0
    assert "random plans" not in capsys.readouterr().out
    assert run(*words, *few, "--hold-out", "3-1") == 2
    assert "--hold-out '3-1' has a range that runs backwards" in capsys.readouterr().err
    assert run("controls", folder, "block layers=1 + freeze layers=2", "--data", jsonl) == 2
    assert "compare its parts one by one" in capsys.readouterr().err
