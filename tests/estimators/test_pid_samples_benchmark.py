"""The benchmark of PID from samples: its systems, its checkpoint, its arithmetic."""

import json

import numpy as np
import pytest

from benchmarks import pid_samples
from benchmarks._pid_systems import SYSTEMS
from estimators import pid_from_pmf


@pytest.mark.parametrize("name", sorted(SYSTEMS))
@pytest.mark.parametrize("bins", [2, 4])
def test_systems_are_pmfs(name, bins):
    p = SYSTEMS[name](bins)
    assert p.shape == (bins, bins, bins)
    assert (p >= 0.0).all()
    assert p.sum() == pytest.approx(1.0)


def test_the_tie_is_one_and_the_others_are_not():
    tie = pid_from_pmf(SYSTEMS["tie"](4))
    assert abs(tie.unique_1) + abs(tie.unique_2) < 1e-9
    for name in ("gaussian", "categorical"):
        found = pid_from_pmf(SYSTEMS[name](4))
        assert found.unique_1 + found.unique_2 > 0.05


def run(folder, *more):
    options = ["--bins", "2", "--n", "300", "--systems", "gaussian", "--out", str(folder)]
    pid_samples.main([*options, "--checkpoint", str(folder / "checkpoint.jsonl"), *more])
    return json.loads((folder / "pid_samples.json").read_text())


def test_a_stopped_run_goes_on(tmp_path, capsys, monkeypatch):
    run(tmp_path, "--seeds", "2")
    capsys.readouterr()
    checkpoint = tmp_path / "checkpoint.jsonl"
    first = checkpoint.read_text()
    asked = []
    original = pid_samples.measure
    monkeypatch.setattr(pid_samples, "measure", lambda *case: asked.append(case) or original(*case))
    result = run(tmp_path, "--seeds", "3", "--json")
    assert asked == [("gaussian", 2, 300, 2)]
    assert checkpoint.read_text().startswith(first)
    assert json.loads(capsys.readouterr().out) == result
    assert result["table"][0]["seeds"] == 3
    assert "| gaussian | 2 | 300 |" in (tmp_path / "pid_samples.md").read_text()


def test_summary_is_bias_error_and_coverage(tmp_path):
    run(tmp_path, "--seeds", "4")
    rows = [json.loads(line) for line in (tmp_path / "checkpoint.jsonl").read_text().splitlines()]
    entry = json.loads((tmp_path / "pid_samples.json").read_text())["table"][0]
    truth = np.array(list(pid_from_pmf(SYSTEMS["gaussian"](2), unit="bits").atoms.values()))
    ours = np.array([row["ours"] for row in rows])
    assert entry["ours"]["bias"] == pytest.approx((ours - truth).mean(axis=0), abs=1e-4)
    assert entry["ours"]["mae"] == pytest.approx(abs(ours - truth).mean(axis=0), abs=1e-4)
    inside = [
        [low <= t <= high for low, t, high in zip(row["low"], truth, row["high"], strict=True)]
        for row in rows
    ]
    assert entry["coverage"][0] == pytest.approx(np.mean(inside, axis=0)[0], abs=1e-3)
