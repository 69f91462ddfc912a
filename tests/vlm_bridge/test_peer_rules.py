"""AdaSkip, Skip-Vision, ARank, LVLM-PID and Shannon invariants against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from estimators import pid_from_pmf
from tests.vlm_bridge.families import FAMILIES, SITUATIONS, batch, tiny
from tests.vlm_bridge.held_evidence import Held
from tests.vlm_bridge.tiny import tiny_llava
from theory.systems import toy_vlm
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, find_rule, score_units
from vlm_bridge.rules.measure.attention_rank import mean_rank
from vlm_bridge.rules.measure.information import CodedStates, StateAtoms, redundancy
from vlm_bridge.rules.measure.sublayers import SublayerGeometry, _geometry, capturing_parts
from vlm_bridge.skip import skipping


def test_adaskip_and_skip_vision_are_their_formulas():
    similarity, change = np.array([0.9, 0.5, 1.0, -1.0, 0.0, 0.25]), np.arange(6.0)
    made = Held(geometry_of_sublayers=SublayerGeometry(similarity, np.ones(6), change))
    assert score_units(find_rule("adaskip"), made).tolist() == (1 - similarity).tolist()
    assert score_units(find_rule("skip-vision"), made).tolist() == [1.0, 3.0, 5.0]


def test_geometry_of_fixed_states():
    a = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    b = torch.tensor([[[1.0, 1.0], [0.0, 6.0], [0.0, 0.0]]])
    real = torch.tensor([[True, True, False]])
    vision = torch.tensor([[False, True, False]])
    # cos 45 degrees and cos 0; lengths sqrt(2)/1 and 6/2; |(0, 4)|/2
    assert _geometry(a, b, real, vision) == pytest.approx([0.5**0.5 + 1, 2**0.5 + 3, 2.0])


@torch.no_grad()
def test_adaskip_is_reproduced_from_its_definition(items):
    """Prompt by prompt, from the modules of a Llama layer by name."""
    vlm = tiny_llava()
    got = score_units(find_rule("adaskip"), Evidence(vlm, items, batch_size=4))
    change = score_units(find_rule("skip-vision"), Evidence(vlm, items, batch_size=4))
    cosines: list[list[float]] = [[] for _ in got]
    changes: list[list[float]] = [[] for _ in change]
    for item in items:
        (one,) = batches(vlm, [item], batch_size=1)
        seen = vlm.layout.modality_flags(one.inputs["input_ids"])[0]
        streams: dict[int, list[torch.Tensor]] = {}
        handles = []
        for number, layer in enumerate(vlm.layout.layers):
            kept = streams.setdefault(number, [])
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                handles.append(
                    norm.register_forward_pre_hook(
                        lambda _, given, kept=kept: kept.append(given[0][0])
                    )
                )
            handles.append(
                layer.register_forward_hook(
                    lambda _, given, output, kept=kept: kept.append(output[0])
                )
            )
        vlm.model(**one.inputs)
        for handle in handles:
            handle.remove()
        for number, (before, between, after) in streams.items():
            for part, (a, b) in enumerate(((before, between), (between, after))):
                cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)
                cosines[2 * number + part] += cosine.tolist()
            moved = (after - between).norm(dim=-1) / between.norm(dim=-1)
            changes[number] += moved[seen].tolist()
    assert got == pytest.approx([1 - np.mean(one) for one in cosines], abs=1e-5)
    assert change == pytest.approx([np.mean(one) for one in changes], rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_state_between_is_found_in_every_family(family):
    """What MLP and attention add, by leaving one of them out: the layer itself is the witness."""
    vlm = tiny(FAMILIES[family])
    inputs = batch(FAMILIES[family], SITUATIONS["padded"])
    seen: dict[int, tuple[torch.Tensor, ...]] = {}
    with capturing_parts(vlm, lambda layer, *parts: seen.__setitem__(layer, parts)):
        vlm.model(**inputs, use_cache=False)
    assert sorted(seen) == list(range(vlm.layout.n_layers))
    plan = SkipPlan("sublayer", vlm.layout.n_layers, mlp=(0,))
    other: dict[int, tuple[torch.Tensor, ...]] = {}
    with (
        skipping(vlm, plan, fast=False),
        capturing_parts(vlm, lambda layer, *parts: other.__setitem__(layer, parts)),
    ):
        vlm.model(**inputs, use_cache=False)
    assert torch.allclose(other[0][2], seen[0][1], atol=1e-5)  # no MLP: it ends in between
    assert not torch.allclose(seen[0][2], seen[0][1], atol=1e-3)


class Parallel(nn.Module):
    """A layer whose MLP reads its input, beside attention."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp

    def forward(self, hidden_states: torch.Tensor, **named: object) -> torch.Tensor:
        attended = self.self_attn(hidden_states=hidden_states, **named)[0]
        return hidden_states + attended + self.mlp(hidden_states)


def test_parallel_sublayers_are_refused(items):
    vlm = tiny_llava()
    vlm.layout.layers[1] = Parallel(vlm.layout.layers[1])
    with pytest.raises(BridgeError, match=r"layer 1 \(Parallel\) passes no normalised state"):
        score_units(find_rule("adaskip"), Evidence(vlm, items))


