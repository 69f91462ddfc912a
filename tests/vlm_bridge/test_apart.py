"""No command writes its result over a file that it reads, nor over its ledger."""

from __future__ import annotations

import pytest

from tests.vlm_bridge.command_line import run


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data.jsonl", "plan.json", "states.npz", "results.json", "ledger.jsonl"):
        (tmp_path / name).write_text(f"this is {name}")
    (tmp_path / "link.json").symlink_to("plan.json")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.json").write_text("this is plan.json")
    return tmp_path


PLAN = "early_exit exit=3"
CASES = {
    "profile m --data data.jsonl --out data.jsonl": "data.jsonl, which this command uses as data",
    "profile states.npz --out states.npz": "states.npz, which this command uses as model",
    "profile results-null.json --out results.json": "results-null.json, which",
    "certify m plan.json --data data.jsonl --out ./plan.json": "plan.json, which",
    "certify m link.json --data data.jsonl --out plan.json": "link.json, which",
    "certify m plan.json --data data.jsonl --out ledger.jsonl": "which this command uses as ledger",
    "certify m plan.json --data data.jsonl --out ledger.jsonl.lock": "as lock of the ledger",
    "certify m plan.json --data data.jsonl --out new --ledger new": "new, which",
    "search m --data data.jsonl --certification out/plan.json --out out": "as certification",
    "search m --data data.jsonl --certification c --ledger out/search.json --out out": "as ledger",
    "plan m --data data.jsonl --profile p.json --out p.json": "as profile",
    "compare m plan.json --data data.jsonl --out plan.json": "as plan",
    "slopes m --data data.jsonl --out data.jsonl": "as data",
    "cost m plan.json --data data.jsonl --out data.jsonl": "as data",
    "method unified m --data d --profiling out/result.json --out out": "as profiling",
    "report out/report.html --out out": "as results",
}


@pytest.mark.parametrize("words", CASES)
def test_a_result_never_replaces_a_file_that_is_used(words, here, capsys):
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert run(*words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("skipit: --out would replace ")
    assert CASES[words] in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "words",
    [
        "certify m plan.json --data data.jsonl --out new.json --no-ledger",
        "certify m plan.json --data data.jsonl --out new.json --ledger other.jsonl",
        "profile states.npz --out states.json",
        "search m --data data.jsonl --certification c --out new",
    ],
)
def test_other_results_are_not_refused(words, here, capsys):
    assert run(*words.split()) == 2  # the data or the states cannot be read
    assert "would replace" not in capsys.readouterr().err
