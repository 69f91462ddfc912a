"""What is called reliable is right: the benchmark's arithmetic, and a part of its systems."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import reliable
from benchmarks._reliable_rules import above, rules, summary
from benchmarks._reliable_system import System, measure

#: Cheap systems of each kind, for every change.
FEW = (
    "near copy 1 + 1*",
    "near copy 3 + 3, n = 2000, s = 0.001",
    "x and *",
    "one column *",
    "product*8 + 8",
    "parity of 3*",
    "2.0% of the rows 0*1 + 1",
    "every pair 5 times*",
    "sign of a column of 1*",
    "2% zeros*",
    "label of an image, 2 columns*",
    "Markov chain*",
    "shared products*",
    "Gaussian 1 + 1*",
)


def answer(rng, *, value=0.0, half=1.0, sure=True):
    return SimpleNamespace(
        value=value, interval=(value - half, value + half), reliable=sure, reason="wide"
    )


def pid(rng):
    return SimpleNamespace(
        atoms={"a": 0.0, "b": 5.0}, intervals={"a": (-1, 1), "b": (4, 6)}, reliable=True
    )


def table_of(*systems, seeds=3):
    return [summary(one, [measure(one, seed) for seed in range(seeds)]) for one in systems]


def test_names_are_unique():
    names = [system.name for system in reliable.SYSTEMS]
    assert len(set(names)) == len(names)


def test_misses_count_every_atom_of_reliable_answers():
    right = System("right", "v", 0.5, answer)
    wrong = System("wrong", "v", 1.5, answer)
    doubted = System("doubted", "v", 1.5, lambda rng: answer(rng, sure=False))
    atoms = System("atoms", "v", {"a": 0.5, "b": 7.0}, pid)
    infinite = System("infinite", "v", np.inf, answer)
    found = table_of(right, wrong, doubted, atoms, infinite)
    assert [(row["reliable"], row["misses"], row["intervals"]) for row in found] == [
        (3, 0, 3),
        (3, 3, 3),
        (0, 0, 0),
        (3, 3, 6),
        (3, 3, 3),
    ]
    assert found[4]["truth"] == ["inf"]


def test_refusals_are_no_faults_and_faults_break_a_rule():
    def refuse(rng):
        raise ValueError("no")

    def die(rng):
        raise np.linalg.LinAlgError("SVD did not converge")

    refused, died = table_of(System("refuse", "v", 0, refuse), System("die", "v", 0, die))
    assert (refused["refused"], refused["faults"]) == (3, [])
    assert died["faults"] == ["LinAlgError: SVD did not converge"] * 3
    assert [rule["holds"] for rule in rules([refused])][-1]
    assert not [rule["holds"] for rule in rules([refused, died])][-1]


def test_a_share_is_held_to_its_limit_once_it_counts_enough():
    assert not above(20, 100, 0.2)
    assert above(21, 100, 0.2)
    assert not above(2, 5, 0.2)  # 26 % of honest systems would break the rule
    assert above(4, 5, 0.2)


def test_benign_systems_must_be_called_reliable():
    doubted = System("d", "v", 0, lambda rng: answer(rng, sure=False), benign=True)
    sure = System("s", "w", 0, answer, benign=True, suite="gaussians")
    held = {rule["rule"]: rule["holds"] for rule in rules(table_of(doubted, sure, seeds=9))}
    assert not held["v: benign estimates called reliable"]
    assert held["w: benign estimates called reliable"]
    assert held["benign Gaussians called reliable"]


def test_a_stopped_run_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reliable, "SYSTEMS", (System("right", "v", 0.5, answer),))
    few = ["--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.jsonl"), "--seeds"]
    assert reliable.main([*few, "2"]) == 0
    assert capsys.readouterr().out == (tmp_path / "reliable.md").read_text()
    first = (tmp_path / "c.jsonl").read_text()
    assert reliable.main([*few, "3", "--json"]) == 0
    assert (tmp_path / "c.jsonl").read_text().startswith(first)
    with (tmp_path / "c.jsonl").open("a") as file:  # stopped in the middle of a line
        file.write('{"system": "ri')
    torn = (tmp_path / "c.jsonl").read_text()
    with monkeypatch.context() as patch:  # a full disk cuts nothing, because nothing is written
        patch.setattr(Path, "write_text", None)
        assert len(list(reliable.resumed(tmp_path / "c.jsonl"))) == 3
    assert torn == (tmp_path / "c.jsonl").read_text() + '{"system": "ri'
    assert reliable.main([*few, "3", "--jobs", "1", "--json"]) == 0
    *_, body = map(json.loads, re.split(r"(?<=\n)(?={\n)", capsys.readouterr().out))
    assert body == json.loads((tmp_path / "reliable.json").read_text())
    assert body["rows"][0]["seeds"] == 3
    with pytest.raises(SystemExit):
        reliable.main([*few, "3", "--only", "left"])
    assert "no system matches left" in capsys.readouterr().err
    (tmp_path / "c.jsonl").write_text('{"code": "another"}\n')
    with pytest.raises(SystemExit, match="made by other code"):
        reliable.main([*few, "3"])


@pytest.mark.slow
def test_several_processes_measure_the_same(tmp_path):
    systems = reliable.chosen(["CKA: independent", "CKA: turned copy"])
    found = [
        reliable.collect(systems, 2, tmp_path / f"{jobs}.jsonl", jobs=jobs)["rows"]
        for jobs in (1, 2)
    ]
    assert [{**row, "seconds": 0} for row in found[0]] == [
        {**row, "seconds": 0} for row in found[1]
    ]


def broken(patterns, seeds, tmp_path):
    """Rules that do not hold over some systems."""
    result = reliable.collect(reliable.chosen(patterns), seeds, tmp_path / "c.jsonl")
    return [rule for rule in result["rules"] if not rule["holds"]]


def test_cheap_systems_of_every_kind(tmp_path):
    assert not broken(FEW, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("verb", sorted({system.verb for system in reliable.SYSTEMS}))
def test_what_is_called_reliable_is_right(verb, tmp_path):
    """Two seeds of every system (one where a fit takes long); the public tasks have their own."""
    names = [s.name for s in reliable.SYSTEMS if s.verb == verb and s.suite != "tasks"]
    assert not broken(names, 1 if verb == "learned PID" else 2, tmp_path)


@pytest.mark.slow
def test_public_tasks_stay_reliable(tmp_path):
    assert not broken(["tasks"], 1, tmp_path)


def test_the_battery_is_as_large_as_promised():
    systems = [system for system in reliable.SYSTEMS if system.suite != "tasks"]
    assert len(systems) >= 80
    assert sum(system.suite == "tasks" for system in reliable.SYSTEMS) == 40
    for verb in {system.verb for system in systems}:
        assert any(system.benign for system in systems if system.verb == verb), verb
