"""The files of a monitor: kills, writers at once, tampering, and the time of an `add`."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.certificates import Alarm
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.monitor import Monitor, MonitorState
from vlm_bridge.evaluate.seen import START, Seen, chained

OUTCOMES = [(f"r{i}", i % 5 == 0) for i in range(60)]
LINE = 27

#: Adds the outcomes one by one; the process kills itself at the third call of a function.
KILLED_AT = """
import os, signal, sys
from vlm_bridge.evaluate import monitor, seen
from vlm_bridge.evaluate.monitor import Monitor
path, place, when = sys.argv[1:]
calls = 0
def killing(function):
    def called(*arguments):
        global calls
        calls += 1
        if calls == 3 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments)
        if calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return called
if place == "fsync":
    os.fsync = killing(os.fsync)
elif place == "write_record":
    monitor.write_record = killing(monitor.write_record)
else:
    setattr(seen.Seen, place, killing(getattr(seen.Seen, place)))
one = Monitor(path)
for i in range(60):
    one.add([(f"r{i}", i % 5 == 0)])
"""
#: Adds the outcomes one by one and says so.
STEADY = """
import sys
from vlm_bridge.evaluate.monitor import Monitor
one = Monitor(sys.argv[1])
print("ready", flush=True)
while True:
    for i in range(100_000):
        one.add([(f"r{i}", i % 5 == 0)])
