"""Rules on what is called reliable, and the line of a system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import binom

from benchmarks._reliable_system import System

#: Largest share of reliable intervals that miss the truth, over all systems and on one system.
MISSES, MISSES_OF_ONE = 0.07, 0.20
#: Least share of reliable estimates on the benign systems of a verb, and on benign Gaussians.
BENIGN, GAUSSIANS = 0.80, 0.95
#: Least number of the 40 public tasks that are mostly called reliable.
TASKS = 28
#: From this count on a share is held to its limit as it is.
ENOUGH = 100
ALPHA = 0.01

Row = dict[str, Any]


def summary(system: System, measured: list[Row]) -> Row:
    """Counts of one system over its seeds."""
    answered = [row for row in measured if "values" in row]
    reliable = [row for row in answered if row["reliable"]]
    truth = system.truth.values() if isinstance(system.truth, Mapping) else [system.truth]
    values = np.array([row["values"] for row in answered])
    reasons = sorted({row["reason"] for row in answered if "reason" in row})
    return {
        "verb": system.verb,
        "system": system.name,
        "suite": system.suite,
        "benign": system.benign,
        "truth": [_number(value) for value in truth],
        "mean": [_number(value) for value in values.mean(axis=0)] if answered else [],
        "seeds": len(measured),
        "reliable": len(reliable),
        "misses": sum(row["misses"] for row in reliable),
        "intervals": sum(row["intervals"] for row in reliable),
        "refused": sum("refused" in row for row in measured),
        "faults": [row["fault"] for row in measured if "fault" in row],
        "reasons": reasons[:3],
        "seconds": round(float(np.median([row["seconds"] for row in measured])), 3),
    }


def above(count: int, of: int, limit: float) -> bool:
    """Whether a share is above its limit: as it is from 100 on, else by an exact test at 1 %."""
    if of >= ENOUGH:
        return count > limit * of
    return bool(binom.sf(count - 1, of, limit) < ALPHA)


def rules(table: list[Row]) -> list[Row]:
    """Every rule with its limit, the figure reached, and whether it holds."""
    misses, intervals = _sum(table, "misses"), _sum(table, "intervals")
    out = [
        _rule(
            "reliable intervals that miss",
            f"at most {MISSES:.0%}",
            f"{misses / max(intervals, 1):.1%}",
            intervals,
            not above(misses, intervals, MISSES),
        )
    ]
    bad = [row for row in table if above(row["misses"], row["intervals"], MISSES_OF_ONE)]
    out.append(
        _rule(
            f"systems with more than {MISSES_OF_ONE:.0%} misses",
            "none",
            ", ".join(row["system"] for row in bad) or "none",
            len(table),
            not bad,
        )
    )
    benign = [row for row in table if row["benign"]]
    for verb in dict.fromkeys(row["verb"] for row in benign):
        mine = [row for row in benign if row["verb"] == verb]
        out.append(_least(f"{verb}: benign estimates called reliable", mine, BENIGN))
    gaussians = [row for row in table if row["suite"] == "gaussians"]
    if gaussians:
        out.append(_least("benign Gaussians called reliable", gaussians, GAUSSIANS))
    tasks = [row for row in table if row["suite"] == "tasks"]
    if len(tasks) == 40:
        mostly = sum(2 * row["reliable"] >= row["seeds"] for row in tasks)
        out.append(
            _rule(
                "public tasks at 10,000 rows, mostly called reliable",
                f"at least {TASKS}",
                str(mostly),
                len(tasks),
                mostly >= TASKS,
            )
        )
    faults = [row for row in table if row["faults"]]
    out.append(
        _rule(
            "estimates that raise anything but a refusal",
            "none",
            ", ".join(row["system"] for row in faults) or "none",
            _sum(table, "seeds"),
            not faults,
        )
    )
    return out


def _least(name: str, rows: list[Row], limit: float) -> Row:
    """The rule that at least a share of the estimates is called reliable."""
    reliable, seeds = _sum(rows, "reliable"), _sum(rows, "seeds")
    return _rule(
        name,
        f"at least {limit:.0%}",
        f"{reliable / max(seeds, 1):.1%}",
        seeds,
        not above(seeds - reliable, seeds, 1.0 - limit),
    )


def _rule(name: str, limit: str, figure: str, of: int, holds: bool) -> Row:
    return {"rule": name, "limit": limit, "figure": figure, "of": of, "holds": holds}


def _number(value: float) -> float | str:
    """A number of the JSON, which has no infinity."""
    return round(float(value), 5) if np.isfinite(value) else str(float(value))


def _sum(rows: list[Row], key: str) -> int:
    return sum(row[key] for row in rows)
