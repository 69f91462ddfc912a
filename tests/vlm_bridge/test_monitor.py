"""The monitor: which requests are audited, idempotent and resumable counts, the command."""

from __future__ import annotations

import io
import json
import multiprocessing
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlm_bridge as vb
from tests.vlm_bridge.command_line import run
from theory.certificates import Alarm
from vlm_bridge.cli.replacing import held_in
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.audit import audited, request_digest
from vlm_bridge.evaluate.monitor import Monitor, MonitorState, read_outcome

OUTCOMES = st.lists(st.tuples(st.integers(0, 20).map(str), st.booleans()), max_size=60)


def consistent(outcomes):
    """The same ids, each with the outcome that it had first."""
    first: dict[str, bool] = {}
    return [(name, first.setdefault(name, changed)) for name, changed in outcomes]


# --- which requests -------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 1.0])
def test_the_share_is_audited(share):
    n = 20_000
    found = sum(audited(f"request-{i}", share) for i in range(n))
    assert abs(found - n * share) <= 4 * (n * share * (1 - share)) ** 0.5


@given(st.text(min_size=1), st.text(), st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_a_larger_share_contains_a_smaller_one(name, salt, one, other):
    low, high = sorted((one, other))
    assert audited(name, low, salt=salt) <= audited(name, high, salt=salt)
    assert audited(name, 1.0, salt=salt)


def test_the_salt_draws_anew():
    chosen = [{i for i in range(5000) if audited(str(i), 0.2, salt=salt)} for salt in ("", "b")]
    both = len(chosen[0] & chosen[1])
    assert 130 < both < 270  # 200 of 5,000, were the draws independent


def test_salt_and_id_cannot_be_confused():
    assert request_digest("b", "a") != request_digest("ab", "")
    assert request_digest("ba", "") != request_digest("a", "b")


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, True, "0.1", None, float("nan")])
def test_a_wrong_share_is_named(share):
    with pytest.raises(BridgeError, match=r"share must lie in \(0, 1\], got"):
        audited("a", share)


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_wrong_id_is_named(name):
    with pytest.raises(BridgeError, match="the id of a request must be text, got"):
        audited(name, 0.1)


# --- the state ------------------------------------------------------------------------------


def alarm_of(outcomes, **options):
    """The alarm after the first outcome of each id, in their order."""
    alarm = Alarm(**{"epsilon": 0.02, "alpha": 0.05, **options})
    for changed in dict(outcomes).values():
        alarm = alarm.after(changed)
    return alarm


@settings(max_examples=25, deadline=None)
@given(OUTCOMES, st.integers(0, 60), st.integers(0, 60))
def test_any_split_and_any_repetition_gives_the_same_state(tmp_path_factory, outcomes, cut, back):
    folder, outcomes = tmp_path_factory.mktemp("monitor"), consistent(outcomes)
    whole, parts = Monitor(folder / "a.json", epsilon=0.1), Monitor(folder / "b.json", epsilon=0.1)
    state = whole.add(outcomes)
    parts.add(outcomes[:cut])
    assert parts.add(outcomes[max(0, cut - back) :]) == state
    assert whole.add(outcomes) == state
    assert state.alarm == alarm_of(outcomes, epsilon=0.1)
    assert state.alarm.n == len({name for name, _ in outcomes})


def test_the_state_is_the_alarm_of_the_first_outcomes(tmp_path):
    rng = random.Random(0)
    outcomes = [(str(i), rng.random() < 0.3) for i in range(300)]
    alarm = Alarm(0.02, 0.05)
    for _, changed in outcomes:
        alarm = alarm.after(changed)
    assert Monitor(tmp_path / "m.json").add(outcomes).alarm == alarm
    assert alarm.rings


@settings(max_examples=20, deadline=None)
@given(OUTCOMES)
def test_a_file_resumes(tmp_path_factory, outcomes):
    path = tmp_path_factory.mktemp("monitor") / "state.json"
    outcomes = consistent(outcomes)
    for outcome in outcomes:
        Monitor(path, epsilon=0.1).add([outcome])
    assert Monitor(path, epsilon=0.1).state.alarm == alarm_of(outcomes, epsilon=0.1)


