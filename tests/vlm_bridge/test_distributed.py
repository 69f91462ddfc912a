"""Two processes equal one; a rank that dies is named, and what was done is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vlm_bridge.rank_worker import results
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime import distributed
from vlm_bridge.runtime.checkpoint import beside, of_all_ranks
from vlm_bridge.runtime.distributed import RankError, Ranks, is_main, local_device, rank, sharing

ROOT = Path(__file__).parents[2]


def launch(jsonl: Path, out: Path, *die: str, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    """`torchrun` of rank_worker, one thread a rank."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["--standalone", "-m", "tests.vlm_bridge.rank_worker", str(jsonl), str(out)]
    return subprocess.run(
        [*command, *die],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def close(found: object, wanted: object, where: str = "") -> None:
    """Equal to 1e-10, counts and texts exactly."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            close(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
            close(a, b, f"{where}[{index}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-10, abs=1e-10), where
    else:
        assert found == wanted, where


@pytest.fixture
def one_process(jsonl, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (tmp_path / "one").mkdir()
        return json.loads(json.dumps(results(jsonl, tmp_path / "one")))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_two_processes_equal_one(jsonl, tmp_path, one_process):
    run = launch(jsonl, tmp_path / "two")
    assert run.returncode == 0, run.stderr
    close(json.loads((tmp_path / "two/results.json").read_text()), one_process)
    shares = [
        len(Path(tmp_path / "two" / name).read_text().splitlines()) - 1
        for name in ("s.jsonl", "s-rank1.jsonl")
    ]
    assert min(shares) >= 1, "one rank did all the work"
    assert one_process["given up"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said", "checkpoint"),
    [
        ("killed", "rank 1 of 2 died without a message", "profile.safetensors"),
        ("failed", "rank 1 of 2 failed: cannot read the image 3.png", "c.jsonl"),
    ],
)
def test_a_dead_rank_is_named_and_the_rerun_goes_on(
    jsonl, tmp_path, one_process, how, said, checkpoint
):
    out = tmp_path / "two"
    run = launch(jsonl, out, "--die", "1", how)
    assert run.returncode != 0
    assert f"rank 0 says: {said}" in run.stderr
    assert f"finished batches are saved in {out / checkpoint}; the same command" in run.stderr
    assert not (out / "results.json").exists()
    kept = of_all_ranks(out / checkpoint)
    assert kept, "nothing was kept"
    # Another number of ranks takes over what both left behind.
    again = launch(jsonl, out, ranks=1)
    assert again.returncode == 0, again.stderr
    close(json.loads((out / "results.json").read_text()), one_process)


def test_one_process_is_rank_0_and_shares_nothing(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (rank(), is_main(), local_device("cuda")) == (0, True, "cuda")
    with sharing() as ranks:
        assert ranks.share([1, 2, 3]) == [1, 2, 3]
        assert ranks.gather(b"all") == [b"all"]
        ranks.check()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set but RANK is not; start the run with torchrun"),
        ({"WORLD_SIZE": "two"}, "the environment sets WORLD_SIZE=two, which is not a number"),
    ],
)
def test_a_half_environment_is_refused(monkeypatch, environment, message):
    monkeypatch.delenv("RANK", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BridgeError) as error:
        rank()
    assert str(error.value) == message


def test_every_rank_takes_its_own_gpu(monkeypatch):
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert not is_main()
    assert local_device("cuda") == "cuda:1"
    assert local_device("auto") == "auto"
    assert local_device(None) is None


class Store(dict):
    """The store all ranks share, in this process; `gone` once its holder has died."""

    gone = False

    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def get(self, key: str) -> bytes:  # type: ignore[override]
        return self[key]

    def check(self, keys: list[str]) -> bool:
        if self.gone:
            raise RuntimeError("Connection reset by peer")
        return all(key in self for key in keys)


class Beating(Store):
    """A store in which these ranks beat whenever somebody looks."""

    def __init__(self, *ranks: int) -> None:
        super().__init__()
        self.ranks, self.count = ranks, 0

    def check(self, keys: list[str]) -> bool:
        self.count += 1
        for one in self.ranks:
            self.set(f"beat/{one}", str(self.count))
        return super().check(keys)


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in {"BEAT_S": 0.0, "WATCH_S": 0.1, "SILENT_S": 0.05}.items():
        monkeypatch.setattr(distributed, name, seconds)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)


def seen_from(rank: int, size: int, store: Store) -> Ranks:
    return Ranks(rank, size, store, None, "batches are kept")


def test_a_silent_rank_is_named(quick):
    ranks = seen_from(0, 4, Beating(0, 1, 3))
    with pytest.raises(
        RankError, match=r"^rank 2 of 4 died without a message .*; batches are kept$"
    ):
        ranks._on_signal(signal.SIGTERM, None)
    with pytest.raises(RankError, match="rank 2 and rank 3 of 4 died"):
        seen_from(0, 4, Beating(0, 1))._on_signal(signal.SIGTERM, None)


def test_a_rank_that_is_leaving_because_of_another_is_not_blamed(quick):
    store = Beating(0, 3)
    store.set("leaving/1", "1")
    with pytest.raises(RankError, match="rank 2 of 4 died"):
        seen_from(0, 4, store)._on_signal(signal.SIGTERM, None)


def test_a_rank_that_said_why_is_quoted(quick):
    store = Beating(0, 1, 2)
    store.set("failed/2", "cannot read the image 3.png")
    ranks = seen_from(1, 3, store)
    with pytest.raises(
        RankError, match=r"^rank 2 of 3 failed: cannot read the image 3\.png; batches are kept$"
    ):
        ranks.check()


def test_an_end_from_outside_blames_nobody(quick):
    ranks = seen_from(0, 2, Beating(0, 1))
    with pytest.raises(RankError, match=r"the run was ended from outside \(SIGTERM\); batches"):
        ranks._on_signal(signal.SIGTERM, None)


def test_a_rank_that_stops_beating_is_noticed_between_batches(quick):
    alive = seen_from(0, 2, Beating(0, 1))
    for _ in range(20):
        time.sleep(0.01)
        alive.check()  # longer than SILENT_S, yet everybody beats
    dead = seen_from(0, 2, Beating(0))
    time.sleep(0.1)
    with pytest.raises(RankError, match="rank 1 of 2 died"):
        dead.check()


@pytest.mark.parametrize(("agent", "holder"), [("False", "rank 0 of 2"), ("True", "the launcher")])
def test_the_holder_of_the_store_may_die_too(quick, monkeypatch, agent, holder):
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", agent)
    store = Beating(0, 1)
    ranks = seen_from(1, 2, store)
    store.gone = True
    with pytest.raises(RankError, match=f"^{holder} is gone; batches are kept$"):
        ranks.check()
    with pytest.raises(RankError, match=f"^{holder} is gone"):
        ranks._meet("here")


def test_a_rank_beats_while_it_works(quick, monkeypatch):
    monkeypatch.setattr(distributed, "BEAT_S", 0.01)
    store = Store()
    with seen_from(1, 2, store)._alive():
        time.sleep(0.2)
        early = int(store["beat/1"])
        time.sleep(0.2)
        assert int(store["beat/1"]) > early
    last = store["beat/1"]
    time.sleep(0.1)
    assert store["beat/1"] == last


def test_a_rank_waits_for_the_others_and_says_why_it_leaves(quick):
    store = Beating(0, 1)
    ranks = seen_from(0, 2, store)
    store.set("here/1", "1")
    ranks._meet("here")
    with pytest.raises(BridgeError, match="no such image"), ranks._alive():
        raise BridgeError("no such image")
    assert store["failed/0"] == b"no such image"
    assert store["leaving/0"] == b"1"
    assert signal.getsignal(signal.SIGTERM) != ranks._on_signal


def test_work_is_dealt_out_whole():
    work = list(range(11))
    shares = [Ranks(r, 3, None, None, "").share(work) for r in range(3)]
    assert sorted(np.concatenate(shares)) == work
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_files_beside_a_checkpoint(tmp_path):
    checkpoint = tmp_path / "j.jsonl"
    assert of_all_ranks(checkpoint) == []
    for number in (0, 1, 10):
        beside(checkpoint, number).touch()
    (tmp_path / "other-rank1.jsonl").touch()
    assert [one.name for one in of_all_ranks(checkpoint)] == [
        "j.jsonl",
        "j-rank1.jsonl",
        "j-rank10.jsonl",
    ]
