"""Benchmarks run and say what they should; how fast anything is, is not tested."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import adaptive, power, shortcuts, skip
from benchmarks._by_hand import ByHand
from benchmarks._llava import prompt, random_llava
from vlm_bridge.cost import count_flops
from vlm_bridge.data import Item
from vlm_bridge.plan.modes import MODES, PRUNING_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping


def test_every_mode_is_measured_at_every_depth():
    for n_layers in (12, 30):
        found = skip.plans(n_layers)
        assert {plan.mode for plan in found} >= set(MODES)
        assert all(plan.n_layers == n_layers for plan in found)
    assert set(skip.TARGETS) == set(MODES) - set(PRUNING_MODES)


def test_plans_keep_at_most_seven_tenths_of_the_flops():
    vlm, inputs = random_llava(width=64, layers=12), prompt(1)

    def run():
        vlm.model(**inputs, use_cache=True, logits_to_keep=1)

    full = count_flops(run)
    for plan in skip.plans(12):
        most = 0.9 if plan.mode in ("vision_attention", "vision_mlp") else 0.7
        with skipping(vlm, plan):
            assert count_flops(run) <= most * full, plan.describe()


def test_the_skips_by_hand_say_what_ours_say():
    """Every mode, on prompts of equal layout: the logits of the last token."""
    vlm, inputs = random_llava(width=64, layers=12), dict(prompt(2))
    full = vlm.model(**inputs, use_cache=False, logits_to_keep=1).logits
    for plan in skip.plans(12):
        if plan.parts:
            continue
        with torch.no_grad(), skipping(vlm, plan):
            ours = vlm.model(**inputs, use_cache=False, logits_to_keep=1).logits
        hand = ByHand(vlm, plan)(inputs)
        torch.testing.assert_close(ours, hand, atol=1e-4, rtol=1e-4, msg=plan.describe())
        assert (hand - full).abs().max() > 1e-3, plan.describe()


def test_sentences_that_nearly_repeat():
    """One word in five may differ; recordings of one sentence count once."""

    def said(*sentences):
        return [Item(None, "what is said?", cluster=sentence) for sentence in sentences]

    asked = said("a b c d e", "a b c d e", "press one", "a b c x y")
    found = shortcuts.near_duplicates(asked, said("b c d e", "press two"))
    assert found == {"sentences": 3, "near": 1}


def test_few_candidates_are_spread_and_end_with_the_largest():
    plans = [SkipPlan("block", 30, layers=tuple(range(n))) for n in range(1, 30)]
    for most in (1, 4, 10, 29, 50):
        chosen = [len(plan.layers) for plan in adaptive.every(plans, most)]
        assert len(chosen) <= most
        assert chosen[-1] == 29
        assert chosen == sorted(chosen)
    assert adaptive.every(plans, 29) == plans


def test_rows_of_a_table_have_equal_keys():
    rows = adaptive.with_equal_keys([{"a": 1}, {"a": 2, "b": 3}])
    assert rows == [{"a": 1, "b": None}, {"a": 2, "b": 3}]


@pytest.mark.slow
def test_skip_prints_json(capsys, monkeypatch):
    few = "--json --pairs 1 --tokens 2 --batch-size 1 --model random --mode early_exit sublayer"
    monkeypatch.setattr(sys, "argv", ["skip", *few.split()])
    skip.main()
    body = json.loads(capsys.readouterr().out)
    assert [row["mode"] for row in body["rows"]] == ["early_exit", "sublayer"]
    for row in body["rows"]:
        assert row["efficiency"] == pytest.approx(row["flops_ratio"] / row["latency_ratio"])
        assert row["flops_ratio"] <= 0.7
        assert row["decode_latency_ratio"] > 0


@pytest.mark.slow
def test_power_knows_its_own_nulls():
    """Without a difference few experiments find one; with a large one most do."""
    none, some = power.ranks((30,), (0.0, 0.9), images=200, runs=30, seed=1)
    assert none["above zero"] <= 0.15
    assert some["above zero"] >= 0.9
    none, some = power.random_plans((20,), (0.0, 0.15), images=200, runs=200, seed=1)
    assert none["shown"] <= 0.1
    all_above = (1 - 0.03 / (5 * 0.18)) ** (4 * 20)  # of 20 draws of Beta(1, 4), scaled to mean .18
    assert some["shown"] == pytest.approx(all_above, abs=0.06)
    assert [row["images"] for row in power.certificates()] == [1091, 410, 191]
