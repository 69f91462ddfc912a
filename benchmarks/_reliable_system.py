"""Systems of known truth for the benchmark of `reliable`, and one estimate of a system."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Rounding of an interval's ends: a truth within this relative distance is inside.
ROUNDING = 1e-9


@dataclass(frozen=True)
class System:
    """A distribution whose truth is known, and a question about a sample of it.

    Attributes:
        name: unique name; also seeds the random numbers.
        verb: what is estimated, for example "mutual information" or "entropy".
        truth: the true value; or a value for every atom of a decomposition. May be infinite.
        ask: draws a sample from a generator and estimates, with 95 % intervals. Returns an
            `Estimate` (`value`, `interval`, `reliable`), or a decomposition (`atoms`,
            `intervals`, `reliable`).
        benign: the method should call its estimates of this system reliable.
        suite: "tasks" for the 40 public tasks, "gaussians" for Gaussian variables with
            `n >= max(1000, 50 d)`, which have rules of their own; else "".
    """

    name: str
    verb: str
    truth: float | Mapping[str, float]
    ask: Callable[[np.random.Generator], Any]
    benign: bool = False
    suite: str = ""


def measure(system: System, seed: int) -> dict[str, Any]:
    """One estimate of a system, as a line of the checkpoint.

    A `ValueError` is a refusal (`refused`); a `LinAlgError` or another exception is a fault
    (`fault`).
    """
    row: dict[str, Any] = {"system": system.name, "seed": seed}
    rng = np.random.default_rng([seed, zlib.crc32(system.name.encode())])
    start = time.perf_counter()
    try:
        answer = system.ask(rng)
    except Exception as error:
        # numpy's LinAlgError is a ValueError, but no refusal.
        refused = isinstance(error, ValueError) and not isinstance(error, np.linalg.LinAlgError)
        row["refused" if refused else "fault"] = f"{type(error).__name__}: {error}"
    else:
        pairs = _values_and_intervals(system, answer)
        row["reliable"] = bool(answer.reliable)
        row["values"] = [round(value, 6) for _, value, _ in pairs]
        row["misses"] = sum(not _inside(truth, interval) for truth, _, interval in pairs)
        row["intervals"] = len(pairs)
        if not answer.reliable:
            row["reason"] = str(answer.reason)
    row["seconds"] = round(time.perf_counter() - start, 3)
    return row


def _values_and_intervals(
    system: System, answer: Any
) -> list[tuple[float, float, tuple[float, float]]]:
    """Truth, estimate and interval of every atom."""
    if isinstance(system.truth, Mapping):
        return [
            (truth, float(answer.atoms[atom]), answer.intervals[atom])
            for atom, truth in system.truth.items()
        ]
    return [(system.truth, float(answer.value), answer.interval)]


def _inside(truth: float, interval: tuple[float, float]) -> bool:
    low, high = interval
    slack = 0.0 if np.isinf(truth) else ROUNDING * max(1.0, abs(truth))
    return bool(low <= truth + slack and truth - slack <= high)
