"""The generated scenes: what is asked is true of what is drawn, and splits keep apart."""

from __future__ import annotations

import re
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.data import HELD_OUT, SCENES_SPLITS, scenes, shows_held_out
from vlm_bridge.data.questions import NUMBERS, ask
from vlm_bridge.data.scenes_task import CELLS, COLOURS, SHAPES, SIDE, paint, scene
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.baselines import blind_answers, majority_answers

SPLITS = tuple(SCENES_SPLITS)
places = st.tuples(st.sampled_from(SPLITS), st.integers(0, 199))


def matching(things, name):
    """The objects that "the circle", "red object" or "circles" speak of."""
    words = name.replace("crosses", "cross").split()
    shape = next((s for s in SHAPES if any(w in (s, f"{s}s") for w in words)), None)
    colour = next((c for c in COLOURS if c in words), None)
    return [t for t in things if shape in (None, t.shape) and colour in (None, t.colour)]


def solve(things, question):
    """The answer, found from the words of the question alone, a second way."""
    if found := re.fullmatch(r"how many (.+) are there\?", question):
        return NUMBERS[len(matching(things, found[1]))]
    if found := re.fullmatch(r"is the (.+) (left of|above) the (.+)\?", question):
        (a,), (b,) = matching(things, found[1]), matching(things, found[3])
        return "yes" if ((a.x < b.x) if found[2] == "left of" else (a.y < b.y)) else "no"
    if found := re.fullmatch(r"what color is the dot in the (.+)\?", question):
        (thing,) = matching(things, found[1])
        return thing.dot
    if found := re.fullmatch(r"what color is the (.+)\?", question):
        (thing,) = matching(things, found[1])
        return thing.colour
    found = re.fullmatch(r"what shape is the (.+)\?", question)
    (thing,) = matching(things, found[1])
    return thing.shape


@given(places, st.randoms(use_true_random=False))
def test_every_answer_is_true_and_every_name_is_one_objects(place, draw):
    things = scene(*place)
    pairs = ask(things, draw)
    assert 0 < len(pairs) <= 8
    assert len({question for question, _ in pairs}) == len(pairs)
    for question, answer in pairs:
        assert solve(things, question) == answer, question


@given(places, st.integers(170, 235))
def test_the_picture_shows_the_scene(place, ground):
    things = scene(*place)
    pixels = np.asarray(paint(things, ground))
    left = pixels.copy()
    for thing in things:
        shown = COLOURS[thing.dot or thing.colour]
        assert tuple(pixels[thing.y, thing.x]) == shown
        x, y, r = thing.x, thing.y, thing.radius
        assert (pixels[y - r : y + r + 1, x - r : x + r + 1] == COLOURS[thing.colour]).all(
            -1
        ).sum() > 20
        left[y - r : y + r + 1, x - r : x + r + 1] = ground
    assert (left == ground).all()  # nothing is drawn where no object is


@given(places)
def test_objects_lie_in_cells_of_their_own(place):
    cell = SIDE // CELLS
    things = scene(*place)
    assert 2 <= len(things) <= 6
    assert len({(t.x // cell, t.y // cell) for t in things}) == len(things)
    for thing in things:
        assert thing.radius <= min(thing.x, thing.y, SIDE - 1 - thing.x, SIDE - 1 - thing.y)
        assert thing.dot != thing.colour


def test_training_never_shows_a_held_out_pair_and_the_others_do():
    pairs = {(t.colour, t.shape) for n in range(SCENES_SPLITS["train"]) for t in scene("train", n)}
    assert len(pairs) == len(SHAPES) * len(COLOURS) - len(HELD_OUT)
    assert not pairs & HELD_OUT
    for split in SPLITS[1:]:
        items = scenes(split)
        assert len({item.cluster for item in items}) == SCENES_SPLITS[split]
        share = np.mean([shows_held_out(item) for item in items])
        assert 0.3 < share < 0.7


def test_no_scene_of_one_split_is_in_another():
    drawn = Counter()
    for split, count in SCENES_SPLITS.items():
        for things in {scene(split, number) for number in range(count)}:
            drawn[things] += 1
    assert max(drawn.values()) == 1


def test_nothing_is_worth_much_without_the_picture():
    training, items = scenes("tuning"), scenes("test")
    truth = [item.answer for item in items]

    def right(given):
        return np.mean([a == b for a, b in zip(given, truth, strict=True)])

    assert right(blind_answers(training, items)) < 0.5
    assert right(majority_answers(training, items)) < 0.3
    said = Counter(i.answer for i in items if i.question.startswith("is the"))
    assert 0.45 < said["yes"] / sum(said.values()) < 0.55


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(BridgeError, match="scenes has no split 'dev'; it has train, profile"):
        scenes("dev")
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("SKIPIT_CACHE", str(blocked))
    with pytest.raises(BridgeError, match=r"cannot write to .*: .*; set SKIPIT_CACHE to a folder"):
        scenes("profile")


def test_a_killed_drawing_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path))
    calls = iter(range(5))

    def dies(things, ground):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return paint(things, ground)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["vlm_bridge.data.scenes_task"], "paint", dies)
        with pytest.raises(KeyboardInterrupt):
            scenes("profile")
    assert not list((tmp_path / "scenes-2-hashed").iterdir())
    items = scenes("profile")
    assert all(item.image.is_file() for item in items)
    assert items == scenes("profile")
