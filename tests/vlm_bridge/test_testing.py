"""The toy VLM as a real LLaVA: what was planted is confirmed by skipping it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import vlm_bridge as vb
from theory.systems import run_toy, toy_vlm
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.sweep import sweep_plans
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.toy import toy_image, toy_items, toy_llava
from vlm_bridge.plan.skip_plan import SkipPlan

TOY = toy_vlm()


@pytest.fixture(scope="module")
def vlm():
    return toy_llava(TOY)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return toy_items(TOY, tmp_path_factory.mktemp("toy"))


def is_safe(plan: SkipPlan) -> bool:
    truth = TOY.truth
    if plan.mode in ("block", "freeze"):
        safe = truth.safe_blocks if plan.mode == "block" else truth.safe_freezes
        return set(plan.layers) <= set(safe)
    entry_is_safe = plan.entry is None or plan.entry in truth.safe_entries
    return entry_is_safe and (plan.exit is None or plan.exit in truth.safe_exits)


@torch.no_grad()
def logits(vlm, items):
    (batch,) = batches(vlm, items, batch_size=len(items))
    return vlm.model(**batch.inputs).logits[:, -1].numpy()


def margins(found):
    top = np.sort(found, axis=-1)
    return top[:, -1] - top[:, -2]


def numpy_logits(items, toy=TOY, **plan):
    classes = [int(item.image.stem) % 4 for item in items]
    return run_toy(toy, classes, [int(item.question[1:]) for item in items], **plan).logits


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llava_computes_what_numpy_computes(items, attention):
    found = logits(toy_llava(TOY, attention=attention), items)
    np.testing.assert_allclose(found, numpy_logits(items), atol=1e-4)


@pytest.mark.parametrize("plan", [None, SkipPlan("late_entry", TOY.n_layers, entry=3)])
def test_numpy_and_llava_agree_where_nothing_is_planted(items, plan):
    # Noise in every weight and fast rotary positions: every part of the pass counts.
    rng = np.random.default_rng(0)
    noisy = replace(
        TOY,
        rope_theta=10.0,
        weights={
            name: array + 0.2 * rng.standard_normal(array.shape)
            for name, array in TOY.weights.items()
        },
    )
    vlm = toy_llava(noisy)
    with contextlib.ExitStack() as stack:
        if plan is not None:
            stack.enter_context(vb.skipping(vlm, plan))
        found = logits(vlm, items)
    expected = numpy_logits(items, noisy, entry=plan.entry if plan else 0)
    assert np.abs(expected - numpy_logits(items)).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_it_answers_every_question_in_one_word(vlm, items):
    assert vb.answer(vlm, items) == [item.answer for item in items]


PLANS = [
    *sweep_plans(TOY.n_layers),
    SkipPlan("block", TOY.n_layers, layers=TOY.truth.safe_blocks),
    SkipPlan("freeze", TOY.n_layers, layers=TOY.truth.safe_freezes),
    SkipPlan("band", TOY.n_layers, entry=1, exit=6),
    SkipPlan("band", TOY.n_layers, entry=1, exit=5),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe().replace(" ", "-"))
def test_planted_truth_is_confirmed_by_skipping(vlm, items, plan):
    full = logits(vlm, items)
    with vb.skipping(vlm, plan):
        skipped = logits(vlm, items)
        texts = vb.answer(vlm, items[:4])
    assert margins(skipped).min() > 1
    if is_safe(plan):
        np.testing.assert_allclose(skipped, full, atol=1e-3)
        assert texts == [item.answer for item in items[:4]]
    else:
        assert texts == [TOY.truth.unsafe_answer] * 4


def test_the_profile_finds_the_planted_distances(vlm, items):
    profile = vb.profile(vlm, items)
    for group, planted in (
        ("image", TOY.truth.vision_distance),
        ("text", TOY.truth.text_distance),
    ):
        np.testing.assert_allclose(profile.values(group, "cosine_distance"), planted, atol=1e-5)


def test_compare_and_certify_agree_with_the_truth(vlm, items):
    safe = SkipPlan("early_exit", TOY.n_layers, exit=6)
    assert vb.compare(vlm, safe, items).disagreement.value == 0
    harm = vb.compare(vlm, SkipPlan("block", TOY.n_layers, layers=(4,)), items)
    assert (harm.disagreement.value, harm.drop.value) == (1, 1)
    assert vb.certify(vlm, safe, items, epsilon=0.5, delta=0.05).holds


def test_another_table_and_many_classes(tmp_path):
    toy = toy_vlm(np.random.default_rng(1).integers(0, 6, (3, 16)))
    items = toy_items(toy, tmp_path, images=16)
    assert vb.answer(toy_llava(toy), items) == [item.answer for item in items]


def test_images_of_one_class_are_different_files(tmp_path):
    items = toy_items(TOY, tmp_path, images=9, questions_per_image=1)
    assert len({item.image.read_bytes() for item in items}) == 9
    assert {item.question for item in items} == {"q0"}
    assert toy_image(1) != toy_image(2)


def test_bad_requests_are_named(tmp_path):
    with pytest.raises(BridgeError, match="0 images with 2 of 2 questions: nothing to ask"):
        toy_items(TOY, tmp_path, images=0)
    with pytest.raises(BridgeError, match="8 images with 3 of 2 questions"):
        toy_items(TOY, tmp_path, questions_per_image=3)
