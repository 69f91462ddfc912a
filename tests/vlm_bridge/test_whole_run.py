"""`skipit run`: files that single commands take, one promise, and the same result after a kill."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import Profile
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.cli.replacing import held_in
from vlm_bridge.data import Item, items_hash, read_jsonl
from vlm_bridge.data.write_jsonl import write_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.whole_run import RunResult, RunSettings, RunSplits, whole_run
from vlm_bridge.experiments.whole_run import run as of_run
from vlm_bridge.experiments.whole_run.forecast import power
from vlm_bridge.experiments.whole_run.page import blocks_of
from vlm_bridge.experiments.whole_run.settings import read_settings, written_settings
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_record

SHARES = (0.1, 0.2, 0.4, 0.3)
RUN = RunSettings(
    rule=("deepest-first",), mode=("freeze", "block"), epsilon=0.6, max_new_tokens=2, pairs=6
)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return asked_pictures(tmp_path_factory.mktemp("pictures"), 60)


@pytest.fixture(scope="module")
def done(items, tmp_path_factory):
    """A run that certifies a plan, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    return whole_run(tiny_llava(), RunSplits.deal(items, SHARES), RUN, folder=folder), folder


# --- splits ------------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(1, 3), min_size=20, max_size=60),
    seed=st.integers(0, 99),
)
def test_images_are_dealt_once_and_whole(counts, seed):
    asked = [
        Item(None, f"question {number} about text {image}?", cluster=f"text {image}")
        for image, count in enumerate(counts)
        for number in range(count)
    ]
    splits = RunSplits.deal(asked, SHARES, seed=seed)
    units = [{item.cluster for item in part} for part in splits.by_name.values()]
    assert sum(map(len, units)) == len(set().union(*units)) == len(counts)
    dealt = [item for part in splits.by_name.values() for item in part]
    assert sorted(map(str, dealt)) == sorted(map(str, asked))
    for share, part in zip(SHARES, units, strict=True):
        assert abs(len(part) - share * len(counts)) <= 1


def test_the_seed_decides_who_certifies(items):
    a, b = (RunSplits.deal(items, SHARES, seed=seed) for seed in (0, 1))
    assert a == RunSplits.deal(items, SHARES, seed=0)
    assert a.certification != b.certification


def test_splits_that_share_an_image_are_refused(items):
    whole = RunSplits.deal(items, SHARES)
    with pytest.raises(BridgeError, match="are in tuning and in test"):
        replace(whole, test=(*whole.test, whole.tuning[0]))
    with pytest.raises(BridgeError, match="profiling has 1 questions about 1 image"):
        RunSplits.deal(items[:10], SHARES)


def test_a_written_split_is_read_again(items, tmp_path):
    several = Item.of("Is", items[3].image, "or", items[4].image, "red?", answers=["yes", "no"])
    asked = [*items[:3], several, Item(None, "who?", "me")]
    path = write_jsonl(tmp_path / "s.jsonl", asked)
    again = read_jsonl(path, images="/")
    assert [item.question for item in again] == [item.question for item in asked]
    assert items_hash(again[:3]) == items_hash(items[:3])
    assert again[3].images == several.images
    assert again[3].answers == ("yes", "no")


# --- settings ----------------------------------------------------------------------------------


def test_settings_survive_a_file(tmp_path):
    path = tmp_path / "run.toml"
    settings = RunSettings(epsilon=0.07, mode=("block",), scorer=("exact", "token-f1"), seed=3)
    path.write_text(written_settings(settings, {"data": 'a "b".jsonl', "limit": 9, "test": None}))
    read = read_settings(path, {"data": "", "limit": "", "test": ""})
    assert {"data": read.pop("data"), "limit": read.pop("limit")} == {
        "data": 'a "b".jsonl',
        "limit": 9,
    }
    assert RunSettings(**read) == settings
    assert held_in(path) == "settings of a run"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epsilom = 0.1", "unknown setting 'epsilom'.*epsilon"),
        ("epsilon = ", "are no TOML"),
        ("[[[[", "are no TOML"),
    ],
)
def test_bad_files_of_settings_are_refused(tmp_path, text, says):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(BridgeError, match=says):
        read_settings(tmp_path / "run.toml", {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": 1}, "epsilon must lie between 0 and 1, got 1"),
        ({"epsilon": "0.1"}, "epsilon must lie"),
        ({"shares": (0.5, 0.5, 0.1, 0.1)}, "add up to 1"),
        ({"shares": (0.5, 0.5)}, "4 numbers above 0"),
        ({"rule": ("luck",)}, "unknown rule 'luck'"),
        ({"rule": ()}, "at least one rule"),
        ({"mode": ("blocks",)}, "unknown mode 'blocks'.*block"),
        ({"mode": (1,)}, "mode is a list of names"),
        ({"scorer": ("rouge",)}, "rouge"),
        ({"batch_size": True}, "batch_size is a whole number from 1"),
    ],
)
def test_bad_settings_are_refused(change, says):
    with pytest.raises(BridgeError, match=says):
        RunSettings(**change)


# --- the run -----------------------------------------------------------------------------------


def test_every_file_is_what_a_single_command_takes(done):
    result, folder = done
    plan = SkipPlan.read(folder / "plan.json")
    assert plan == result.search.plan
    assert read_record(folder / "profile.json", Profile, "profile").model == result.model
    certificates = json.loads((folder / "certificates.json").read_text())
    assert [each["quantity"] for each in certificates] == ["disagreement", "accuracy_drop"]
    body = json.loads((folder / "comparison.json").read_text())
    assert Comparison.from_json(body["comparison"]) == result.comparison
    assert held_in(folder / "search.json") == "a search"
    assert held_in(folder / "cost.json") in ("a cost", "something else")
    assert RunResult.from_json(json.loads((folder / "run.json").read_text())) == result


