"""The same number of forward passes for every rule."""

from __future__ import annotations

import json

import pytest

from theory.systems import toy_vlm
from vlm_bridge.cli import main
from vlm_bridge.cli.options import ModelOptions
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.observe.profile import profile as run_profile
from vlm_bridge.rules import Evidence, SkipItRuns, find_rule, score_units, within_forward_cost


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    toy = toy_vlm()
    items = toy_items(toy, tmp_path_factory.mktemp("toy"), images=20, questions_per_image=1)
    return toy_llava(toy), items


@pytest.mark.parametrize(
    ("name", "mode"),
    [("shortv", "freeze"), ("vtw", "early_exit"), ("deepinsert", "late_entry")],
)
@pytest.mark.parametrize("forward_cost", [3.0, 9.0])
def test_a_rule_sees_what_it_can_pay_for(made, name, mode, forward_cost):
    vlm, items = made
    evidence = Evidence(vlm, items)
    rule, part = within_forward_cost(find_rule(name), evidence, mode, forward_cost)
    assert not evidence.cost  # the price was found on one image, not on all
    score_units(rule, part, mode)
    cost = sum(part.spent[name].values()) * len(part.items)
    price = cost / len(part.items)
    assert cost <= forward_cost * len(items) + 1e-6
    assert cost + price > forward_cost * len(items) or len(part.items) == len(items)
    assert part.clusters == [item.cluster for item in items][: len(part.items)]


def test_enough_is_the_evidence_itself(made):
    vlm, items = made
    evidence = Evidence(vlm, items)
    assert within_forward_cost(find_rule("shortgpt"), evidence, "block", 1.0)[1] is evidence
    rule, part = within_forward_cost(find_rule("skip-it-runs"), evidence, "block", 12.0)
    assert (rule, part) == (SkipItRuns(forward_cost=12.0), evidence)
    score_units(rule, part, "block")
    assert 8.0 < sum(part.spent["skip-it-runs"].values()) <= 12.0


def test_bad_budgets_are_named(made):
    vlm, items = made
    evidence = Evidence(vlm, items)
    with pytest.raises(BridgeError, match="positive number of forward passes, got 0"):
        within_forward_cost(find_rule("shortv"), evidence, "freeze", 0.0)
    with pytest.raises(BridgeError, match=r"'shortv' costs .* do not pay for one image"):
        within_forward_cost(find_rule("shortv"), evidence, "freeze", 0.1)
    with pytest.raises(BridgeError, match="no question is about any of 1 images"):
        evidence.part(["nothing"])


@pytest.mark.slow
def test_a_plan_is_explained_within_a_budget(made, tmp_path, monkeypatch, capsys):
    vlm, _ = made
    toy = toy_vlm()
    items = toy_items(toy, tmp_path / "images", images=24)
    data = tmp_path / "data.jsonl"
    rows = [{"image": str(i.image), "question": i.question, "cluster": i.cluster} for i in items]
    data.write_text("\n".join(json.dumps(row) for row in rows))
    monkeypatch.setattr(ModelOptions, "load", lambda self: vlm)
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(run_profile(vlm, items).to_json()))
    words = ["plan", "toy", "--data", str(data), "--profile", str(profile)]
    words += ["--out", str(tmp_path / "plan.json"), "--rule"]

    def run(*more: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        return int(ended.value.code or 0)

    assert run("skip-it-slopes", "--mode", "early_exit", "--explain") == 0
    *lines, spent, chosen, tuned = capsys.readouterr().out.strip().splitlines()
    assert lines[0].split("\t") == ["unit", "score", "S6", "S7", "S14", "S9", "S8"]
    assert len(lines) == 1 + 10
    safe = [depth for depth in toy.truth.safe_exits if 1 <= depth < toy.n_layers]
    for depth, line in enumerate(lines[1:], start=1):
        unit, _, s6, *_ = line.split("\t")
        assert unit.startswith(f"vision tokens leave after layer {depth - 1} ")
        assert s6.endswith("*") == (depth not in safe)
    assert spent.startswith("forward-pass equivalents: slopes of the margin, 24 images 7.0")
    assert "all were tried on tuning images" in chosen
    assert "on 24 tuning images" in tuned
    assert run("shortv", "--forward-cost", "3") == 0
    settings = json.loads((tmp_path / "plan.json").read_text())["provenance"]["settings"]
    assert 6.0 < settings["forward_cost"] < 8.0  # 1 + 66 / 11 for each of fewer questions
    assert run("shortv", "--explain") == 2
    assert "no conditions to explain; skip-it-slopes has" in capsys.readouterr().err
