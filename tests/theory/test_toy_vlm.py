"""The toy VLM in numpy: every planted fact is confirmed by running it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import cosine_distance
from theory.pmf import information
from theory.systems import run_toy, toy_vlm
from theory.systems.toy_build import SCHEDULE

TABLES = {
    "xor": None,
    "image only": np.tile(np.arange(5), (3, 1)),
    "question only": np.repeat(np.arange(3)[:, None], 4, axis=1),
    "many": np.random.default_rng(0).integers(0, 7, (6, 16)),
}


def every_input(toy):
    m, k = toy.table.shape
    return np.tile(np.arange(k), m), np.repeat(np.arange(m), k)


def answers(toy, run):
    return [toy.vocabulary[i] for i in run.logits.argmax(-1)]


def right_answers(toy):
    return [toy.answer(j, c) for c, j in zip(*every_input(toy), strict=True)]


def plans(toy):
    """(is it safe, keywords of run_toy) of every single-layer and single-depth plan."""
    truth = toy.truth
    layers, depths = range(toy.n_layers), range(toy.n_layers + 1)
    yield from ((layer in truth.safe_blocks, {"block": [layer]}) for layer in layers)
    yield from ((layer in truth.safe_freezes, {"freeze": [layer]}) for layer in layers)
    yield from ((depth in truth.safe_entries, {"entry": depth}) for depth in depths)
    yield from ((depth in truth.safe_exits, {"exit": depth}) for depth in depths)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_single_plan_does_what_was_planted(table):
    toy = toy_vlm(table)
    full = run_toy(toy, *every_input(toy))
    assert answers(toy, full) == right_answers(toy)
    np.testing.assert_allclose(full.margins(), toy.truth.margin, rtol=1e-9)
    assert toy.truth.margin > 1
    for safe, plan in plans(toy):
        run = run_toy(toy, *every_input(toy), **plan)
        assert run.margins().min() > 1, plan
        if safe:
            np.testing.assert_allclose(run.logits, full.logits, atol=1e-6, err_msg=str(plan))
        else:
            assert set(answers(toy, run)) == {toy.truth.unsafe_answer}, plan


def test_everything_safe_at_once_is_safe():
    toy = toy_vlm()
    truth = toy.truth
    run = run_toy(
        toy,
        *every_input(toy),
        block=truth.safe_blocks,
        freeze=truth.safe_freezes,
        entry=max(truth.safe_entries),
        exit=min(truth.safe_exits),
    )
    assert answers(toy, run) == right_answers(toy)
    np.testing.assert_allclose(run.margins(), truth.margin, rtol=1e-9)


def test_planted_distances():
    toy = toy_vlm()
    states = run_toy(toy, *every_input(toy)).states
    for place, planted in ((1, toy.truth.vision_distance), (-1, toy.truth.text_distance)):
        for layer, distance in enumerate(planted):
            found = cosine_distance(states[layer][:, place], states[layer + 1][:, place])
            np.testing.assert_allclose(found, distance, atol=1e-12)


def test_cosine_orders_the_layers_wrongly():
    toy = toy_vlm()
    kind = dict(zip(toy.schedule, toy.truth.text_distance, strict=True))
    assert kind["scale_text"] == 0.0
    assert toy.schedule.index("scale_text") not in toy.truth.safe_blocks
    assert toy.truth.vision_distance[2] > toy.truth.vision_distance[1]  # kernel above encode
    assert 2 in toy.truth.safe_blocks
    assert 1 not in toy.truth.safe_blocks


@st.composite
def schedules(draw):
    """Orders that keep the rules."""
    filler = st.lists(st.sampled_from(["identity", "kernel"]), max_size=2)
    quiet = st.lists(st.just("identity"), max_size=2)
    tail = st.lists(st.sampled_from(["identity", "kernel", "scale_vision"]), max_size=3)
    scaled = draw(st.sampled_from([[], ["scale_vision"]]))
    return [
        *draw(filler), "encode", *draw(filler), *scaled, *draw(quiet), "scale_text", "copy",
        *draw(tail), "answer", *draw(tail),
    ]  # fmt: skip


@given(schedules(), st.integers(1, 5))
@settings(max_examples=15)
def test_any_schedule_knows_its_truth(schedule, n_vision):
    toy = toy_vlm(schedule=schedule)
    inputs = every_input(toy)
    full = run_toy(toy, *inputs, n_vision=n_vision)
    np.testing.assert_allclose(full.margins(), toy.truth.margin, rtol=1e-9)
    for safe, plan in plans(toy):
        run = run_toy(toy, *inputs, n_vision=n_vision, **plan)
        assert (answers(toy, run) == right_answers(toy)) == safe, plan
        assert run.margins().min() > 1


def test_attention_to_vision_is_high_where_it_does_nothing():
    toy = toy_vlm()
    var = run_toy(toy, [0], [0]).var[:, 0]
    assert var[toy.schedule.index("copy")] == pytest.approx(1.0)
    quiet = [layer for layer, kind in enumerate(toy.schedule) if kind != "copy"]
    np.testing.assert_allclose(var[quiet], 4 / 6)


def test_the_joint_pmf_says_what_each_side_tells():
    p = toy_vlm().joint()
    assert p.sum() == pytest.approx(1.0)
    # Two questions leave two answers to an image, and two images to an answer.
    assert information(p, [1], [2]) == pytest.approx(0.0, abs=1e-12)
    assert information(p, [0], [2]) == pytest.approx(np.log(2))
    assert information(p, [0, 1], [2]) == pytest.approx(np.log(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": [[0.5, 1.0]]}, "whole numbers >= 0"),
        ({"table": [[0]]}, "2 to 16 classes"),
        ({"table": [[0, -1]]}, "whole numbers >= 0"),
        ({"schedule": ["copy"]}, "exactly one 'encode', got 0"),
        ({"schedule": [*SCHEDULE, "copy"]}, "exactly one 'copy', got 2"),
        ({"schedule": [*SCHEDULE, "magic"]}, "unknown kinds magic; choose from identity"),
        ({"schedule": ["encode", "answer", "scale_text", "copy"]}, "encode before copy before"),
        ({"schedule": ["encode", "copy", "scale_text", "answer"]}, "'scale_text', before copy"),
        ({"schedule": ["scale_vision", *SCHEDULE]}, "'scale_vision' must come after encode"),
        (
            {"schedule": ["encode", "scale_vision", "kernel", "scale_text", "copy", "answer"]},
            "no 'kernel' may stand between",
        ),
    ],
)
def test_bad_toys_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        toy_vlm(**options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0], [0, 1]), {}, "1 classes but 2 questions"),
        (([9], [0]), {}, r"classes lie in 0..3"),
        (([0], [0]), {"block": [11]}, r"layers lie in 0..10, got \(11,\)"),
        (([0], [0]), {"entry": 12}, r"depths lie in 0..11, got entry 12"),
    ],
)
def test_bad_runs_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        run_toy(toy_vlm(), *arguments, **options)
