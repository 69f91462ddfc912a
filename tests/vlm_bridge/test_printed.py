"""What commands print beside a number says where it comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from estimators import Profile
from tests.vlm_bridge.command_line import run
from vlm_bridge.cli.model import cost_lines
from vlm_bridge.cli.options import ATTENTION
from vlm_bridge.cli.planning import _tuned
from vlm_bridge.cost import Cost, PhaseCost
from vlm_bridge.data import Item
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan


def cost(pairs: int) -> Cost:
    phase = PhaseCost.of((10, 5), [1.0] * pairs, [0.5] * pairs)
    return Cost(phase, None, 2, 1, 2, 1, batch_size=2, length=12, device="cpu", dtype="float32")


def test_too_few_pairs_have_a_reason_and_no_interval():
    (line, *_) = cost_lines(cost(3))
    assert "(median of 3 paired ratios 0.50, 3 pairs cannot give a 95% interval)" in line
    assert "0.50 to" not in line
    assert "(median of 6 paired ratios 0.50, 0.50 to 0.50)" in cost_lines(cost(6))[0]


def test_a_comparison_prints_its_cost_with_interval_and_batch(
    folder, jsonl, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("vlm_bridge.cli.evaluating.measure_cost", lambda *_, **__: cost(15))
    words = ("--data", jsonl, "--limit", 2, "--max-new-tokens", 1, "--out", tmp_path / "c.json")
    assert run("compare", folder, "block layers=1", *words) == 0
    said = capsys.readouterr().out
    assert all(line in said for line in cost_lines(cost(15)))
    assert "skip layer 1 (1 of 4)" in said


@pytest.mark.parametrize(
    ("whole", "who"),
    [
        (True, "the plan changed 2.50% of answers up to 8 tokens, "),
        (False, "the smallest plan of the rule changed at least 2.50% of answers up to 8 tokens, "),
    ],
)
def test_a_plan_says_what_was_measured(whole, who):
    settings = {"epsilon": 0.1, "threshold": 0.05, "tried": [{"rate": 0.025, "whole": whole}]}
    chosen = replace(
        SkipPlan("block", 4, layers=(1,)),
        provenance=Provenance(max_new_tokens=8, settings=settings),
    )
    said = _tuned(chosen, [Item(Path(f"{n}.png"), "why?") for n in range(40)])
    assert said.startswith(who)
    for part in ("on 40 tuning images", "allowed 5.00%, half of epsilon 0.1", "not certified"):
        assert part in said


def test_attention_is_refused_by_the_names_of_the_help(folder, capsys):
    assert run("cost", folder, "block layers=1", "--attention", "flash") == 2
    said = f"unknown --attention 'flash'; choose from {', '.join(ATTENTION)}"
    assert said in capsys.readouterr().err


def test_a_profile_is_printed_by_layer(folder, jsonl, tmp_path, capsys):
    out = tmp_path / "profile.json"
    assert run("profile", folder, "--data", jsonl, "--limit", 2, "--out", out) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][0] == "layer"
    assert {"VAR text", "VAR text, random weights", "distance image, random weights"} < {*lines[0]}
    measured = Profile.from_json(json.loads(out.read_text()))
    at = lines[0].index("distance image")
    shown = [float(line[at]) for line in lines[1:5]]
    right = measured.values("image", "cosine_distance")
    assert shown == pytest.approx(right.tolist(), rel=0.01)
    assert {len(line) for line in lines[:5]} == {len(lines[0])}


def test_a_sweep_is_printed_by_plan(folder, jsonl, tmp_path, capsys):
    words = ("--data", jsonl, "--limit", 2, "--mode", "block", "--out", tmp_path)
    assert run("sweep", folder, *words) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["plan", "first tokens changed", "KL(full, skipped), nats"]
    rows = json.loads((tmp_path / "sweep.json").read_text())
    assert [line[0] for line in lines[1:5]] == [f"skip layer {n} (1 of 4)" for n in range(4)]
    for line, row in zip(lines[1:5], rows, strict=True):
        assert line[1].startswith(f"{row['disagreement']['value']:.1%} (")
        assert float(line[2]) == pytest.approx(row["kl_full_skipped"]["value"], rel=0.01)


def test_large_numbers_are_written_out():
    lines = cost_lines(replace(cost(6), batch_size=1, peak_bytes_full=1_234_567_890))
    assert "1.23" not in lines[-2]
    assert "1,235 -> " in lines[-2]
    assert lines[-1].startswith("1 sequence of 12 tokens, ")
