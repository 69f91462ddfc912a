"""The page of the protocol: what is refuted comes first, it is short, and names stay names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import claims as claims_command
from tests.vlm_bridge.claims_worlds import UNDEFINED, all_tests, made_test, run
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims import ClaimsResult, joined, protocol, read_claims
from vlm_bridge.experiments.claims.page import MOST_LINES, write_page
from vlm_bridge.experiments.claims.sections import lead, sections_of
from vlm_bridge.experiments.claims.verdicts import judge, overall
from vlm_bridge.runtime.files import write_record

REFUTING = made_test("V1-safe", 0.999, 1e-6)
OTHERS = tuple(test for test in all_tests(1e-6) if test.id != "V1-safe")


def world(n: int = 5) -> ClaimsResult:
    """V1-safe is refuted in two models, everything else is supported in all."""
    models = [
        run(f"model-{i}", *OTHERS, REFUTING if i < 2 else made_test("V1-safe", 1e-6))
        for i in range(n)
    ]
    return ClaimsResult(tuple(models), {"command": "made"})


def first_paragraph(result: ClaimsResult) -> str:
    verdicts = judge(result.models)
    return lead(verdicts, overall(verdicts))


def test_the_first_paragraph_says_what_is_refuted() -> None:
    said = first_paragraph(world())
    assert said.startswith("Refuted: V1-safe (skipping them preserves the answers; 3 supported, ")
    assert "Supported: V1-coincide" in said
    one = ClaimsResult((world().models[0], *world().models[2:]), {"command": "made"})
    said = first_paragraph(one)
    assert said.startswith("Nothing is refuted.")
    assert "Refuted in single models: V1-safe in model-0." in said
    assert "Undecided: V1-safe." in said
    assert "have the registered settings" not in str(sections_of(one))
    loose = replace(one, models=tuple(replace(m, settings={"epsilon": 0.2}) for m in one.models))
    assert "so that they confirm nothing: epsilon 0.2 (registered: 0.05)" in str(sections_of(loose))
    none = ClaimsResult((run("a", enters=False),), {"command": "made"})
    assert first_paragraph(none).startswith("No run entered the verdicts")


@pytest.mark.slow
def test_the_page_of_eight_runs_is_short_and_whole(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    result = world(8)
    write_page(result, page, page.parent / "images", command="skipit page")
    text = page.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    lines = text.splitlines()
    assert lines[0] == "# The claim on trained models"
    assert lines[2] == first_paragraph(result).replace("<", "&lt;")
    for clause in protocol.CLAUSES.values():
        assert f"## {clause.id}: {clause.claim}" in text
    assert text.count("In plain words: ") == len(protocol.CLAUSES)
    assert protocol.COMMIT[:12] in text
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (page.parent / path).read_bytes().startswith(b"\x89PNG")
    assert text.count("![") == len(protocol.CLAUSES) + 8
    html = page.with_suffix(".html").read_text()
    for key in re.findall(r'href="#([^"]+)"', html):
        assert f'<section id="{key}">' in html
    assert "shortv, freeze: made up" in html
    assert "Exploration" in html
    assert "Exploration" not in text
    assert html.count("data:image/png") == text.count("![")


def test_names_are_no_markup(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>|b"
    result = ClaimsResult((run(name, made_test("V1-safe", 0.5)),), {"command": "made"})
    page = write_page(result, tmp_path / "a.md", tmp_path, command="c")
    assert "<script>" not in page.read_text()
    assert r"\|b" in page.read_text()
    assert "<script>" not in page.with_suffix(".html").read_text()


def test_a_page_of_what_could_not_be_measured(tmp_path: Path) -> None:
    bare = made_test("V2-measurable", 1.0, 1.0, effect=UNDEFINED, points=(), reason="no scores")
    nothing = made_test("V1-safe", 1.0, 1.0, effect=None, points=(), reason="nothing certified")
    result = ClaimsResult((run("a", bare, nothing), run("b", enters=False)), {"command": "made"})
    text = write_page(result, tmp_path / "a.md", tmp_path, command="c").read_text()
    assert "no scores" in text
    assert "nothing certified" in text
    assert "left out" in text
    assert "No model that entered could be tested." in text


def test_json_is_whole_and_runs_are_joined(tmp_path: Path) -> None:
    one, two = world(2), ClaimsResult((run("z", *all_tests(0.5)),), {"command": "later"})
    paths = [write_record(tmp_path / f"{i}.json", each) for i, each in enumerate((one, two))]
    assert [read_claims(path) for path in paths] == [one, two]
    both = joined([one, two])
    assert len(both.models) == 3
    assert both.machine["command"] == "made; later"
    with pytest.raises(BridgeError, match="at least one result"):
        joined([])
    (tmp_path / "a.json").write_text('{"type": "RuleBenchmark"}')
    with pytest.raises(BridgeError, match="does not hold a result of `skipit claims`"):
        read_claims(tmp_path / "a.json")


@pytest.mark.slow
def test_the_benchmark_joins_judges_and_writes(tmp_path: Path, capsys) -> None:
    result = world()
    paths = []
    for at, model in enumerate(result.models):
        part = ClaimsResult((model,), {"command": "made"})
        paths.append(str(write_record(tmp_path / f"{at}.json", part)))
    page, out = tmp_path / "docs" / "results.md", tmp_path / "all.json"
    claims_command.main(["--results", *paths, "--write", str(page), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "V1-safe" in printed
    assert "refuted" in printed
    assert read_claims(out).models == result.models
    assert "--write" in page.read_text()
    claims_command.main(["--results", str(out), "--json"])
    body = json.loads(capsys.readouterr().out)
    said = {each["clause"]: each["verdict"] for each in body["over models"]}
    assert said["V1-safe"] == "refuted"
    assert said["V1-faster"] == "supported"


def test_the_benchmark_refuses_two_protocols(tmp_path: Path, capsys) -> None:
    one = world(1)
    other = ClaimsResult((replace(world(2).models[1], protocol="f" * 40),), {"command": "made"})
    paths = [str(write_record(tmp_path / f"{i}.json", each)) for i, each in enumerate((one, other))]
    with pytest.raises(SystemExit):
        claims_command.main(["--results", *paths])
    assert "2 versions of docs/protocol.md" in capsys.readouterr().err
