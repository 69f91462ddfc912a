"""The benchmark of mutual information: its truths, its caps, its checkpoint, its arithmetic."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from benchmarks import mi
from benchmarks._capped import Capped
from benchmarks._mi_methods import METHODS, PEERS, Pairs, problems
from estimators import mutual_information


def test_problems_are_the_tasks_and_the_gaussians():
    names = list(problems())
    assert len([name for name in names if not name.startswith("gaussian-")]) == 40
    assert {"gaussian-spread-1", "gaussian-spread-1000", "gaussian-3-pairs-1000"} <= set(names)


@pytest.mark.parametrize(
    ("d", "count"),
    [(1, 1), *(pytest.param(8, count, marks=pytest.mark.slow) for count in (8, 3))],
)
def test_gaussians_have_one_nat_in_so_many_pairs(d, count):
    x, y = Pairs(d, count).sample(200_000, 0)
    found = mutual_information(x, y, method="gaussian")
    assert found.value == pytest.approx(1.0, abs=0.02)
    turned = [np.linalg.qr(side - side.mean(axis=0))[0] for side in (x, y)]
    r = np.linalg.svd(turned[0].T @ turned[1], compute_uv=False)
    assert (r[:count] > 0.3).all()
    assert (r[count:] < 0.02).all()


def sleepy(seconds, words):
    time.sleep(seconds)
    if words == "bad":
        raise ValueError("two\nlines")
    if words == "die":
        raise SystemExit
    return {"value": 1.0}


@pytest.mark.slow
def test_what_takes_too_long_is_stopped_and_the_next_goes_on():
    measure = Capped(sleepy, 5.0)  # a busy machine may take a second to end a process
    assert measure(0.0, "")["value"] == 1.0
    assert measure(30.0, "") == {"over_cap": 5.0}
    assert measure(0.0, "bad")["error"] == "two lines"
    assert "died" in measure(0.0, "die")["error"]
    found = measure(0.05, "")
    assert found["seconds"] >= 0.05
    measure.close()


def options(folder, *more):
    few = ["--n", "300", "--problems", "1v1-normal-0.75", "gaussian-spread-2"]
    few += ["--methods", "gaussian", "plug-in", "--out", str(folder)]
    return [*few, "--checkpoint", str(folder / "checkpoint.jsonl"), *more]


def test_a_stopped_run_goes_on(tmp_path, capsys):
    mi.main(options(tmp_path, "--seeds", "2"))
    said = capsys.readouterr().out
    assert said == (tmp_path / "mi.md").read_text()
    checkpoint = tmp_path / "checkpoint.jsonl"
    first = checkpoint.read_text()
    assert len(first.splitlines()) == 8
    mi.main(options(tmp_path, "--seeds", "3", "--json"))
    assert checkpoint.read_text().startswith(first)
    assert len(checkpoint.read_text().splitlines()) == 12
    body = json.loads(capsys.readouterr().out)
    assert body == json.loads((tmp_path / "mi.json").read_text())
    ours, plug_in = (
        [row for row in body["rows"] if row["method"] == method][1]
        for method in ("gaussian", "plug-in")
    )
    values = [
        mutual_information(*Pairs(2, 2).sample(300, seed), method="gaussian", seed=seed)
        for seed in range(3)
    ]
    errors = [one.value - 1.0 for one in values]
    assert ours["bias"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert ours["sd"] == pytest.approx(np.std(errors, ddof=1), abs=1e-4)
    inside = [one.interval[0] <= 1.0 <= one.interval[1] for one in values]
    assert ours["coverage"] == pytest.approx(np.mean(inside), abs=1e-3)
    assert "coverage" not in plug_in
    assert body["overview"][0]["answered"] == 1
    assert body["overview"][0]["runs"] == [3, 3]
    assert body["budget_seconds"] == 10.0


def test_a_report_measures_nothing_and_says_what_was_not_run(tmp_path, capsys):
    mi.main(options(tmp_path, "--seeds", "1", "--methods", "plug-in"))
    before = (tmp_path / "checkpoint.jsonl").read_text()
    mi.main(options(tmp_path, "--report"))
    assert (tmp_path / "checkpoint.jsonl").read_text() == before
    body = json.loads((tmp_path / "mi.json").read_text())
    counts = {row["method"]: (row["answered"], row["not_run"]) for row in body["overview"]}
    assert counts == {"gaussian": (0, 1), "plug-in": (1, 0)}
    assert "| gaussian | 0/1 | - | 1 not run |" in capsys.readouterr().out
    silent = [{"over_cap": 1.0}, {"error": "no"}, {"over_cap": 1.0, "bias": 0.0, "seeds": 1}]
    told = mi.overview(
        [{"problem": "a", "n": 1, "method": "m", "seconds": 1.0, **one} for one in silent]
    )
    assert (told[0]["over_cap"], told[0]["refused"], told[0]["not_run"]) == (1, 1, 0)


def test_a_budget_and_a_failure_end_a_cell():
    rows = [{"seed": 0, "value": 1.0, "low": None, "high": None, "seconds": 5.0}]
    cell = ("gaussian-spread-2", 300, "gaussian")
    asked = []

    def measure(*case):
        asked.append(case)
        return {"value": 1.0, "seconds": 3.0}

    assert len(list(mi.fill(cell, rows, measure, 9, budget=9.0))) == 2
    assert [case[-1] for case in asked] == [1, 2]
    assert not list(mi.fill(cell, [*rows, {"seed": 1, "over_cap": 1.0}], measure, 9, 99.0))
    found = list(mi.fill(cell, [], lambda *case: {"error": "no", "seconds": 0.0}, 9, 99.0))
    assert len(found) == 1
    told = mi.summary(cell, [*rows, {"seed": 1, "over_cap": 1.0}], 1.0)
    assert (told["over_cap"], told["seeds"], told["bias"]) == (1.0, 1, 0.0)


def test_overview_counts_what_is_called_reliable():
    def entry(problem, reliable, right, coverage):
        return {
            "problem": problem,
            "n": 10,
            "method": "m",
            "seeds": 10,
            "bias": 0.1,
            "seconds": 1.0,
            "coverage": coverage,
            "reliable": reliable,
            "reliable_and_covered": right,
        }

    table = [entry("a", 1.0, 0.9, 0.9), entry("b", 0.2, 0.1, 0.3)]
    (found,) = mi.overview(table)
    assert (found["reliable_problems"], found["coverage"]) == (1, 0.6)
    assert found["covered_if_reliable"] == pytest.approx(10 / 12, abs=1e-3)


@pytest.mark.parametrize("name", [*PEERS, "plug-in"])
def test_peers_see_a_bivariate_normal(name):
    if name in PEERS:
        pytest.importorskip(PEERS[name][0], reason=f"{name} is a peer of the extra [bench]")
    x, y = problems()["1v1-normal-0.75"].sample(3000, 0)
    assert METHODS[name](x, y, 0)["value"] == pytest.approx(0.413, abs=0.06)
