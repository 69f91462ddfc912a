"""The benchmark of rules on the toy VLM, whose truth is planted."""

from __future__ import annotations

import json

import pytest

from benchmarks import rules
from theory.systems import toy_vlm

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_rules_are_held_against_the_planted_truth(capsys, tmp_path):
    arguments = ["--json", "--modes", "freeze", "early_exit", "--images", "80", "--seen", "8"]
    rules.main([*arguments, "--journal", str(tmp_path)])
    body = json.loads(capsys.readouterr().out)
    truth = toy_vlm().truth
    for score in body["scores"]:
        if score["mode"] == "freeze":
            assert score["safe"] == len(truth.safe_freezes)
        assert score["undetermined"] == 0
        assert score["auc"]["n"] == 80
    by_rule = {(s["rule"], s["mode"]): s["auc"]["value"] for s in body["scores"]}
    assert by_rule["vtw", "early_exit"] == 1.0  # it runs what it is asked about
    assert by_rule["shortv", "freeze"] == 1.0
    passes = {(s["rule"], s["mode"]): s["passes"] for s in body["scores"]}
    assert passes["random", "freeze"] == 0
    assert passes["shortv", "freeze"] > passes["var", "freeze"] == 1.0
    assert not body["refused"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "toy-freeze-0.0.jsonl",
        "toy-early_exit-0.0.jsonl",
    }
    assert body["left_out"] == {}