def test_thresholds_are_chosen_certified_and_reported_on_three_splits(done, items):
    result, _ = done
    splits = RunSplits.deal(items, SHARES)
    plan = result.search.plan
    assert len(plan.provenance.tuned) == result.counts["tuning"][0] == 12
    assert len(plan.provenance.certified) == result.counts["certification"][0] == 24
    assert result.search.certificate.n_images == 24
    assert result.comparison.disagreement.n == len(splits.test) == 18
    assert {each.rule for each in result.rules} == {"deepest-first"}
    assert [each.mode for each in result.rules] == ["freeze", "block"]


def test_a_killed_run_ends_as_one_that_was_not(done, items, tmp_path, monkeypatch):
    """Killed when the search is done; nothing that is finished is asked again."""
    result, _ = done
    splits, vlm = RunSplits.deal(items, SHARES), tiny_llava()

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(of_run, "paired_answers", kill)
        with pytest.raises(KeyboardInterrupt):
            whole_run(vlm, splits, RUN, folder=tmp_path)
    assert not (tmp_path / "run.json").exists()
    asked = []
    generate = vlm.model.generate
    monkeypatch.setattr(vlm.model, "generate", lambda **k: asked.append(1) or generate(**k))
    again = whole_run(vlm, splits, RUN, folder=tmp_path)
    assert again.search == result.search
    assert again.rules == result.rules
    assert again.comparison == result.comparison
    of_test = -(-len(splits.test) // RUN.batch_size)
    assert len(asked) <= 2 * of_test + 2 * (RUN.pairs + 2) * 2 + 4


def test_the_headline_says_whether_time_is_saved(done):
    result, _ = done
    words = result.headline()
    assert "at most 60.0% of answers change, with 95% confidence (24 images)" in words
    assert result.search.plan.describe("vision") in words
    ratio = result.cost.prefill.latency_ratio
    for low, high, says in (
        (0.5, 0.8, "less time"),
        (1.1, 1.3, "MORE time"),
        (0.9, 1.1, "No time"),
    ):
        moved = replace(ratio, value=(low + high) / 2, interval=(low, high))
        cost = replace(result.cost, prefill=replace(result.cost.prefill, latency_ratio=moved))
        assert says in replace(result, cost=cost).headline()


def test_without_a_certificate_the_full_model_stays(items, tmp_path):
    strict = replace(RUN, epsilon=0.13)
    found = whole_run(tiny_llava(), RunSplits.deal(items, SHARES), strict, folder=tmp_path)
    assert found.search.certificate is None
    assert found.comparison is None
    assert "Use the full model" in found.headline()
    assert not (tmp_path / "plan.json").exists()
    assert any("Use the full model" in block.text for block in blocks_of(found))


def test_power_in_closed_form():
    """n images without a change certify at epsilon if 1 - (1 - epsilon)^n > 1 - delta."""
    assert power(58, 0.05, 0.05) == 0.0
    assert power(59, 0.05, 0.05) == pytest.approx(0.975**59)


# --- the command -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(folder, items, tmp_path, capsys):
    data, out = write_jsonl(tmp_path / "d.jsonl", items), tmp_path / "out"
    words = ("--data", data, "--images", "/", "--max-new-tokens", 2)
    words += ("--pairs", 6, "--out", out)
    words = (*words, "--rule", "deepest-first")
    assert run("run", folder, *words, "--epsilon", 0.6, "--mode", "block", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "certification: 24 images, 24 questions" in said
    assert "at most about" in said
    assert not [path for path in out.rglob("*") if path.is_file()]
    assert run("run", folder, *words, "--epsilon", 0.05) == 2
    assert "ask for --epsilon 0.11" in " ".join(capsys.readouterr().err.split())
    assert run("run", folder, *words, "--epsilon", 0.6, "--mode", "freeze") == 0
    said = capsys.readouterr().out
    settings = tomllib.loads((out / "settings.toml").read_text())
    assert (settings["epsilon"], settings["mode"]) == (0.6, ["freeze"])
    page = (out / "report.html").read_text()
    assert "at most 60.0% of answers change" in page
    assert run("run", folder, "--config", out / "settings.toml", "--out", out) == 0  # and resumes
    test = ("--data", out / "splits" / "test.jsonl", "--images", "/")
    longest = ("--max-new-tokens", 2, "--pairs", 6)
    where = tmp_path / "c.json"
    assert run("compare", folder, out / "plan.json", *test, *longest, "--out", where) == 0
    compared = json.loads(where.read_text())["comparison"]
    of_run = json.loads((out / "comparison.json").read_text())["comparison"]
    assert compared["disagreement"] == of_run["disagreement"]
    for wrong, says in (
        (("--rule", "random", "--test", data), "both are given"),
        (("--rule", "random", "--shares", "a,b"), "four numbers with commas"),
        (("--rule", "shortgpt", "--mode", "early_exit"), "has no mode among early_exit"),
    ):
        assert run("run", folder, *words[:-2], "--epsilon", 0.6, *wrong) == 2
        assert says in " ".join(capsys.readouterr().err.split())
    assert run("run", folder, "--out", tmp_path / "none") == 2
    assert "none is given" in capsys.readouterr().err
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "settings.toml").write_text("mine = 1\n")
    assert run("run", folder, *words, "--out", tmp_path / "o", "--epsilon", 0.6) == 2
    assert "would replace" in capsys.readouterr().err
