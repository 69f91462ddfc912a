"""The bounded queue of requests, from which batches of equal settings are taken."""

from __future__ import annotations

import time
from collections import deque
from threading import Condition

from vlm_bridge.server.job import Job
from vlm_bridge.server.request import RequestError
from vlm_bridge.server.settings import ServerSettings


class Waiting:
    """Jobs in the order in which they came; bounded.

    The oldest job is always in the next batch, so that none waits for ever.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._jobs: deque[Job] = deque()
        self._changed = Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._jobs)

    def add(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            RequestError: with status 503, where the queue is full or closed.
        """
        with self._changed:
            if self._closed:
                raise RequestError("the server is shutting down", status=503)
            if len(self._jobs) >= self._settings.queue:
                raise RequestError(
                    f"{len(self._jobs)} requests wait already; ask again later", status=503
                )
            self._jobs.append(job)
            self._changed.notify()

    def remove(self, job: Job) -> None:
        """Free the place of a job that nobody waits for."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def take(self) -> list[Job]:
        """The oldest job and those of equal settings, up to a batch; empty once closed.

        Blocks until there is a job, and then up to `settings.wait` seconds until the batch is full.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                until = time.monotonic() + self._settings.wait
                while self._jobs and not self._closed and not self._is_full():
                    left = until - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
                batch = self._next()
                for job in batch:
                    self._jobs.remove(job)
                # All that were there may have left while the first waited for others.
                if batch or self._closed:
                    return batch

    def close(self) -> list[Job]:
        """Take no more jobs; returns those that waited."""
        with self._changed:
            self._closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
            return left

    def _is_full(self) -> bool:
        alone = self._jobs[0].request.settings is None
        return alone or len(self._next()) >= self._settings.batch_size

    def _next(self) -> list[Job]:
        if not self._jobs:
            return []
        first = self._jobs[0]
        settings = first.request.settings
        if settings is None:
            return [first]
        same = [job for job in self._jobs if job.request.settings == settings]
        return same[: self._settings.batch_size]
