"""Files that commands write quote whose models and data they used, and are read all the same."""

import json

import pytest

from estimators import Profile
from estimators.record import SOURCES
from tests.vlm_bridge.command_line import run
from vlm_bridge.cli.lazy import COMMANDS, load_command
from vlm_bridge.cli.quoted import _DATA, _MODELS, quoted, quoting
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.third_party.catalogue import CATALOGUE


def test_results_quote_their_sources(folder, jsonl, tmp_path):
    given = ("--data", jsonl, "--out")
    assert run("profile", folder, *given, tmp_path / "profile.json") == 0
    plan = ("--profile", tmp_path / "profile.json", "--max-new-tokens", 2)
    assert run("plan", folder, *plan, *given, tmp_path / "plan.json") == 0
    compare = ("compare", folder, tmp_path / "plan.json", "--max-new-tokens", 2)
    assert run(*compare, *given, tmp_path / "comparison.json") == 0
    assert run("sweep", folder, "--step", 3, *given, tmp_path / "sweep") == 0
    wanted = [f"model: {folder}", f"data: {jsonl}"]
    for name in ("profile.json", "profile-null.json", "plan.json", "comparison.json"):
        assert json.loads((tmp_path / name).read_text())[SOURCES] == wanted, name
    swept = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [one[SOURCES] for one in swept] == [wanted] * len(swept)
    assert Profile.from_json(json.loads((tmp_path / "profile.json").read_text())).n_layers == 4
    assert SkipPlan.read(tmp_path / "plan.json").n_layers == 4
    assert [Comparison.from_json(one).n_images for one in swept]


def test_json_on_standard_output_quotes_them(folder, jsonl, tmp_path, capsys):
    out = ("--out", tmp_path / "profile.json", "--json")
    assert run("profile", folder, "--data", jsonl, *out) == 0
    said = json.loads(capsys.readouterr().out)
    assert said[SOURCES] == [f"model: {folder}", f"data: {jsonl}"]


def test_models_of_others_are_quoted_in_full():
    options = {"model": "whisper-base", "data": "spoken-prompts:test", "certification": None}
    with quoted(options):
        lines = quoting({"value": 1})[SOURCES]
    names = ("whisper-base", "spoken-prompts")
    assert [line.partition(": ")[2] for line in lines] == [CATALOGUE[n].attribution for n in names]
    assert quoting({"value": 1}) == {"value": 1}


def test_several_models_are_quoted_once_each():
    with quoted({"models": "reference,reference-all-linear", "data": "easy-vqa:test"}):
        lines = quoting({})[SOURCES]
    assert len(lines) == len(set(lines))
    assert sum(line.startswith("model: ") for line in lines) == 2
    assert sum(line.startswith("part: ") for line in lines) == 1


def test_a_result_that_names_its_own_sources_keeps_them():
    with quoted({"model": "whisper-base"}):
        assert quoting({SOURCES: ["model: mine"]}) == {SOURCES: ["model: mine"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_takes_questions_is_known(command):
    """A new option in words that takes NAME:SPLIT has to be quoted too."""
    for option in load_command(command).params:
        asks = "As --data" in (option.help or "") or "NAME:SPLIT" in (option.help or "")
        if asks or option.name in ("model", "models"):
            assert option.name in (*_MODELS, *_DATA), f"{command} {option.name}"
