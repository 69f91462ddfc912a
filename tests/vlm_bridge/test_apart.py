"""No command writes its result over a file that it reads, nor over its ledger."""

from __future__ import annotations

import json

import pytest

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import picture


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
    "run m --data out/splits/test.jsonl --out out": "as data",
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


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of the data with more images than a command with --limit 1 uses, and links."""
    monkeypatch.chdir(tmp_path)
    names = ["a.json", "b-null.json", "c.png", "depth.png", "result.json", "plans/plan.json"]
    for name in ("images", "plans"):
        (tmp_path / name).mkdir()
    picture(9).save(tmp_path / "images" / "d.png")
    for number, name in enumerate(names):
        picture(number).save(tmp_path / name, format="PNG")
    (tmp_path / "e.json").symlink_to("images/d.png")
    (tmp_path / "here").symlink_to(".")
    rows = [{"image": name, "question": "is there a circle ?"} for name in (*names, "e.json")]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


IMAGES = {
    ("compare", "m", PLAN, "--out", "a.json"): "a.json",
    ("compare", "m", PLAN, "--out", "here/a.json"): "a.json",
    ("compare", "m", PLAN, "--out", "images/d.png"): "e.json",
    ("certify", "m", PLAN, "--limit", 1, "--out", "result.json"): "result.json",
    ("profile", "m", "--out", "b.json"): "b-null.json",
    ("profile", "m", "--out", "c.json"): "c.png",
    ("sweep", "m", "--out", "."): "depth.png",
    ("reproduce", "llava-1.5-7b", "--out", "."): "depth.png",
    ("slopes", "m", "--out", "./a.json"): "a.json",
    ("plan", "m", "--out", "a.json"): "a.json",
    ("search", "m", "--certification", "data.jsonl", "--out", "plans"): "plans/plan.json",
    ("cost", "{folder}", PLAN, "--out", "a.json"): "a.json",
    ("method", "unified", "{folder}", "--out", "."): "result.json",
    ("survey", "m", "--out", "."): "profile.png",
}


@pytest.mark.parametrize("words", IMAGES, ids=lambda words: f"{words[0]} {words[-1]}")
def test_a_result_never_replaces_an_image_of_the_data(words, pictures, folder, capsys):
    """Before the model `m`, which is nowhere, is looked for."""
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    image = IMAGES[words]
    words = [str(word).replace("{folder}", str(folder)) for word in words]
    assert run(*words, "--data", "data.jsonl") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("skipit: --out would replace ")
    reasons = (f"{image}, an image of the data", "which holds an image", "is of no earlier run")
    assert any(reason in said for reason in reasons)
    assert said.endswith("; name another --out")
    after = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    assert after == before


def test_images_beside_a_result_are_no_obstacle(pictures, capsys):
    assert run("sweep", "m", "--data", "data.jsonl", "--out", "sweep") == 2
    assert run("compare", "m", PLAN, "--data", "data.jsonl", "--out", "f.json") == 2
    assert "would replace" not in capsys.readouterr().err
