"""Formulas of the rules on fixed numbers, and choices reproduced from their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vlm_bridge.profiles import made_profile
from tests.vlm_bridge.tiny import picture, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.first_token import starts_right
from vlm_bridge.model.prompts import batches
from vlm_bridge.plan.modes import LAYERWISE, RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import empty_plan, union, units
from vlm_bridge.rules import RULES, VTW, Evidence, Random, find_rule, nested_plans, score_units
from vlm_bridge.rules.account import REQUIREMENTS
from vlm_bridge.rules.controls import evenly
from vlm_bridge.rules.measure.candidates import CandidateRun
from vlm_bridge.skip import skipping

L = 5


class Made(Evidence):
    """Evidence whose candidate runs are numbers of the test's choosing."""

    def __init__(self, numbers: list[float]) -> None:
        super().__init__(profile=made_profile(L, image=[0.1] * L))
        self.numbers = numbers

    def candidates(self, plans):
        self._check_allowed("candidate runs", "candidates")
        return [
            CandidateRun(plan, number, 9.0, 2 * number, 0.0, number / 2, 1.0)
            for plan, number in zip(plans, self.numbers, strict=True)
        ]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_what_it_is(name):
    rule = RULES[name]
    assert rule.name == name
    assert rule.requires in REQUIREMENTS
    assert set(rule.modes) <= set(RULE_MODES)
    assert rule.source
    assert rule.condition


@pytest.mark.parametrize("mode", RULE_MODES)
def test_units_of_a_mode(mode):
    found = units(mode, L)
    n = 2 * L if mode == "sublayer" else L if mode in LAYERWISE else L - 1
    assert len(found) == len({plan.hash() for plan in found}) == n
    assert not any(plan.is_empty for plan in found)
    assert empty_plan(mode, L).is_empty


def test_a_union_of_units():
    assert union(units("sublayer", 3)[1:4]) == SkipPlan("sublayer", 3, attention=(1,), mlp=(0, 1))


def test_units_refuse():
    with pytest.raises(BridgeError, match="rules have no mode 'band'"):
        units("band", 4)
    with pytest.raises(BridgeError, match="got n_layers=1"):
        units("block", 1)


