"""Average of the decompositions of the codes of two halves of the rows."""

from __future__ import annotations

import numpy as np

from estimators.decomposition._atom_intervals import atom_interval
from estimators.decomposition.counts import NONNEGATIVE
from estimators.decomposition.result import PID
from estimators.discrete._estimate import coverage_reason


def halves_doubts(*parts: PID) -> list[str]:
    """Failed checks of the halves, without the widths of their intervals."""
    doubts = [coverage_reason(float(part.diagnostics["coverage"])) for part in parts]
    if not all(part.converged in (None, True) for part in parts):
        doubts.append("the solver did not converge for the codes")
    return list(dict.fromkeys(line for line in doubts if line))


def widened(result: PID, unread: float) -> dict[str, tuple[float, float]]:
    """Intervals with the unread entropy of the target on both sides, in nats.

    Codes lose information of their sources: the informations of the sources may exceed those of
    the codes by up to the unread entropy, which moves an atom up or down by as much.
    """
    intervals = {}
    for name, (low, high) in result.intervals.items():
        value = getattr(result, name)
        if result.measure in NONNEGATIVE:
            intervals[name] = atom_interval(value, value - low + unread, high - value + unread)
        else:
            intervals[name] = (low - unread, high + unread)
    return intervals


def mean_of_halves(first: PID, second: PID) -> PID:
    """Average of the decompositions of two halves, with intervals as for independent halves.

    They are not cut at zero: `widened` does.
    """
    intervals = {}
    for name in first.intervals:
        halves = [
            max(part.intervals[name][1] - value, value - part.intervals[name][0])
            for part in (first, second)
            for value in (getattr(part, name),)
        ]
        middle = (getattr(first, name) + getattr(second, name)) / 2
        half = float(np.hypot(*halves)) / 2
        intervals[name] = (middle - half, middle + half)
    return PID(
        redundant=(first.redundant + second.redundant) / 2,
        unique_1=(first.unique_1 + second.unique_1) / 2,
        unique_2=(first.unique_2 + second.unique_2) / 2,
        synergistic=(first.synergistic + second.synergistic) / 2,
        unit="nats",
        measure=first.measure,
        method=first.method,
        n=(first.n or 0) + (second.n or 0),
        intervals=intervals,
        level=first.level,
        p_values={k: min(1.0, 2 * min(v, second.p_values[k])) for k, v in first.p_values.items()},
    )
