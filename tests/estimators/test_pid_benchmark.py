"""The PID benchmark runs, in a tiny configuration, and its peers are told from their absence."""

from __future__ import annotations

import json

import pytest

from benchmarks import pid as benchmark
from benchmarks._pid_peers import PEERS


@pytest.mark.slow
def test_it_measures_and_prints_json(capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "PEERS", {"ours": PEERS["ours"], "Clarabel": PEERS["Clarabel"]})
    benchmark.main(
        ["--json", "--random", "8", "--batch-size", "3", "--sizes", "2", "--limit", "30"]
    )
    result = json.loads(capsys.readouterr().out)
    assert result["gates"]["gates"] == 26
    assert result["gates"]["max_error_bits"] < 1e-6
    assert result["exactness"]["converged"] == result["exactness"]["distributions"] == 8
    assert result["seconds"]["ours"]["k=2"]["wall"] > 0.0
    for difference in result["exactness"]["max_difference_to_clarabel_bits"].values():
        assert difference == "absent" or difference < 1e-6
    benchmark.show(result)
    assert "max_error_bits" in capsys.readouterr().out


def test_a_peer_that_is_not_installed_is_called_absent(monkeypatch):
    monkeypatch.setitem(benchmark.ENVIRONMENT, "PYTHONPATH", "")
    code = (
        "import sys; sys.modules['clarabel'] = None; from benchmarks._pid_peers import main; main()"
    )
    run = benchmark.subprocess.run
    monkeypatch.setattr(
        benchmark.subprocess, "run", lambda command, **k: run([command[0], "-c", code], **k)
    )
    assert benchmark.job("Clarabel", benchmark.draw(2, 1), 30.0) == {"word": "absent"}


def test_past_the_limit_is_a_word(monkeypatch):
    monkeypatch.setattr(benchmark, "START_UP", 0.0)
    assert benchmark.job("ours", benchmark.draw(2, 1), 1e-3) == {"word": "> 0.001 s"}
