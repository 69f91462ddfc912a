"""The same number of forward passes for every rule."""

from __future__ import annotations

import pytest

from theory.systems import toy_vlm
from vlm_bridge.errors import BridgeError
from vlm_bridge.rules import Evidence, SkipItRuns, find_rule, score_units, within_passes
from vlm_bridge.testing import toy_items, toy_llava


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    toy = toy_vlm()
    items = toy_items(toy, tmp_path_factory.mktemp("toy"), images=20, questions_per_image=1)
    return toy_llava(toy), items


@pytest.mark.parametrize(
    ("name", "mode"),
    [("shortv", "freeze"), ("vtw", "early_exit"), ("deepinsert", "late_entry")],
)
@pytest.mark.parametrize("passes", [3.0, 9.0])
def test_a_rule_sees_what_it_can_pay_for(made, name, mode, passes):
    vlm, items = made
    rule, part = within_passes(find_rule(name), Evidence(vlm, items), mode, passes)
    score_units(rule, part, mode)
    cost = sum(part.spent[name].values()) * len(part.items)
    price = cost / len(part.items)
    assert cost <= passes * len(items) + 1e-6
    assert cost + price > passes * len(items) or len(part.items) == len(items)
    assert part.groups == [item.group for item in items][: len(part.items)]


def test_enough_is_the_evidence_itself(made):
    vlm, items = made
    evidence = Evidence(vlm, items)
    assert within_passes(find_rule("shortgpt"), evidence, "block", 1.0)[1] is evidence
    rule, part = within_passes(find_rule("skip-it-runs"), evidence, "block", 12.0)
    assert (rule, part) == (SkipItRuns(passes=12.0), evidence)
    score_units(rule, part, "block")
    assert 8.0 < sum(part.spent["skip-it-runs"].values()) <= 12.0


def test_bad_budgets_are_named(made):
    vlm, items = made
    evidence = Evidence(vlm, items)
    with pytest.raises(BridgeError, match="positive number of forward passes, got 0"):
        within_passes(find_rule("shortv"), evidence, "freeze", 0.0)
    with pytest.raises(BridgeError, match="'shortv' costs .* do not pay for one image"):
        within_passes(find_rule("shortv"), evidence, "freeze", 0.1)
    with pytest.raises(BridgeError, match="no question is about any of 1 images"):
        evidence.part(["nothing"])
