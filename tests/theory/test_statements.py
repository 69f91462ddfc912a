"""The registry: every statement holds, is complete and documented; every false variant falls."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.theory import (
    false_variants_geometry,
    false_variants_guarantees,
    false_variants_information,
)
from theory import prove, statements, verify_statement
from theory.__main__ import main
from theory.docs import render
from theory.report import problems, record, table
from theory.statement import EVIDENCE, Counterexample

ROOT = Path(__file__).resolve().parents[2]
IDS = statements.ids()
FALSE_VARIANTS = (
    false_variants_information.FALSE_VARIANTS
    | false_variants_geometry.FALSE_VARIANTS
    | false_variants_guarantees.FALSE_VARIANTS
)

#: What the theory consists of; a row may be split into parts (P-Ia, P-Ib).
ROWS = (
    *("G-P", "G-F", "P-F", "P-I", "I-F", "S1", "S1b", "S2", "S3", "S4a", "S4b", "S6", "S6b", "S7"),
    *("S8", "S8c", "S9", "S10", "S11", "S12", "S12g", "S13", "S14", "S15"),
    *("S16", "S17", "S18", "S19"),
    *("O1", "O2", "O3", "O4", "O5"),
)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_stated(row):
    assert any(re.fullmatch(rf"{row}[a-z]?", name) for name in IDS)


def test_enough_false_variants():
    assert len(FALSE_VARIANTS) >= 30
    assert {name.split(":")[0] for name in FALSE_VARIANTS} <= set(IDS)


def test_enough_is_proved():
    kinds = [statements.get(name).evidence for name in IDS]
    assert len(IDS) >= 26
    assert sum(kind in ("symbolic", "shannon-lp") for kind in kinds) >= 12


@pytest.mark.parametrize("name", IDS)
def test_statement_holds_and_needs_its_hypotheses(name):
    verdict = statements.verify(name, trials=40, seed=7)
    assert not problems([verdict])
    assert verdict.complete


@pytest.mark.parametrize("name", IDS)
def test_statement_is_described(name):
    statement = statements.get(name)
    for text in (statement.title, statement.setting, statement.claim, statement.source):
        assert text.strip()
    assert "of the paper" not in statement.source
    assert statement.evidence in EVIDENCE
    assert (statement.proof is None) == (statement.evidence == "searched")


def test_unknown_statements_are_refused():
    with pytest.raises(ValueError, match=r"^no statement 'S99'; there are .*S1, S1b"):
        statements.get("S99")
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        statements.verify("S9", trials=0)


@pytest.mark.parametrize("variant", FALSE_VARIANTS)
def test_false_variant_is_rejected(variant):
    statement = FALSE_VARIANTS[variant]
    verdict = verify_statement(statement, trials=200)
    assert not verdict.holds
    assert verdict.worst_slack < -statement.tolerance
    assert any(failure.startswith("violated by") for failure in verdict.failures)


@pytest.mark.parametrize(
    ("claim", "given"),
    [
        ("I(H;Y) <= I(K;Y)", "Y -> H -> K"),
        ("I(H;Y) - I(K;Y) = I(H;Y|K)", ()),
        ("I(Y;T'|T) = 0", "T' = f(V,T)"),
        ("I(Y;V'|V) = 0", "V' = f(Q,V)"),
        ("H(Y|T) - H(Y|V,T) = I(Y;V)", ()),
        ("I(Y;V,T) - I(Y;V,G) = I(Y;T|G)", "G = f(T)"),
        ("I(Y;V,G) = I(Y;V,T)", "G = f(T)"),
        ("I(Y;W|S) <= I(Y;V|T)", "W,S = f(V,T)"),
        ("I(X;Y|X') <= H(X'|X)", ()),
        ("I(X;Y) - I(X';Y) <= 1/2 H(X|X')", ()),
    ],
)
def test_false_shannon_claims_are_not_proved(claim, given):
    assert not prove(claim, given=given).proved


# --- the command line and the page ----------------------------------------------------------

FIELDS = {"id", "evidence", "domain", "trials", "worst_slack", "holds", "hypotheses"}


def test_records_have_the_promised_fields(capsys):
    assert main(["verify", "S1", "S9", "--trials", "30", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [set(one) for one in found] == [FIELDS, FIELDS]
    assert found[0]["hypotheses"] == [{"name": "Markov", "counterexample_found": True}]
    assert found[0]["trials"] == 30


def test_violations_end_in_exit_code_1(capsys, monkeypatch):
    wrong = FALSE_VARIANTS["S1: reversed"]
    monkeypatch.setattr(statements, "get", lambda name: wrong)
    assert main(["verify", "S1", "--trials", "50"]) == 1
    shown = capsys.readouterr()
    assert "0 of 1 statements hold" in shown.out
    assert "FAILED S1: violated by a drawn instance" in shown.err


def test_progress_is_shown_on_a_terminal_only(capsys, monkeypatch):
    assert main(["verify", "S3", "--trials", "5"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["verify", "S3", "--trials", "5"]) == 0
    assert "[1/1] S3 information lost by late entry" in capsys.readouterr().err


def test_a_missing_counterexample_ends_in_exit_code_1(capsys, monkeypatch):
    late = statements.get("S3")
    tame = replace(
        late.hypotheses[0], counterexample=lambda: Counterexample(late.witness(), "nothing")
    )
    monkeypatch.setattr(statements, "get", lambda name: replace(late, hypotheses=(tame,)))
    assert main(["verify", "S3", "--trials", "5"]) == 1
    shown = capsys.readouterr()
    assert "1 of 1 statements hold; 0 of 1 hypotheses shown to be needed" in shown.out
    assert "the counterexample to 'text-only layers' does not show" in shown.err


def test_two_files_may_not_state_the_same(monkeypatch):
    twice = list(pkgutil.iter_modules(statements.__path__)) * 2
    monkeypatch.setattr(pkgutil, "iter_modules", lambda path: twice)
    with pytest.raises(ValueError, match=r"^two files state "):
        statements._registry.__wrapped__()


def test_bad_input_ends_in_exit_code_2(capsys):
    assert main(["verify", "S99"]) == 2
    assert main(["verify", "S1", "--trials", "0"]) == 2
    assert main(["prove", "I(X;Y"]) == 2
    errors = capsys.readouterr().err
    assert "theory: no statement 'S99'" in errors
    assert "theory: cannot read this at position 5" in errors


def test_prove_on_the_command_line(capsys):
    assert main(["prove", "I(X;Z) <= I(X;Y)", "--given", "X->Y->Z"]) == 0
    assert main(["prove", "I(X;Z) <= I(X;Y)"]) == 1
    shown = capsys.readouterr().out
    assert "1 x  [I(X;Y|Z) >= 0]" in shown
    assert "witness of the cone" in shown


def test_objections_stand_apart_in_the_table():
    verdicts = statements.verify_all([name for name in IDS if name in ("S3", "O4")], trials=5)
    lines = table(verdicts).splitlines()
    heading = lines.index("objections, each shown by an exact example:")
    assert lines[heading + 1].startswith("O4")
    assert record(verdicts[-1])["id"] == "O4"


def test_page_is_fresh(tmp_path, capsys):
    page = (ROOT / "docs" / "statements.md").read_text(encoding="utf-8")
    assert page == render(), "docs/statements.md is stale; run: python -m theory docs"
    assert all(f"\n## {name}: " in page for name in IDS)
    stale = tmp_path / "statements.md"
    assert main(["docs", "--out", str(stale), "--check"]) == 1
    assert not stale.exists()
    stale.write_text(page, encoding="utf-8")
    assert main(["docs", "--out", str(stale), "--check"]) == 0
    assert "is stale; run: python -m theory docs" in capsys.readouterr().err


@pytest.mark.slow
def test_whole_registry():
    """The command as a user runs it."""
    run = subprocess.run(
        [sys.executable, "-m", "theory", "verify", "--trials", "1000", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert [one["id"] for one in found] == list(IDS)
    assert all(one["holds"] and one["trials"] == 1000 for one in found)
    assert all(h["counterexample_found"] for one in found for h in one["hypotheses"])