def test_arank_of_fixed_maps():
    uniform = torch.full((4, 4), 0.25)
    maps = torch.stack([torch.stack([uniform, torch.eye(4)])] * 2)
    real = torch.tensor([[True] * 4, [False, False, True, True]])
    assert mean_rank(maps, real).tolist() == [2.5, 1.5]  # padding is cut before the rank is taken


@given(seed=st.integers(0, 10_000), rank=st.integers(1, 6))
def test_arank_is_the_rank_that_was_planted(seed, rank):
    generator = torch.Generator().manual_seed(seed)
    made = torch.rand(1, 3, 6, rank, generator=generator).double()
    maps = made @ torch.rand(1, 3, rank, 6, generator=generator).double()
    assert mean_rank(maps, torch.ones(1, 6, dtype=torch.bool)).tolist() == [rank]


@torch.no_grad()
def test_arank_is_reproduced_from_its_definition(items):
    eager = tiny_llava(attention="eager")
    got = score_units(find_rule("arank"), Evidence(tiny_llava(), items, batch_size=4))
    per_image: dict[str, list[list[float]]] = {}
    for item in items:
        (one,) = batches(eager, [item], batch_size=1)
        maps = eager.model(**one.inputs, output_attentions=True).attentions
        ranks = [np.mean([np.linalg.matrix_rank(head) for head in m[0].numpy()]) for m in maps]
        per_image.setdefault(item.cluster, []).append(ranks)
    expected = np.mean([np.mean(ranks, axis=0) for ranks in per_image.values()], axis=0)
    assert got == pytest.approx(expected, abs=0.3)  # a singular value may lie on the threshold


def test_lvlm_pid_is_what_needs_vision_by_state():
    unique, synergy = np.array([0.3, 0.1, 0.2, 0.0]), np.array([0.0, 0.4, 0.1, 0.0])
    atoms = StateAtoms(np.ones(4), unique, np.ones(4), synergy)
    made = Held(
        captured_states=_Answers(),
        clusters_of_captured_states=_CODED,
        atoms_of_captured_states=atoms,
    )
    assert score_units(find_rule("lvlm-pid"), made, "early_exit") == pytest.approx([0.5, 0.3])
    assert score_units(find_rule("lvlm-pid"), made, "freeze") == pytest.approx([0.2, 0.2, 0.3])


def test_shannon_invariants_are_the_redundancy_of_neighbours():
    made = Held(captured_states=_Answers(), clusters_of_captured_states=_CODED)
    rule = find_rule("shannon-invariants")
    # The same code twice: all is held twice. A code and one that says nothing: all is held once.
    assert score_units(rule, made, "block") == pytest.approx([0.0, 1.0, 1.0], abs=0.1)
    # Two bits whose exclusive or is the answer: nothing is held by one alone.
    assert score_units(rule, made, "freeze") == pytest.approx([2.0, 1.0, 1.0], abs=0.1)


def test_a_degree_that_is_not_defined_is_one():
    nothing = np.zeros(40, dtype=np.int64)
    assert redundancy(nothing, nothing, np.arange(40) % 2) == 1.0


_BIT, _OTHER = np.tile([0, 0, 1, 1], 50), np.tile([0, 1, 0, 1], 50)
_NONE = np.zeros(200, dtype=np.int64)
_CODED = CodedStates(
    text=(_BIT ^ _OTHER, _BIT ^ _OTHER, _NONE, _NONE),
    vision=(_BIT, _OTHER, _OTHER, _OTHER),
    answers=_BIT ^ _OTHER,
)


class _Answers:
    answers = _BIT


@pytest.fixture(scope="module")
def toy():
    # As many questions as classes: image and question alone say nothing about the answer.
    return toy_vlm((np.arange(3)[None, :] + np.arange(3)[:, None]) % 3)


@pytest.fixture(scope="module")
def evidence(toy, tmp_path_factory):
    items = toy_items(toy, tmp_path_factory.mktemp("toy"), images=60)
    return Evidence(toy_llava(toy), [items[3 * i + i // 3 % 3] for i in range(60)])


def test_on_the_toy_both_see_the_layer_that_copies_the_answer_to_text(toy, evidence):
    copy, answer = toy.schedule.index("copy"), toy.schedule.index("answer")
    needs = score_units(find_rule("lvlm-pid"), evidence, "early_exit")  # unit b - 1 is exit b
    assert needs[:copy].min() > 5 * needs[answer:].max()
    held = score_units(find_rule("shannon-invariants"), evidence, "block")
    assert held[copy] > 0.8  # question and image meet in its output alone
    assert held[answer + 1 :].max(initial=0.0) < 0.2  # the answer is in both states ever after
    assert sum(evidence.spent["lvlm-pid"].values()) == 1.0  # one pass, however much is read off it


def test_atoms_are_those_of_the_codes(evidence):
    """State by state, against the exact solver on the empirical distribution."""
    coded, atoms = evidence.coded_states(), evidence.state_atoms()
    for state in (0, len(coded.text) - 1):
        codes = (coded.vision[state], coded.text[state], coded.answers)
        p = np.zeros([int(c.max()) + 1 for c in codes])
        np.add.at(p, codes, 1 / len(coded.answers))
        exact = pid_from_pmf(p)
        found = [getattr(atoms, n)[state] for n in ("unique_vision", "unique_text", "synergistic")]
        truth = [exact.unique_1, exact.unique_2, exact.synergistic]
        assert found == pytest.approx(truth, abs=0.25)  # they are corrected for bias
