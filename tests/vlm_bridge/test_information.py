"""Conditions on captured states: S8 in closed form, S9 and S14 against planted information."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.tiny import tiny_llava
from theory.systems import toy_vlm
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.rules import Evidence
from vlm_bridge.rules.measure.bounds import state_bounds
from vlm_bridge.rules.measure.information import StateConditions, _leading
from vlm_bridge.rules.measure.states import removal
from vlm_bridge.rules.skip_it_slopes import SkipItSlopes


@given(seed=st.integers(0, 10_000), padded=st.booleans())
def test_removal_is_what_renormalising_does(seed, padded):
    """S8: the head without vision keys, exactly; never more than mass times diameter."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(2, 4, 7, generator=generator).double() + 0.01
    values = torch.randn(2, 2, 7, 3, generator=generator).double()
    vision = torch.tensor([[0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0]]).bool()
    real = torch.ones_like(vision)
    if padded:
        real[:, 0] = False
        weights[..., 0] = 0.0
        values[:, :, 0] = 1e6  # of no consequence
    weights = weights / weights.sum(-1, keepdim=True)
    change, bound = removal(weights, values, vision, real)
    for row in range(2):
        for head in range(4):
            value, w = values[row, head // 2], weights[row, head]
            kept = w * ~vision[row]
            full, without = w @ value, kept / kept.sum() @ value
            size = (without - full).norm() / full.norm()
            assert change[row, head] == pytest.approx(float(size), rel=1e-6)
            seen = value[real[row]]
            wide = (seen[:, None] - seen[None]).norm(dim=-1).max() * w[vision[row]].sum()
            assert bound[row, head] == pytest.approx(float(wide / full.norm()), rel=1e-6)
            assert change[row, head] <= bound[row, head] * (1 + 1e-9)


def test_a_bound_is_reached_by_two_values():
    weights = torch.tensor([[[0.25, 0.75]]])
    values = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]])
    vision = torch.tensor([[True, False]])
    change, bound = removal(weights, values, vision, torch.ones_like(vision))
    assert change.item() == pytest.approx(1.0)  # |0 - o| / |o|
    assert bound.item() == pytest.approx(1.0)


def test_equal_states_are_none():
    assert _leading(np.full((5, 3), 7.0)) is None
    rows = np.random.default_rng(0).normal(size=(40, 3)) * [10.0, 1.0, 1e-9]
    assert _leading(rows).shape == (40, 2)


@pytest.fixture(scope="module")
def toy():
    # As many questions as classes: image and question alone say nothing about the answer.
    return toy_vlm((np.arange(3)[None, :] + np.arange(3)[:, None]) % 3)


@pytest.fixture(scope="module")
def found(toy, tmp_path_factory):
    items = toy_items(toy, tmp_path_factory.mktemp("toy"), images=60)
    # One question an image, every pair of class and question equally often.
    chosen = [items[3 * image + image // 3 % 3] for image in range(60)]
    return Evidence(toy_llava(toy), chosen).state_conditions()


def test_information_is_where_it_was_planted(toy, found):
    copy, answer = toy.schedule.index("copy"), toy.schedule.index("answer")
    everything = np.log(3)
    # Before the copy vision and question know all and either alone nothing: synergy.
    assert found.synergistic[copy] == pytest.approx(everything, abs=0.25)
    assert found.unique[copy] == pytest.approx(0.0, abs=0.15)
    # Text has the answer after it was computed, and vision adds nothing.
    assert found.usable_text[copy] < 0.1
    assert found.usable_text[answer + 1] > 0.8 * everything
    assert abs(found.usable_vision[answer + 1]) < 0.05
    assert found.unique[-1] + found.synergistic[-1] < 0.15
    # Only the copying layer reads vision.
    assert np.flatnonzero(found.removal > 1e-3).tolist() == [copy]
    assert (found.removal <= found.removal_bound + 1e-6).all()


def test_what_text_has_already_vision_does_not_add(tmp_path):
    """One answer for every question: the image alone tells it."""
    toy = toy_vlm(np.tile(np.arange(3), (2, 1)))
    items = toy_items(toy, tmp_path, images=60, questions_per_image=1)
    evidence = Evidence(toy_llava(toy), items)
    found = evidence.state_conditions()
    copy, everything = toy.schedule.index("copy"), np.log(3)
    assert found.vision_alone[copy] > 0.9 * everything
    assert found.usable_vision[copy] > 0.9 * everything
    assert found.unique[copy] == pytest.approx(everything, abs=0.2)
    assert found.vision_alone[-1] > 0.9 * everything
    assert abs(found.usable_vision[-1]) < 0.05
    assert found.unique[-1] == pytest.approx(0.0, abs=0.1)
    said = SkipItSlopes(images=2).explain(evidence, "early_exit", epsilon=0.1, probes=True)
    limits = {one.bound.statement: one.limit for one in said}
    # I-F and Pinsker: information of 2 epsilon^2 costs at most epsilon.
    assert limits == pytest.approx({"S6": 0.1, "S7": 0.005, "S14": 0.02, "S9": 0.02, "S8": 0.1})
    informational = [one for one in said if one.bound.statement == "S14"]
    assert [one.safe for one in informational] == [
        bool(value <= 0.02) for value in found.usable_vision[1:-1]
    ]


def test_conditions_of_units(toy, found):
    copy, answer = toy.schedule.index("copy"), toy.schedule.index("answer")
    by = {b.statement: b.value for b in state_bounds(found, "early_exit", copy)}
    assert set(by) == {"S14", "S9", "S8"}
    assert by["S14"] == found.usable_vision[copy + 1]
    assert by["S8"] == max(found.removal_bound[copy + 1 :])
    before = {b.statement: b.value for b in state_bounds(found, "early_exit", copy - 1)}
    assert before["S8"] == found.removal_bound[copy]
    assert before["S9"] == found.unique[copy] + found.synergistic[copy]
    (added,) = state_bounds(found, "block", answer)
    assert added.value == found.usable_text[answer + 1] - found.usable_text[answer] > 0.5
    frozen = {b.statement: b.value for b in state_bounds(found, "freeze", copy - 1)}
    assert frozen["S14"] == found.vision_alone[copy] - found.vision_alone[copy - 1]
    assert frozen["S8"] == found.removal_bound[copy]
    late = {b.statement: b.value for b in state_bounds(found, "late_entry", copy)}
    assert late["S14"] == found.usable_text[copy + 1] - found.usable_text[0]
    assert late["S8"] == found.removal_bound[copy]
    last = {b.statement: b.value for b in state_bounds(found, "freeze", toy.n_layers - 1)}
    assert last["S8"] == 0.0


def test_too_little_to_say_anything(items):
    with pytest.raises(BridgeError, match="at least 20 images, got 5"):
        Evidence(tiny_llava(), items).state_conditions()


def test_no_conditions_without_states():
    empty = np.zeros(3)
    made = StateConditions(empty, empty, empty, empty, empty, empty[:2], empty[:2], 30)
    assert [b.statement for b in state_bounds(made, "block", 0)] == ["S14"]