def files(folder):
    """The bytes of every file but the lock."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".lock"}


def test_a_refused_outcome_leaves_the_file_as_it_was(tmp_path):
    monitor = Monitor(tmp_path / "state.json", share=0.5)
    inside = [str(i) for i in range(50) if audited(str(i), 0.5)]
    outside = next(str(i) for i in range(50) if not audited(str(i), 0.5))
    monitor.add([(inside[0], True)])
    before = files(tmp_path)
    cases = {
        "is not among the audited share 0.5": [(inside[1], True), (outside, True)],
        "was seen before with the other outcome": [(inside[2], False), (inside[0], False)],
        "changed must be true or false, got 1": [(inside[3], True), (inside[4], 1)],
    }
    for message, outcomes in cases.items():
        with pytest.raises(BridgeError, match=message):
            monitor.add(outcomes)
        assert files(tmp_path) == before


def test_other_settings_and_other_files_are_refused(tmp_path):
    path = tmp_path / "state.json"
    Monitor(path, epsilon=0.1, salt="s").add([("a", True)])
    assert Monitor(path).state.settings == {
        "epsilon": 0.1,
        "alpha": 0.05,
        "share": 1.0,
        "salt": "s",
    }
    for name, value in {"epsilon": 0.2, "alpha": 0.01, "share": 0.5, "salt": ""}.items():
        with pytest.raises(BridgeError, match=f"has {name} .*, not .*; it was fixed when"):
            Monitor(path, **{name: value}).add([("b", True)])
    path.write_text(path.read_text().replace('"n_changed": 1', '"n_changed": 0'))
    with pytest.raises(BridgeError, match="was changed since it was written"):
        Monitor(path).add([("b", True)])
    path.write_text("{}")
    with pytest.raises(BridgeError, match="does not hold a monitor"):
        Monitor(path).add([("b", True)])
    for wrong in ({"epsilon": 0.0}, {"alpha": 2.0}, {"share": 0.0}, {"salt": 3}):
        with pytest.raises(BridgeError, match=next(iter(wrong))):
            Monitor(path, **wrong)


def test_a_state_of_the_earlier_bets_is_refused_with_advice(tmp_path):
    path = tmp_path / "state.json"
    Monitor(path).add([("a", True)])
    body = json.loads(path.read_text())
    del body["checksum"]
    body["alarm"]["schema_version"] = 1
    path.write_text(json.dumps(body))
    with pytest.raises(BridgeError, match=r"Alarm has schema version 1; .*; name another file,"):
        Monitor(path).add([("b", True)])
    assert json.loads(path.read_text()) == body


def test_a_chain_is_a_checksum():
    with pytest.raises(ValueError, match="chain is a SHA-256 in hexadecimal, got 'aa'"):
        MonitorState(Alarm(0.1, 0.1), 1.0, "", "aa")


def add_in_a_process(path, start):
    for i in range(start, start + 20):
        Monitor(path).add([(str(i), i % 7 == 0)])


def test_processes_lose_no_outcome(tmp_path):
    path = tmp_path / "state.json"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(add_in_a_process, [(path, start) for start in (0, 10, 20, 30)])
    state = Monitor(path).state
    assert state.alarm.n == 50
    assert state.alarm.n_changed == sum(i % 7 == 0 for i in range(50))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "here: not JSON"),
        ("[]", "here: expected"),
        ('{"id": "a"}', "here: expected"),
        ('{"id": 3, "changed": true}', "here: id must be text, got 3"),
        ('{"id": "a", "changed": 1}', "here: changed must be true or false, got 1"),
        ('{"id": "a", "id": "b", "changed": true}', "occurs twice"),
    ],
)
def test_a_wrong_line_is_named(line, message):
    with pytest.raises(BridgeError, match=message):
        read_outcome(line, "here")


# --- the command ----------------------------------------------------------------------------


def lines(outcomes):
    return "".join(json.dumps({"id": i, "changed": c}) + "\n" for i, c in outcomes)


def test_the_command_counts_once_and_rings(tmp_path, capsys):
    audits, out = tmp_path / "audits.jsonl", tmp_path / "monitor.json"
    quiet = [(f"r{i}", False) for i in range(300)]
    audits.write_text(lines(quiet))
    command = ("monitor", audits, "--out", out, "--epsilon", "0.05")
    assert run(*command, "--check") == 0
    assert "quiet: 0 of 300 audited answers changed" in capsys.readouterr().out
    assert held_in(out) == "a monitor"
    before = out.read_bytes()
    assert run(*command) == 0
    assert out.read_bytes() == before
    capsys.readouterr()
    audits.write_text(lines(quiet + [(f"s{i}", True) for i in range(40)]))
    assert run("monitor", audits, "--out", out, "--json", "--check", "--every", 7) == 1
    said = capsys.readouterr()
    body = json.loads(said.out)
    assert body["rings"]
    assert 300 < body["alarm"]["rang_at"] < 330
    assert body["alarm"] == Monitor(out).state.alarm.to_json()
    assert said.err.count("ALARM after") == 2  # when it rings, and at the end


def test_the_command_reads_standard_input(tmp_path, capsys, monkeypatch):
    text = lines([("a", True), ("a", True), ("b", False)]) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run("monitor", "-", "--out", tmp_path / "m.json") == 0
    assert "1 of 2 audited answers changed" in capsys.readouterr().out


def test_a_killed_run_is_continued_by_the_same_command(tmp_path, capsys):
    """A broken line stops the run after whole blocks were stored; mended, the count is right."""
    audits, out = tmp_path / "audits.jsonl", tmp_path / "m.json"
    good = lines([(f"r{i}", i % 9 == 0) for i in range(95)])
    audits.write_text(good + '{"id": "r95", "chan')
    assert run("monitor", audits, "--out", out, "--every", 10) == 2
    assert f"{audits}:96: not JSON" in capsys.readouterr().err
    assert Monitor(out).state.alarm.n == 90
    audits.write_text(good)
    assert run("monitor", audits, "--out", out) == 0
    assert (Monitor(out).state.alarm.n, Monitor(out).state.alarm.n_changed) == (95, 11)


def test_the_command_refuses(tmp_path, capsys):
    audits = tmp_path / "audits.jsonl"
    audits.write_text(lines([("a", True)]))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    cases = {
        "no file of outcomes at none.jsonl": ("none.jsonl",),
        "epsilon must lie strictly between 0 and 1": (audits, "--epsilon", "1"),
        "holds no outcomes, and there is no monitor": (empty,),
        "which this command uses as outcomes": (audits, "--out", audits),
    }
    for message, arguments in cases.items():
        out = () if "--out" in arguments else ("--out", tmp_path / "m.json")
        assert run("monitor", *arguments, *out) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "m.json").exists()


def test_the_verbs_are_public():
    assert vb.Monitor is Monitor
    assert vb.audited is audited
