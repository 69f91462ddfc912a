"""The one thread that runs the model, batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Event, Thread

from vlm_bridge.errors import BridgeError, first_line
from vlm_bridge.model.finite import BrokenModel
from vlm_bridge.server.answering import Answering
from vlm_bridge.server.auditing import Auditing
from vlm_bridge.server.job import Answer, Failure, Job
from vlm_bridge.server.waiting import Waiting

_log = logging.getLogger("vlm_bridge.server")
_CLOSING = Failure("the server is shutting down", 503)


class Worker:
    """Takes batches from the queue and answers them, until it is closed.

    If a batch fails, each of its requests that was told nothing is run again alone: only the one
    that is to blame fails.
    """

    def __init__(
        self, waiting: Waiting, answering: Answering, auditing: Auditing | None = None
    ) -> None:
        self._waiting, self._answering, self._auditing = waiting, answering, auditing
        self._running: tuple[Job, ...] = ()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="skipit-server", daemon=True)

    @property
    def running(self) -> int:
        """Number of requests that are answered now."""
        return sum(not job.is_over for job in self._running)

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive()

    @property
    def was_started(self) -> bool:
        """Whether it ever began to answer."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Begin to answer, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """End: what waits is refused, rows that run are cut off; returns when the thread ended."""
        self._closing.set()
        for job in (*self._waiting.close(), *self._running):
            job.cancelled.set()
            job.say(_CLOSING)
        self._thread.join()

    def _run(self) -> None:
        while batch := self._waiting.take():
            self._running = tuple(batch)
            if self._closing.is_set():  # `close` may not have seen this batch
                for job in batch:
                    job.cancelled.set()
            self._answer([job for job in batch if not job.is_over])
            for job in batch:
                job.say(_CLOSING)  # where it was cut off
            self._running = ()

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Answer them together or, where that fails, each alone; then audit the answers."""
        if not jobs:
            return
        error = self._tried(jobs)
        again = [job for job in jobs if error and len(jobs) > 1 and not job.has_told]
        for job in jobs:
            if error and job not in again:
                job.say(_failure(job, error))
        for job in again:
            self._answer([job])
        for job in jobs:
            if self._auditing is not None and job not in again and isinstance(job.last, Answer):
                self._auditing.audit(job, job.last)

    def _tried(self, jobs: Sequence[Job]) -> Exception | None:
        """What went wrong, if anything, when the jobs were answered together."""
        try:
            self._answering.answer(jobs)
        except Exception as error:
            return error
        return None


def _failure(job: Job, error: Exception) -> Failure:
    """What the client is told: a message that was written for users, or that the model failed."""
    if isinstance(error, BridgeError) and not isinstance(error, BrokenModel):
        return Failure(f"'messages': {error}", 400)
    _log.error("%s failed", job.name, exc_info=error)
    text = (
        str(error) if isinstance(error, BrokenModel) else f"the model failed: {first_line(error)}"
    )
    return Failure(text, 500)