def test_shortv_is_the_divergence_of_each_layer():
    got = score_units(find_rule("shortv"), Made([0.3, 0.1, 0.2, 0.5, 0.4]))
    assert got.tolist() == [0.3, 0.1, 0.2, 0.5, 0.4]
    order = [plan.layers for plan in nested_plans(find_rule("shortv"), Made(got.tolist()))]
    assert order == [(1,), (1, 2), (0, 1, 2), (0, 1, 2, 4), (0, 1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("divergence", "first", "expected"),
    [([0.0, 0.5, 0.002, 0.0], 1, 1), ([0.0, 0.5, 0.002, 0.0], 2, 3), ([1.0] * 4, 1, None)],
)
def test_vtw_takes_the_first_depth_below_its_threshold(divergence, first, expected):
    rule = VTW(eta=0.003, first=first)
    found = rule.choice(Made(divergence))
    assert (None if found is None else found.exit) == expected


def test_deepinsert_is_the_loss_of_each_entry():
    got = score_units(find_rule("deepinsert"), Made([0.1, 0.2, 0.3, 0.4]))
    assert got.tolist() == [0.2, 0.4, 0.6, 0.8]
    plans = nested_plans(find_rule("deepinsert"), Made([0.4, 0.3, 0.2, 0.1]))
    assert [plan.entry for plan in plans] == [1, 2, 3, 4]


def test_fastv_prunes_half_after_each_layer():
    rule = find_rule("fastv")
    got = score_units(rule, Made([0.4, 0.3, 0.2, 0.1]))
    assert got.tolist() == [0.4, 0.3, 0.2, 0.1]
    plans = nested_plans(rule, Made([0.4, 0.3, 0.2, 0.1]))
    assert [(plan.after, plan.keep) for plan in plans] == [(4, 0.5), (3, 0.5), (2, 0.5), (1, 0.5)]


def test_var_sums_the_attention_where_a_unit_is_felt():
    made = Evidence(profile=made_profile(4, image=[0.1] * 4, text_var=[0.4, 0.3, 0.2, 0.1]))
    rule = find_rule("var")
    assert score_units(rule, made, "early_exit") == pytest.approx([0.6, 0.3, 0.1])
    assert score_units(rule, made, "freeze") == pytest.approx([0.6, 0.3, 0.1, 0.0])
    assert score_units(rule, made, "late_entry") == pytest.approx([0.4, 0.7, 0.9])


class Seen(Evidence):
    """Evidence whose last-token states are numbers of the test's choosing, one image each."""

    def __init__(self, states: np.ndarray) -> None:
        n = len(states) - 1
        super().__init__(profile=made_profile(n, image=[0.1] * n))
        self._made["last-token states"] = states
        self.cost["last-token states"] = 1.0

    @property
    def clusters(self):
        return ["a", "b"]


def turned(*degrees: float) -> np.ndarray:
    """(states, 2, 2) unit vectors at these angles, alike for both images."""
    angles = np.radians(degrees)
    one = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.stack([one, one], axis=1)


def test_angular_takes_the_block_that_turns_least():
    made = Seen(turned(0, 90, 100, 110, 200))
    rule = find_rule("angular")
    assert score_units(rule, made) * 180 == pytest.approx([90, 10, 10, 90])
    plans = nested_plans(rule, made)
    assert [plan.layers for plan in plans] == [(1,), (1, 2), (0, 1, 2)]
    assert rule.distances(made, 3) * 180 == pytest.approx([110, 110])


def test_delask_is_the_cosine_of_consecutive_updates():
    states = np.zeros((4, 2, 2))
    states[1:, :, 0] = np.array([1.0, 3.0, 2.0])[:, None]  # updates +1, +2, -1 along one axis
    assert score_units(find_rule("delask"), Seen(states)).tolist() == [1.0, 1.0, -1.0]


def test_last_token_states_are_the_inputs_of_the_layers(items):
    vlm = tiny_llava()
    evidence = Evidence(vlm, items, batch_size=2)
    found = evidence.last_token_states()
    for place, item in enumerate(items):
        (batch,) = batches(vlm, [item], batch_size=1)
        with torch.no_grad():
            plain = vlm.model(**batch.inputs, output_hidden_states=True).hidden_states
        for layer in range(vlm.layout.n_layers):
            expected = plain[layer][0, -1].double().numpy()
            assert found[layer, place] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert evidence.cost == {"last-token states": 1.0}


@pytest.mark.parametrize("n", [4, 9, 32])
def test_unified_spaces_middle_layers_evenly(n):
    made = Evidence(profile=made_profile(n, image=[0.1] * n))
    plans = nested_plans(find_rule("unified"), made)
    assert [len(plan.layers) for plan in plans] == list(range(1, n - 1))
    for plan in plans:
        assert 0 not in plan.layers
        assert n - 1 not in plan.layers
        gaps = np.diff(plan.layers)
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
    assert evenly(n, n - 2) == tuple(range(1, n - 1))
    assert score_units(find_rule("unified"), made)[[0, n - 1]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("mode", RULE_MODES)
def test_nulls_look_at_nothing(mode):
    made = Evidence(profile=made_profile(L, image=[0.1] * L))
    n = len(units(mode, L))
    drawn = score_units(find_rule("random"), made, mode)
    assert sorted(drawn) == list(range(n))
    assert (drawn == score_units(Random(), made, mode)).all()
    assert any((score_units(Random(seed=s), made, mode) != drawn).any() for s in range(1, 5))
    depth = score_units(find_rule("deepest-first"), made, mode)
    rising = mode == "late_entry"
    assert (np.diff(depth) > 0).all() == rising
    assert (np.diff(depth) < 0).all() == (not rising)
    assert made.spent == {"random": {}, "deepest-first": {}}


@pytest.fixture
def many(items):
    """The questions of the first pictures about as many as clusters of states need."""
    folder = items[0].image.parent
    for number in range(24):
        picture(number).save(folder / f"many-{number}.png")
    asked = [items[number % len(items)] for number in range(24)]
    return [
        replace(item, image=folder / f"many-{number}.png", cluster=str(number))
        for number, item in enumerate(asked)
    ]


@pytest.mark.parametrize("name", RULES)
def test_no_rule_reads_more_than_it_says(items, many, name):
    """Every rule in every mode, on evidence that refuses what is not announced."""
    rule = RULES[name]
    evidence = Evidence(tiny_llava(), many if rule.condition == "informational" else items)
    for mode in rule.modes:
        assert np.isfinite(score_units(rule, evidence, mode)).all()
    kinds = evidence.spent[name]
    if rule.requires == "nothing":
        assert not kinds
    if rule.requires == "forward pass":
        assert not any(kind.startswith("candidate") for kind in kinds)


@torch.no_grad()
def by_hand(vlm, items, plan: SkipPlan) -> float:
    """Mean over images of `KL(p_skip || p_full)` at the last position, in the plain form."""
    per_image: dict[str, list[float]] = {}
    for item in items:
        (batch,) = batches(vlm, [item], batch_size=1)
        full = vlm.model(**batch.inputs).logits[0, -1].double().softmax(-1)
        with skipping(vlm, plan, fast=False):
            other = vlm.model(**batch.inputs).logits[0, -1].double().softmax(-1)
        value = float((other * (other.log() - full.log())).sum())
        per_image.setdefault(item.cluster, []).append(value)
    return float(np.mean([np.mean(values) for values in per_image.values()]))


def test_shortv_is_reproduced_from_its_definition(items):
    vlm = tiny_llava()
    got = score_units(find_rule("shortv"), Evidence(vlm, items))
    n = vlm.layout.n_layers
    plain = [by_hand(vlm, items, SkipPlan("freeze", n, layers=(layer,))) for layer in range(n)]
    assert got == pytest.approx(plain, rel=1e-3, abs=1e-7)
    assert np.argsort(got).tolist() == np.argsort(plain).tolist()


def test_vtw_is_reproduced_from_its_definition(items):
    vlm = tiny_llava()
    n = vlm.layout.n_layers
    plain = [by_hand(vlm, items, SkipPlan("early_exit", n, exit=k)) for k in range(1, n)]
    evidence = Evidence(vlm, items)
    assert score_units(find_rule("vtw"), evidence) == pytest.approx(plain, rel=1e-3, abs=1e-7)
    for eta in (min(plain) / 2, 1.1 * float(np.median(plain)), max(plain) * 2):
        below = [k for k, value in enumerate(plain, start=1) if k >= 2 and value <= eta]
        found = VTW(eta=eta, first=2).choice(evidence)
        assert (None if found is None else found.exit) == (below[0] if below else None)


@torch.no_grad()
def accuracy_by_hand(vlm, items, plan: SkipPlan) -> float:
    judge = starts_right(vlm)
    per_image: dict[str, list[float]] = {}
    for item in items:
        (batch,) = batches(vlm, [item], batch_size=1)
        with skipping(vlm, plan, fast=False):
            token = int(vlm.model(**batch.inputs).logits[0, -1].argmax())
        right = judge(vlm.processor.tokenizer.decode([token]), item)
        per_image.setdefault(item.cluster, []).append(float(bool(right)))
    return float(np.mean([np.mean(values) for values in per_image.values()]))


def test_gm_skip_is_greedy_on_accuracy(items):
    vlm = tiny_llava()
    n = vlm.layout.n_layers
    out: list[int] = []
    while len(out) < n:
        tried = {
            layer: accuracy_by_hand(
                vlm, items, SkipPlan("block", n, layers=tuple(sorted([*out, layer])))
            )
            for layer in range(n)
            if layer not in out
        }
        out.append(max(tried, key=lambda layer: (tried[layer], layer)))
    evidence = Evidence(vlm, items)
    assert np.argsort(score_units(find_rule("gm-skip"), evidence)).tolist() == out
    assert sum(evidence.spent["gm-skip"].values()) == n * (n + 1) / 2


def test_labels_are_for_gm_skip_alone(items):
    evidence = Evidence(tiny_llava(), items)
    with pytest.raises(BridgeError, match="code outside a rule may read candidate runs at most"):
        evidence.labels()
    for name, rule in RULES.items():
        with evidence.open_to(name, rule.requires):
            if rule.requires == "labels":
                assert evidence.labels() == [item.answer for item in items]
            else:
                with pytest.raises(
                    BridgeError, match=f"rule '{name}' may read {rule.requires} at most"
                ):
                    evidence.labels()
    assert all(item.answer is None for item in evidence.items)
    assert [name for name, rule in RULES.items() if rule.requires == "labels"] == ["gm-skip"]


def test_gm_skip_refuses_deep_models_and_missing_labels(items):
    deep = Evidence(profile=made_profile(17, image=[0.1] * 17))
    with pytest.raises(BridgeError, match="153 candidates on 17 layers"):
        score_units(find_rule("gm-skip"), deep)
    unlabelled = [replace(item, answer=None) for item in items]
    with pytest.raises(BridgeError, match="have no answer"):
        score_units(find_rule("gm-skip"), Evidence(tiny_llava(), unlabelled))
