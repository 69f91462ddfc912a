"""One run spread over processes: who am I, who is still alive, and what everybody found.

`torchrun` and `accelerate launch` tell every process its rank and their number through the
environment (RANK, WORLD_SIZE). Without them a run has one process and nothing here does
anything. All ranks run the same program; whole batches are dealt out, and every rank ends up
with everybody's results, so that only writing and progress bars are left to rank 0.

A rank that dies is noticed by its heartbeat, an entry in the store all ranks share that stops
changing: the others end with a `RankError` that names it.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from vlm_bridge.errors import BridgeError

T = TypeVar("T")

BEAT_S = 0.5
#: A rank that does not beat for so long is taken for dead.
SILENT_S = 60.0
#: How long the ranks are watched once it is known that one of them died.
WATCH_S = 4.0

_runs = itertools.count()


class RankError(BridgeError):
    """Another rank of the run died or failed; the message names it and says what is kept."""


def rank() -> int:
    """This process's number, 0 where there is only one.

    Raises:
        BridgeError: the environment says that there are several but not which one this is.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return _from_environment("RANK", 0) if world_size() > 1 else 0


def world_size() -> int:
    """Number of processes of the run."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return _from_environment("WORLD_SIZE", 1)


def is_main() -> bool:
    """True in the one process that writes results and shows progress."""
    return rank() == 0


def local_device(device: str | None) -> str | None:
    """The device of this process: of several on a machine, each takes its own GPU.

    >>> local_device("cpu"), local_device("cuda:1")
    ('cpu', 'cuda:1')
    """
    if device == "cuda" and world_size() > 1:
        return f"cuda:{_from_environment('LOCAL_RANK', 0)}"
    return device


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        if name == "RANK":
            raise BridgeError("WORLD_SIZE is set but RANK is not; start the run with torchrun")
        return default
    try:
        return int(text)
    except ValueError:
        raise BridgeError(f"the environment says {name}={text}, which is no number") from None


class Ranks:
    """The processes of a run, seen from one of them; what `sharing` gives.

    Attributes:
        rank: number of this process.
        size: number of processes.
    """

    def __init__(self, rank: int, size: int, store: Any, group: Any, kept: str) -> None:
        self.rank, self.size, self._kept = rank, size, kept
        self._store, self._group = store, group
        self._steps = itertools.count()
        self._checked = time.monotonic()
        self._beats = dict.fromkeys(range(size), ("", self._checked))

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """This rank's part of `work`, dealt out like cards."""
        return work[self.rank :: self.size]

    def gather(self, data: bytes) -> list[bytes]:
        """What every rank has, in rank order, on every rank. All ranks must call it.

        Raises:
            RankError: one of them died or failed.
        """
        if self.size == 1:
            return [data]
        step = next(self._steps)
        self._meet(f"{step}/ready")  # ranks are slow at different batches; wait here, not below
        try:
            mine = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else _NOTHING
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(sizes, torch.tensor([len(data)]), group=self._group)
            longest = int(max(sizes))
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(data)] = mine
            parts = [torch.empty_like(padded) for _ in range(self.size)]
            if longest:
                dist.all_gather(parts, padded, group=self._group)
        except RuntimeError as error:
            self._give_up(str(error))
        self._meet(f"{step}/done")
        return [
            part[: int(size)].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)
        ]

    def check(self) -> None:
        """Raise if another rank died or failed; costs nothing most of the time.

        Raises:
            RankError: it did.
        """
        now = time.monotonic()
        if self.size == 1 or now - self._checked < BEAT_S:
            return
        self._checked = now
        if self._look() or any(now - at > SILENT_S for _, at in self._beats.values()):
            self._give_up("")

    # --- the rest is how ranks watch each other -----------------------------------------------

    def _look(self) -> bool:
        """Note which ranks have beaten since; True if one says that it failed."""
        now = time.monotonic()
        try:
            for other in range(self.size):
                beat = self._read(f"beat/{other}")
                if beat != self._beats[other][0]:
                    self._beats[other] = (beat, now)
            return any(self._read(f"failed/{other}") for other in range(self.size))
        except RuntimeError as error:  # the store, held by the launcher or by rank 0
            holder = "the launcher" if _agent_store() else f"rank 0 of {self.size}"
            raise RankError(f"{holder} is gone; {self._kept}") from error

    def _read(self, key: str) -> str:
        return str(self._store.get(key).decode()) if self._store.check([key]) else ""

    def _meet(self, place: str) -> None:
        """Wait until every rank is at `place`."""
        self._store.set(f"{place}/{self.rank}", "1")
        keys = [f"{place}/{other}" for other in range(self.size)]
        while not self._all_there(keys):
            self.check()
            time.sleep(0.02)

    def _all_there(self, keys: list[str]) -> bool:
        try:
            return bool(self._store.check(keys))
        except RuntimeError:
            self._look()
            return False

    def _give_up(self, why: str) -> NoReturn:
        """Find out which rank is to blame, and raise."""
        silent: set[int] = set()
        if not self._look():  # from here on only a beat that is still to come counts
            started = time.monotonic()
            silent = set(range(self.size)) - {self.rank}
            while silent and time.monotonic() - started < WATCH_S:
                time.sleep(BEAT_S / 2)
                if self._look():
                    break
                silent = {
                    other
                    for other in silent
                    if self._beats[other][1] < started and not self._read(f"leaving/{other}")
                }
        for other in range(self.size):
            if said := self._read(f"failed/{other}"):
                raise RankError(f"rank {other} of {self.size} failed: {said}; {self._kept}")
        if silent:
            who = " and ".join(f"rank {other}" for other in sorted(silent))
            raise RankError(
                f"{who} of {self.size} died without a word (killed, or out of memory); {self._kept}"
            )
        raise RankError(f"the run was ended from outside{f' ({why})' if why else ''}; {self._kept}")

    def _beat(self, stop: threading.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the store is gone: the main thread says so
            for count in itertools.count():
                self._store.set(f"beat/{self.rank}", str(count))
                if stop.wait(BEAT_S):
                    return

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._give_up(signal.Signals(number).name)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """Beat, and turn a launcher's SIGTERM into an error that says why, for a while."""
        stop = threading.Event()
        beating = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, self._on_signal) if main else None
        beating.start()
        try:
            yield
            self._leave()
        except BaseException as error:
            with contextlib.suppress(RuntimeError):
                if not isinstance(error, RankError):
                    said = " ".join(str(error).split()) or type(error).__name__
                    self._store.set(f"failed/{self.rank}", said)
                self._store.set(f"leaving/{self.rank}", "1")
            raise
        finally:
            stop.set()
            beating.join()
            if main:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    def _leave(self) -> None:
        """Rank 0 goes last: it may hold the store."""
        self._store.set(f"left/{self.rank}", "1")
        deadline = time.monotonic() + WATCH_S
        keys = [f"left/{other}" for other in range(self.size)]
        while self.rank == 0 and not self._store.check(keys) and time.monotonic() < deadline:
            time.sleep(0.02)


_NOTHING = torch.empty(0, dtype=torch.uint8)


def _agent_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


@contextlib.contextmanager
def sharing(kept: str = "nothing is kept") -> Iterator[Ranks]:
    """The ranks of this run; all of them must come here.

    Args:
        kept: end of the message if one of them dies: what is kept, and how to go on.

    Raises:
        RankError: inside, where another rank died or failed.
    """
    if world_size() == 1:
        yield Ranks(0, 1, None, None, kept)
        return
    if not dist.is_initialized():
        dist.init_process_group("gloo")
        atexit.register(_part)
    group = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
    shared = dist.distributed_c10d._get_default_store()
    store = dist.distributed_c10d.PrefixStore(f"skipit/{next(_runs)}", shared)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), store, group, kept)
    with ranks._alive():
        yield ranks


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
