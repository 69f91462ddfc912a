"""Runs of several processes: ranks, gathering of results, and reports of dead ranks.

`torchrun` and `accelerate launch` set RANK and WORLD_SIZE in the environment; without them a run
has one process. All ranks run the same program: whole batches are dealt out, every rank gathers
the results of all, and only rank 0 writes files and shows progress.

Collectives of `torch.distributed` block, or time out, when a rank dies. Here every rank also
writes a heartbeat to a shared store; if it stops, the others raise a `RankError` that names it.
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

import torch.distributed as dist

from vlm_bridge.errors import BridgeError

T = TypeVar("T")

BEAT_S = 0.5
#: A rank without a heartbeat for this long counts as dead.
SILENT_S = 60.0
#: How long heartbeats are awaited to find out which rank died.
WATCH_S = 4.0

_runs = itertools.count()


class RankError(BridgeError):
    """Another rank died or failed; the message names it and the saved results."""


def rank() -> int:
    """The number of this process, 0 if it is the only one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    if world_size() > 1 and "RANK" not in os.environ:
        raise BridgeError("WORLD_SIZE is set but RANK is not; start the run with torchrun")
    return _from_environment("RANK", 0) if world_size() > 1 else 0


def world_size() -> int:
    """Number of processes of the run."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return _from_environment("WORLD_SIZE", 1)


def is_main() -> bool:
    """True in the process that writes results and shows progress."""
    return rank() == 0


def local_device(device: str | None) -> str | None:
    """The device of this process: `cuda` becomes a GPU of its own if a run has several.

    >>> local_device("cpu"), local_device("cuda:1")
    ('cpu', 'cuda:1')
    """
    if device == "cuda" and world_size() > 1:
        return f"cuda:{_from_environment('LOCAL_RANK', 0)}"
    return device


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise BridgeError(f"the environment sets {name}={text}, which is not a number") from None


class Ranks:
    """The `size` processes of a run, seen from process `rank`; `sharing` makes it."""

    def __init__(self, rank: int, size: int, store: Any, group: Any, remains: str) -> None:
        self.rank, self.size, self._remains = rank, size, remains
        self._store, self._group = store, group
        self._steps = itertools.count()
        self._checked = time.monotonic()
        self._beats = dict.fromkeys(range(size), ("", self._checked))

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """This rank's part of `work`, dealt out in turn."""
        return work[self.rank :: self.size]

    def gather(self, data: T) -> list[T]:
        """The `data` of every rank, in rank order; all ranks must call it."""
        if self.size == 1:
            return [data]
        step, parts = next(self._steps), [data] * self.size
        self._meet(f"{step}/ready")  # a collective would wait for a dead rank without end
        try:
            dist.all_gather_object(parts, data, group=self._group)
        except RuntimeError as error:
            self._give_up(str(error))
        self._meet(f"{step}/done")
        return parts

    def check(self) -> None:
        """Raise a `RankError` if another rank died or failed; looks once per `BEAT_S` at most."""
        now = time.monotonic()
        if self.size == 1 or now - self._checked < BEAT_S:
            return
        self._checked = now
        if self._look() or any(now - at > SILENT_S for _, at in self._beats.values()):
            self._give_up("")

    def _look(self) -> bool:
        """Note the time of new heartbeats; True if a rank reported a failure."""
        now = time.monotonic()
        for peer, beat in enumerate(self._each("beat")):
            if beat != self._beats[peer][0]:
                self._beats[peer] = (beat, now)
        return any(self._each("failed"))

    def _each(self, what: str) -> list[str]:
        """The entry `what` of every rank in the store, "" where there is none."""
        with self._store_alive():
            keys = [f"{what}/{peer}" for peer in range(self.size)]
            stored = ((key, self._store.check([key])) for key in keys)
            return [str(self._store.get(key).decode()) if known else "" for key, known in stored]

    @contextlib.contextmanager
    def _store_alive(self) -> Iterator[None]:
        """Name the holder of the store if it is gone."""
        try:
            yield
        except RuntimeError as error:
            launched = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            holder = "the launcher" if launched else f"rank 0 of {self.size}"
            raise RankError(f"{holder} is gone; {self._remains}") from error

    def _meet(self, place: str) -> None:
        """Wait until every rank is at `place`, checking that all are alive."""
        with self._store_alive():
            self._store.set(f"{place}/{self.rank}", "1")
            while not self._store.check([f"{place}/{peer}" for peer in range(self.size)]):
                self.check()
                time.sleep(0.02)

    def _give_up(self, why: str) -> NoReturn:
        """Raise an error that names the rank that failed or died."""
        silent: list[int] = []
        if not self._look():  # from here on a rank has to beat again to count as alive
            started = time.monotonic()
            silent = [peer for peer in range(self.size) if peer != self.rank]
            while silent and time.monotonic() - started < WATCH_S:
                time.sleep(BEAT_S / 2)
                if self._look():
                    break
                leaving = self._each("leaving")
                silent = [i for i in silent if self._beats[i][1] < started and not leaving[i]]
        for peer, message in enumerate(self._each("failed")):
            if message:
                raise RankError(f"rank {peer} of {self.size} failed: {message}; {self._remains}")
        if silent:
            dead = " and ".join(f"rank {peer}" for peer in silent)
            cause = "died without a message (killed, or out of memory)"
            raise RankError(f"{dead} of {self.size} {cause}; {self._remains}")
        reason = f" ({why})" if why else ""
        raise RankError(f"the run was ended from outside{reason}; {self._remains}")

    def _beat(self, stop: threading.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the main thread reports that the store is gone
            for count in itertools.count():
                self._store.set(f"beat/{self.rank}", str(count))
                if stop.wait(BEAT_S):
                    return

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._give_up(signal.Signals(number).name)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """Beat inside the block; SIGTERM from the launcher raises an error that says why."""
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
                    message = " ".join(str(error).split()) or type(error).__name__
                    self._store.set(f"failed/{self.rank}", message)
                self._store.set(f"leaving/{self.rank}", "1")
            raise
        finally:
            stop.set()
            beating.join()
            if main:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    def _leave(self) -> None:
        """Rank 0, which may hold the store, waits for the others."""
        self._store.set(f"left/{self.rank}", "1")
        deadline = time.monotonic() + WATCH_S
        while self.rank == 0 and not all(self._each("left")) and time.monotonic() < deadline:
            time.sleep(0.02)


@contextlib.contextmanager
def sharing(remains: str = "no results are saved") -> Iterator[Ranks]:
    """The ranks of this run, which must all enter the block; `remains` ends every `RankError`."""
    if world_size() == 1:
        yield Ranks(0, 1, None, None, remains)
        return
    if not dist.is_initialized():
        dist.init_process_group("gloo")
        atexit.register(_destroy_group)
    group = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
    shared = dist.distributed_c10d._get_default_store()
    store = dist.distributed_c10d.PrefixStore(f"skipit/{next(_runs)}", shared)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), store, group, remains)
    with ranks._alive():
        yield ranks


def _destroy_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
