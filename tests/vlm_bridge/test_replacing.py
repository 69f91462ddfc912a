"""A result replaces an earlier one of its kind, and no other file."""

from __future__ import annotations

import json

import pytest

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import picture
from vlm_bridge.cli import replacing
from vlm_bridge.cli.apart import _IN_FOLDER
from vlm_bridge.cli.lazy import COMMANDS
from vlm_bridge.evaluate.growing import GrowingCertificate
from vlm_bridge.evaluate.of_plan import GroupsOfPlan, RisksOfPlan
from vlm_bridge.experiments.claims import ClaimsResult
from vlm_bridge.experiments.demo.results import DemoResults
from vlm_bridge.experiments.reproduce.run import Reproduction
from vlm_bridge.experiments.survey import Survey
from vlm_bridge.experiments.whole_path import WholePath
from vlm_bridge.methods.run import MethodResult
from vlm_bridge.rules.measure.slope_table import Slopes
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection import CertifiedPlan
from vlm_bridge.selection.adaptive import CertifiedAdaptive

FILES = {
    "plan.json": {"type": "SkipPlan"},
    "profile.json": {"type": "Profile"},
    "certificates.json": [{"type": "Certificate"}],
    "comparison.json": {"comparison": {}, "cost": {}},
    "cost.json": {"plan": {}, "cost": {}},
    "sweep.json": [{"type": "Comparison"}],
    "search.json": {"type": "CertifiedPlan"},
    "slopes.json": {"type": "Slopes"},
    "adaptive.json": {"model": "m", "fingerprint": "f", "measured": {}, "latency": []},
    "adaptive-plan.json": {"type": "AdaptivePlan"},
    "adaptive-search.json": {"type": "CertifiedAdaptive"},
    "growing.json": {"type": "GrowingCertificate"},
    "groups.json": {"type": "GroupsOfPlan"},
    "monitor.json": {"type": "MonitorState"},
    "risks.json": {"type": "RisksOfPlan"},
    "answers.jsonl": {"type": "AnsweredItem"},
    "other.json": {"a": 1},
}
FORMS = ("report of a run", "report of a survey", "adaptive search")
FORMS += ("certify --anytime", "certify --per", "certify --risks", "compare --items")
CERTIFY = "certify m plan.json --data none.jsonl --ledger new.jsonl"
WORDS = {
    "adaptive": "adaptive m none.json --data none.jsonl --out",
    "certify": f"{CERTIFY} --out",
    "certify --anytime": f"{CERTIFY} --anytime --out",
    "certify --per": f"{CERTIFY} --per opening --out",
    "certify --risks": f"{CERTIFY} --risks disagreement=0.1 --out",
    "compare": "compare m plan.json --data none.jsonl --out",
    "compare --items": "compare m plan.json --data none.jsonl --out new.json --items",
    "cost": "cost m plan.json --out",
    "plan": "plan m --data none.jsonl --profile none.json --out",
    "profile": "profile m --data none.jsonl --out",
    "slopes": "slopes m --data none.jsonl --out",
}
OWN = {
    "adaptive": "adaptive.json",
    "certify": "certificates.json",
    "certify --anytime": "growing.json",
    "certify --per": "groups.json",
    "certify --risks": "risks.json",
    "compare": "comparison.json",
    "compare --items": "answers.jsonl",
    "cost": "cost.json",
    "plan": "plan.json",
    "profile": "profile.json",
    "slopes": "slopes.json",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, body in FILES.items():
        (tmp_path / name).write_text(json.dumps(body, indent=1))
    who = {"key": "1", "what": "search", "model": "m", "fingerprint": "f"}
    Ledger(tmp_path / "ledger.jsonl").spend(["a"], 0.05, **who)
    picture(0).save(tmp_path / "cat.png")
    (tmp_path / "questions.jsonl").write_text('{"image": "cat.png", "question": "red ?"}\n' * 2)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty.json").write_text("")
    return tmp_path


def refusal(capsys, *words) -> str:
    """What the command says, which fails for a reason; empty if that is another reason."""
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said if "would replace" in said else ""


@pytest.mark.parametrize("command", WORDS)
def test_files_of_other_kinds_are_kept(command, here, capsys):
    others = {path.name for path in here.iterdir()} - {OWN[command], "empty.json"}
    others -= {"ledger.jsonl.lock"}  # it is empty
    for name in others:
        before = (here / name).read_bytes()
        said = refusal(capsys, *WORDS[command].split(), name)
        option = WORDS[command].split()[-1]
        used = f"{option} would replace {name}, which this command uses as"
        held = f"{option} would replace {name}, which holds {replacing.held_in(here / name)}, by "
        assert said.startswith((f"skipit: {held}", f"skipit: {used}")), said
        assert (here / name).read_bytes() == before


@pytest.mark.parametrize("command", WORDS)
def test_results_of_the_same_kind_are_replaced(command, here, capsys):
    for name in (OWN[command], "empty.json", "new.json"):
        assert not refusal(capsys, *WORDS[command].split(), name)


def test_what_is_not_of_an_earlier_run_is_kept(here, capsys):
    """A figure or a plan in the folder is replaced, or removed, beside its main result alone."""
    said = refusal(capsys, "profile", "m", "--data", "none.jsonl", "--out", "cat.json")
    assert "cat.png, which is of no earlier run, because cat.json does not exist" in said
    search = ("search", "m", "--data", "none.jsonl", "--certification", "other.jsonl")
    assert not refusal(capsys, *search, "--out", ".")
    (here / "search.json").unlink()
    assert "plan.json, which is of no earlier run" in refusal(capsys, *search, "--out", ".")


def test_the_two_kinds_of_search_do_not_replace_each_other(here, capsys):
    search = ("search", "m", "--data", "none.jsonl", "--certification", "other.jsonl")
    said = refusal(capsys, *search, "--adaptive", "--out", ".")
    assert "search.json, which holds a search, by an adaptive search" in said
    (here / "adaptive-search.json").replace(here / "search.json")
    assert not refusal(capsys, *search, "--adaptive", "--out", ".")
    said = refusal(capsys, *search, "--out", ".")
    assert "search.json, which holds an adaptive search, by a search" in said
    (here / "search.json").unlink()
    said = refusal(capsys, *search, "--adaptive", "--out", ".")
    assert "adaptive.json, which is of no earlier run" in said


def test_a_growing_certificate_is_named_with_what_continues_it(here, capsys):
    for command in ("certify", "certify --per", "certify --risks"):
        said = refusal(capsys, *WORDS[command].split(), "growing.json")
        assert said.endswith("name another --out, or give --anytime, which continues it\n")
    said = refusal(capsys, *WORDS["cost"].split(), "growing.json")
    assert said.endswith("name another --out\n")


def test_files_are_named_by_what_they_hold(here):
    words = {path.name: replacing.held_in(path) for path in here.iterdir()}
    assert words["ledger.jsonl"] == "a ledger"
    assert words["cat.png"] == "an image"
    assert words["questions.jsonl"] == "questions"
    assert words["notes.txt"] == words["other.json"] == "something else"


def test_every_result_is_recognised():
    for kind in (
        CertifiedAdaptive,
        ClaimsResult,
        CertifiedPlan,
        DemoResults,
        GroupsOfPlan,
        GrowingCertificate,
        MethodResult,
        Reproduction,
        RisksOfPlan,
        Slopes,
        Survey,
        WholePath,
    ):
        assert replacing._RECORDS[kind.__name__] in replacing.RESULTS.values()
    assert set(_IN_FOLDER) <= set(replacing.RESULTS)
    assert set(replacing.RESULTS) <= {*COMMANDS, *FORMS}
