"""`skipit run`: the whole path by one command, its files, and how it continues."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from dataclasses import replace

import pytest

from estimators import Estimate, to_pandas
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import picture, processor, tiny_llava
from theory import Certificate
from theory.certificates import AT_LIMIT
from vlm_bridge.cli import run_steps
from vlm_bridge.cli.options import ModelOptions
from vlm_bridge.cli.run_next import next_commands
from vlm_bridge.data import read_jsonl
from vlm_bridge.evaluate.answered_items import read_answered
from vlm_bridge.evaluate.reach import reach
from vlm_bridge.experiments.whole_path import WholePath
from vlm_bridge.experiments.whole_path.results import time_saved
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.checkpoint import Checkpoint
from vlm_bridge.runtime.files import read_record

#: Every test runs the command on a tiny model.
pytestmark = pytest.mark.slow

SPLITS = ("profiling", "tuning", "certification", "test")
RULE = ("--rule", "var", "--mode", "freeze", "--mode", "early_exit")
#: Files without times, which two runs write alike.
ALIKE = (
    *(f"splits/{name}.jsonl" for name in SPLITS),
    *("profile.json", "profile-null.json", "search.json", "scores.json", "plan.json"),
    *("certificates.json", "answers.jsonl", "run.toml"),
)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model whose layers hardly matter, and 40 questions."""
    at = tmp_path_factory.mktemp("given")
    tiny = tiny_llava(scale=1.0)
    tiny.model.save_pretrained(at / "model")
    processor().save_pretrained(at / "model")
    rows = []
    for number in range(40):
        picture(number).save(at / f"{number}.png")
        row = {"image": f"{number}.png", "question": "is there a circle ?"}
        rows.append({**row, "answer": ("yes", "no")[number % 2]})
    (at / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return at


def words(given, out, *more, rule=RULE):
    short = ("--max-new-tokens", 2, "--pairs", 6, "--tokens", 0, "--batch-size", 8)
    split = ("--profiling", 4, "--tuning", 8, "--certification", 16, "--test", 12)
    asked = (given / "model", "--data", given / "data.jsonl", "--epsilon", 0.3, "--no-ledger")
    return ("run", *asked, *short, *split, *rule, "--out", out, *more)


@pytest.fixture(scope="module")
def finished(given, tmp_path_factory):
    out, said = tmp_path_factory.mktemp("runs") / "run", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run(*words(given, out)) == 0
    (out / "said.txt").write_text(said.getvalue())
    return out


def test_all_files_and_one_record(finished):
    result = read_record(finished / "run.json", WholePath, "run")
    parts = [read_jsonl(finished / f"splits/{name}.jsonl", images="/") for name in SPLITS]
    assert [len(part) for part in parts] == [4, 8, 16, 12]
    assert len({item.cluster for part in parts for item in part}) == 40, "no image is in two splits"
    assert {one.mode for one in result.scores.scores} == {"freeze", "early_exit"}
    made = result.search.certificate
    assert made.n_images == 16
    assert made.bound == 0.3
    assert result.search.plan == SkipPlan.read(finished / "plan.json")
    stored = json.loads((finished / "certificates.json").read_text())
    of = [Certificate.from_json(one).quantity for one in stored]
    assert of == ["disagreement", "accuracy_drop"]
    said = read_answered(finished / "answers.jsonl")
    changed = sum(one.changed for one in said) / len(said)
    assert len(said) == result.comparison.n_images == 12
    assert result.comparison.disagreement.value == pytest.approx(changed)
    assert result.cost.batch_size == 1
    said = " of answers up to 2 tokens change, with 95 % confidence (16 images)"
    assert said in result.headline()
    assert ("WARNING" in result.headline()) == (result.comparison.share_at_limit > AT_LIMIT)
    wrong = replace(result.comparison.accuracy_full, value=0.0, interval=(0.0, 0.2))
    doubted = replace(result, comparison=replace(result.comparison, accuracy_full=wrong))
    assert "the full model is right in 0% of the test questions" in doubted.headline()
    assert result.headline().split(";")[0] in (finished / "report.html").read_text()


def test_the_plan_is_none_of_the_test_images(finished):
    spent = SkipPlan.read(finished / "plan.json").provenance
    test = {item.cluster for item in read_jsonl(finished / "splits/test.jsonl", images="/")}
    assert not test & {*spent.tuned, *spent.certified, *spent.profiled}


def test_every_file_is_taken_by_a_command(given, finished, tmp_path, capsys):
    """The commands that the run proposes, word for word, and the profile by `search`."""
    plan, model = SkipPlan.read(finished / "plan.json"), ModelOptions(str(given / "model"))
    sizes = {"max_new_tokens": 2, "batch_size": 8}
    commands = list(next_commands(model, plan, finished, given, sizes))
    assert [shlex.split(line)[1] for line in commands][:4] == [
        "report",
        "compare",
        "controls",
        "cost",
    ]
    assert all(line in (finished / "said.txt").read_text() for line in commands)
    for line in commands:
        if " controls " in line:
            continue  # twenty plans; its words are those of compare
        name, *rest = shlex.split(line)[1:]
        short = {"compare": ("--pairs", 1), "cost": ("--pairs", 1, "--tokens", 0)}
        assert run(name, *rest, *short.get(name, ())) == 0, line
    assert "<title>Run: " in (finished / "page" / "report.html").read_text()
    again = json.loads((finished / "again.json").read_text())["comparison"]
    first = json.loads((finished / "comparison.json").read_text())["comparison"]
    assert again == first
    split = {n: str(finished / f"splits/{n}.jsonl") for n in SPLITS}
    sizes = ("--images", "/", "--batch-size", 8, "--max-new-tokens", 2, "--epsilon", 0.3)
    roles = ("--data", split["tuning"], "--certification", split["certification"], "--no-ledger")
    profile = ("--profile", finished / "profile.json", *RULE)
    out = ("--out", tmp_path / "search")
    assert run("search", given / "model", *roles, *profile, *sizes, *out) == 0
    for name in ("search.json", "scores.json", "plan.json"):
        one, other = (json.loads((at / name).read_text()) for at in (tmp_path / "search", finished))
        assert one | {"sources": []} == other | {"sources": []}, name


def test_results_are_data_frames(finished):
    result = read_record(finished / "run.json", WholePath, "run")
    path = result.search.to_pandas()
    assert path.rate.tolist() == [step.rate for step in result.search.path]
    assert path.tested.sum() == len(result.search.certificates)
    assert path[path.holds].estimate.tolist() == [
        each.estimate for each in result.search.certificates if each.holds
    ]
    scores = result.scores.to_pandas()
    assert scores.score.tolist() == [one.score for one in result.scores.scores]
    assert scores["mode"].tolist() == ["freeze"] * 4 + ["early_exit"] * 3
    row = result.comparison.to_pandas().iloc[0]
    changed = result.comparison.disagreement
    assert (row.disagreement, row.disagreement_low) == (changed.value, changed.interval[0])
    said = to_pandas(read_answered(finished / "answers.jsonl"))
    assert said.changed.mean() == pytest.approx(changed.value)
    assert "scores_full.exact" in said.columns
    assert to_pandas([result.cost])["prefill.latency_ratio"].tolist() == [
        result.cost.prefill.latency_ratio.value
    ]


class _Killed(BaseException):
    """A run that ends at once."""


@pytest.mark.slow
@pytest.mark.parametrize("step", range(6))
def test_a_killed_run_continues_to_equal_files(step, given, finished, monkeypatch):
    out = finished.parent / f"killed-{step}"
    add = Checkpoint.add

    def kill(self, number, result):
        add(self, number, result)
        if "steps" in str(self._mine) and number == step:
            raise _Killed

    monkeypatch.setattr(Checkpoint, "add", kill)
    with pytest.raises(_Killed):
        run(*words(given, out))
    monkeypatch.setattr(Checkpoint, "add", add)
    for name in list(run_steps.FILES)[1 : step + 1]:
        own = {"search": "search", "profile": "profile", "compare": "compare", "cost": "cost"}
        if name in own:
            monkeypatch.setattr(run_steps, own[name], lambda *_, **__: pytest.fail("done twice"))
    assert run(*words(given, out)) == 0
    for name in ALIKE:
        one, other = ((at / name).read_text().replace(str(at), "") for at in (out, finished))
        assert one == other, name


def test_a_file_that_was_changed_and_another_run_are_refused(given, finished, capsys):
    path = finished / "scores.json"
    kept = path.read_bytes()
    path.write_bytes(kept + b" ")
    assert run(*words(given, finished)) == 2
    assert "scores.json was changed since this run wrote it" in capsys.readouterr().err
    path.write_bytes(kept)
    assert run(*words(given, finished, "--seed", 1)) == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_a_finished_run_repeats_from_its_configuration(finished, capsys):
    """The options it wrote give the same run: every step is found finished, nothing changes."""
    before = {name: (finished / name).read_bytes() for name in ALIKE}
    assert run("run", "--config", finished / "run.toml") == 0
    assert capsys.readouterr().out.count(": finished before") == 6
    assert {name: (finished / name).read_bytes() for name in ALIKE} == before


def test_the_command_line_beats_the_file(given, finished, tmp_path, capsys):
    out = tmp_path / "other"
    assert run("run", "--config", finished / "run.toml", "--epsilon", 0.001, "--out", out) == 2
    assert "epsilon 0.001 is out of reach for 16 certification images" in capsys.readouterr().err
    assert not out.exists()


def test_epsilon_out_of_reach_says_what_would_do(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ModelOptions, "load", lambda _: pytest.fail("no model is needed to say so"))
    assert run(*words(given, tmp_path / "out", "--epsilon", 0.1)) == 2
    said = capsys.readouterr()
    asked = said.err.replace(",", " ").split()
    epsilon = float(asked[asked.index("--epsilon") + 1])
    images = int(asked[asked.index("give") + 1])
    items = read_jsonl(given / "data.jsonl")
    assert reach(items[:16], epsilon=epsilon).possible
    assert not reach(items[:16], epsilon=epsilon - 0.001).possible
    assert (1 - 0.1) ** images <= 0.05 < (1 - 0.1) ** (images - 1), "Clopper-Pearson, none changed"
    assert "certification\t16\t16" in said.out, "the splits are shown"
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(given, tmp_path, capsys):
    before = sorted(given.rglob("*"))
    assert run(*words(given, tmp_path / "out", "--dry-run", "--json")) == 0
    outlook = json.loads(capsys.readouterr().out)
    assert outlook["splits"]["certification"]["n_images"] == 16
    rates = {one["rate"]: one["power"] for one in outlook["powers"]}
    assert rates[0.0] == 1.0
    assert outlook["effort"]["answers"]["compare"] == 24
    assert outlook["effort"]["answers"]["search"] == 8 * (1 + 4 + 3) + 16 * 6  # exits 1 to 3
    assert outlook["effort"]["seconds_per_answer"] > 0
    assert sorted(given.rglob("*")) == before
    assert not list(tmp_path.iterdir())


def test_no_plan_is_certified_and_said_so(given, folder, tmp_path, capsys):
    """The layers of this model matter: nothing is certified, and nothing is claimed."""
    out = tmp_path / "out"
    rule = ("--rule", "deepest-first", "--mode", "block")
    asked = [folder if word == given / "model" else word for word in words(given, out, rule=rule)]
    assert run(*asked, "--check") == 1
    assert "no plan could be certified at epsilon 0.3 (16 images)" in capsys.readouterr().out
    assert not any((out / name).exists() for name in ("plan.json", "comparison.json"))
    assert "no plan could be certified" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("interval", "reliable", "said"),
    [
        ((0.7, 0.8), True, "25.0% (20.0% to 30.0%) less time to the first token"),
        ((0.7, 1.0), True, "no time is shown to be saved (time to the first token, skipped/full"),
        ((0.7, 0.8), False, "no time is shown to be saved (too few pairs)"),
    ],
)
def test_time_is_saved_only_where_the_interval_says_so(interval, reliable, said):
    reason = "" if reliable else "too few pairs"
    ratio = Estimate(
        value=0.75, interval=interval, n=9, method="m", reliable=reliable, reason=reason
    )
    assert time_saved(ratio).startswith(said)


def test_more_time_is_not_hidden():
    slower = Estimate(value=1.2, interval=(1.1, 1.3), n=9, method="m")
    assert time_saved(slower) == "no time is saved: 20.0% more time to the first token"
