"""CPU seconds from a fresh process to the first answer, beside their targets."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import _help
from benchmarks._table import report

ROOT = Path(__file__).resolve().parent.parent
#: What is started, the arguments of Python for it, and the CPU seconds it may take.
TARGETS: dict[str, tuple[tuple[str, ...], float]] = {
    "import estimators": (("-c", "import estimators"), 0.4),
    "import theory": (("-c", "import theory"), 0.4),
    "import vlm_bridge": (("-c", "import vlm_bridge"), 0.7),
    "vlm_bridge --help": (("-m", "vlm_bridge", "--help"), 0.7),
    "vlm_bridge rules": (("-m", "vlm_bridge", "rules"), 0.7),
    "vlm_bridge methods": (("-m", "vlm_bridge", "methods"), 0.7),
    "vlm_bridge --version": (("-m", "vlm_bridge", "--version"), 0.7),
}
#: The floor: our packages cannot start sooner than what they stand on.
FLOOR = ("-c", "import scipy.special, scipy.linalg")


class Seconds(NamedTuple):
    """User and system time of the runs of one command, without the first."""

    median: float
    low: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, start everything several times, print."""
    parser = _help.parser("startup", __doc__ or "")
    parser.add_argument("--runs", type=int, default=5, help="fresh processes each (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    rows = []
    for name, (command, target) in TARGETS.items():
        seconds = cpu_seconds(command, options.runs)
        rows.append(
            {
                "start": name,
                "cpu_s": round(seconds.median, 3),
                "fastest_s": round(seconds.low, 3),
                "target_s": target,
                "met": seconds.median <= target,
            }
        )
    report(
        "CPU seconds of a fresh process, user and system, median",
        rows,
        as_json=options.json,
        runs=options.runs,
        floor_s=round(cpu_seconds(FLOOR, options.runs).median, 3),
        floor=FLOOR[-1],
    )


def cpu_seconds(command: Sequence[str], runs: int) -> Seconds:
    """CPU seconds of `python *command`, started `runs` times after one start that counts not.

    The first start compiles what is not compiled yet and fills the disk's cache.

    Raises:
        SystemExit: the command fails.
    """
    spent = [_once(command) for _ in range(runs + 1)][1:]
    return Seconds(statistics.median(spent), min(spent))


def _once(command: Sequence[str]) -> float:
    before = os.times()
    run = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    after = os.times()
    if run.returncode:
        raise SystemExit(f"python {' '.join(command)} fails:\n{run.stderr}")
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


if __name__ == "__main__":
    main()