"""


def alarm_of(outcomes):
    alarm = Alarm(0.02, 0.05)
    for _, changed in outcomes:
        alarm = alarm.after(changed)
    return alarm


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", ["append", "fsync", "write_record", "count"])
def test_a_kill_anywhere_loses_and_doubles_nothing(tmp_path, place, when):
    path = tmp_path / "m.json"
    made = subprocess.run(
        [sys.executable, "-c", KILLED_AT, path, place, when], capture_output=True, text=True
    )
    assert made.returncode == -signal.SIGKILL, made.stderr
    assert 1 <= Monitor(path).state.alarm.n <= 3
    n = Monitor(path).state.alarm.n
    assert Monitor(path).state.alarm == alarm_of(OUTCOMES[:n])
    # The server writes on where it was, or gives all lines again: both count each request once.
    Monitor(path).add(OUTCOMES[n:])
    assert Monitor(path).add(OUTCOMES).alarm == alarm_of(OUTCOMES)
    assert path.with_name("m.json.seen").stat().st_size == len(OUTCOMES) * LINE


def test_kills_at_random_times(tmp_path):
    path, rng = tmp_path / "m.json", random.Random(1)
    before = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", STEADY, path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.1, 0.5))
            process.send_signal(signal.SIGKILL)
        state = Monitor(path).state
        assert state.alarm.n >= before
        before = state.alarm.n
        assert state.alarm == alarm_of([("", i % 5 == 0) for i in range(before)])
    assert before > 0
    Monitor(path).add([("another", True)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.binary(max_size=80))
def test_what_a_killed_writer_left_is_not_counted(tmp_path_factory, n, left):
    path = tmp_path_factory.mktemp("monitor") / "m.json"
    Monitor(path).add(OUTCOMES[:n])
    with path.with_name("m.json.seen").open("ab") as handle:
        handle.write(left)
    assert Monitor(path).add(OUTCOMES).alarm == alarm_of(OUTCOMES)
    assert Monitor(path).add(OUTCOMES).alarm.n == 60


def test_two_monitors_of_one_file_take_turns(tmp_path):
    one, other = (Monitor(tmp_path / "m.json") for _ in range(2))
    for i, outcome in enumerate(OUTCOMES):
        state = (one, other)[i % 3 > 0].add([OUTCOMES[max(0, i - 1)], outcome])
        assert state.alarm.n == i + 1
    assert state.alarm == alarm_of(OUTCOMES)


def add_all(path, seed):
    mine = OUTCOMES * 2
    random.Random(seed).shuffle(mine)
    one = Monitor(path)
    for outcome in mine:
        one.add([outcome])


def test_two_processes_that_write_the_same_requests(tmp_path):
    path = tmp_path / "m.json"
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.starmap(add_all, [(path, 0), (path, 1)])
    state = Monitor(path).add([])
    assert (state.alarm.n, state.alarm.n_changed) == (60, 12)


def tampered(data, at, new):
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: tampered(d, 25, b"0"), "was changed since it was written"),
        (lambda d: tampered(d, 0, b"f" * 24), "was changed since it was written"),
        (lambda d: d[LINE : 2 * LINE] + d[:LINE] + d[2 * LINE :], "was changed since it was"),
        (lambda d: d[:-1], "lacks requests that its monitor has counted"),
        (lambda d: b"", "lacks requests that its monitor has counted"),
        (lambda d: b"\xff" * len(d), "holds other lines than those of a monitor"),
        (lambda d: tampered(d, 24, b"x"), "holds other lines than those of a monitor"),
        (lambda d: tampered(d, 25, b"2"), "holds other lines than those of a monitor"),
        (lambda d: d.upper(), "was changed since|other lines"),
    ],
)
def test_changed_requests_are_refused(tmp_path, change, says):
    path, seen = tmp_path / "m.json", tmp_path / "m.json.seen"
    Monitor(path).add(OUTCOMES)
    before = path.read_bytes()
    seen.write_bytes(change(seen.read_bytes()))
    with pytest.raises(BridgeError, match=says):
        Monitor(path).add([("new", True)])
    assert path.read_bytes() == before


def test_requests_without_their_state_are_refused(tmp_path):
    path, seen = tmp_path / "m.json", tmp_path / "m.json.seen"
    monitor = Monitor(path)
    monitor.add(OUTCOMES)
    path.unlink()
    for each in (monitor, Monitor(path)):
        with pytest.raises(BridgeError, match="lies beside no monitor; restore the state"):
            each.add([("new", True)])
    assert not path.exists()
    seen.unlink()
    assert monitor.add([("new", True)]).alarm.n == 1
    seen.unlink()
    with pytest.raises(BridgeError, match="lacks requests"):
        Monitor(path).add([("newer", True)])


@pytest.mark.parametrize("more", [-10, 0, 10])
def test_another_monitor_in_the_place_is_read_anew(tmp_path, more):
    first, second = Monitor(tmp_path / "a.json"), Monitor(tmp_path / "b.json")
    first.add(OUTCOMES[:30])
    second.add(OUTCOMES[20 : 50 + more])
    for name in ("json", "json.seen"):
        os.replace(tmp_path / f"b.{name}", tmp_path / f"a.{name}")
    assert first.add(OUTCOMES).alarm.n == 60


def test_an_earlier_format_is_named(tmp_path):
    path = tmp_path / "m.json"
    Monitor(path).add(OUTCOMES)
    body = path.read_text().replace('"schema_version": 2', '"schema_version": 1')
    path.write_text(body[: body.index(', "checksum"')] + "}")
    with pytest.raises(BridgeError, match="has schema version 1; this code reads version 2"):
        Monitor(path).add([])


def filled(path, count):
    """A monitor that has seen `count` requests, none changed, and its stored state."""
    one = Monitor(path)
    one.add((f"r{i}", False) for i in range(count))
    return one


@pytest.mark.slow
def test_one_more_of_200_000_takes_no_time(tmp_path):
    path = tmp_path / "m.json"
    one = filled(path, 200_000)
    times = []
    for i in range(5):
        start = time.perf_counter()
        one.add([(f"more {i}", False)])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2
    start = time.perf_counter()
    assert Monitor(path).add([("r7", False)]).alarm.n == 200_005
    assert time.perf_counter() - start < 5


def test_an_add_reads_what_is_new_alone(tmp_path, monkeypatch):
    """Counted, not timed: lines that are hashed."""
    one = filled(tmp_path / "m.json", 500)
    hashed = []
    real = Seen._remember
    monkeypatch.setattr(Seen, "_remember", lambda s, new: hashed.append(len(new)) or real(s, new))
    for i in range(3):
        one.add([(f"more {i}", False)])
    assert hashed == [1, 1, 1]
    assert one.path.stat().st_size < 1000  # the state does not grow with the requests
    Monitor(tmp_path / "m.json").add([("other", False)])
    one.add([("last", False)])
    assert hashed[3:] == [503, 1, 1, 1]


@given(st.lists(st.tuples(st.text("0123456789abcdef", min_size=24, max_size=24), st.booleans())))
def test_the_chain_tells_order_and_content(outcomes):
    links = [chained(START, outcomes[:i]) for i in range(len(outcomes) + 1)]
    assert len(set(links)) == len(links)
    assert chained(links[len(outcomes) // 2], outcomes[len(outcomes) // 2 :]) == links[-1]
    assert MonitorState.new().after(outcomes).chain == links[-1]
