"""A function run in a process of its own, with a limit on its time."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Capped:
    """Runs `function(*case)` again and again; what takes longer than `cap` seconds is killed.

    It computes with one thread. After a kill the process is started anew; start-up and imports
    are in no measurement.

    Args:
        function: a function of a module, that returns a dictionary.
        cap: seconds.
    """

    def __init__(self, function: Callable[..., dict[str, Any]], cap: float) -> None:
        self.function = function
        self.cap = cap
        self._process: Any = None
        self._pipe: Connection | None = None

    def __call__(self, *case: Any) -> dict[str, Any]:
        """What the function returned with its `seconds`, or an `error`, or `over_cap`."""
        if self._process is None:
            self._start()
        assert self._pipe is not None
        self._pipe.send(case)
        if self._pipe.poll(self.cap):
            try:
                found: dict[str, Any] = self._pipe.recv()
                return found
            except EOFError:
                self.close()
                return {"error": "the process died, as when memory runs out"}
        self.close()
        return {"over_cap": self.cap}

    def _start(self) -> None:
        # The new process reads these when it loads numpy.
        os.environ.update(dict.fromkeys(_THREADS, "1"))
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.function, far), daemon=True)
        self._process.start()
        far.close()
        self._pipe.recv()  # imports are done

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(function: Callable[..., dict[str, Any]], pipe: Connection) -> None:
    pipe.send("ready")
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        try:
            found = function(*case)
        except ValueError as error:
            found = {"error": " ".join(str(error).split())}
        pipe.send({**found, "seconds": round(time.perf_counter() - start, 4)})
