"""Whether `reliable` is true: systems of known truth, for every verb, in both directions.

Run it with `python -m benchmarks.reliable --json`; `--only PATTERN` and `--seeds N` take a part.
Every estimate is one line of a checkpoint, from which a stopped run of the same code resumes. The
rules:

- over all systems at most 7 % of the reliable 95 % intervals miss the truth;
- on no system do more than 20 % miss;
- of every verb at least 80 % of the estimates on its benign systems are reliable;
- of the 40 public tasks at 10,000 rows at least 28 are mostly called reliable;
- of Gaussian variables with n >= max(1000, 50 d) at least 95 % are called reliable;
- no estimate raises anything but a refusal (`ValueError`).

A share is held to its limit as it is if it counts at least 100 intervals; with fewer, where one
seed can decide, it breaks the rule if an exact binomial test rejects the limit at 1 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from benchmarks import _reliable_est, _reliable_mi, _reliable_pid
from benchmarks._reliable_rules import rules, summary
from benchmarks._reliable_system import System, measure
from benchmarks._table import machine
from vlm_bridge.runtime.files import write_bytes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "results"
#: Every system, by verb.
SYSTEMS: tuple[System, ...] = (
    *_reliable_mi.SYSTEMS,
    *_reliable_est.SYSTEMS,
    *_reliable_pid.SYSTEMS,
)


def chosen(patterns: Sequence[str] | None) -> list[System]:
    """Systems whose name, verb or suite matches one of the patterns (`*` and `?` as in a shell)."""
    if not patterns:
        return list(SYSTEMS)
    return [
        system
        for system in SYSTEMS
        if any(
            fnmatch(text, pattern)
            for pattern in patterns
            for text in (system.name, system.verb, system.suite)
        )
    ]


def collect(
    systems: list[System], seeds: int, checkpoint: Path, *, jobs: int = 1
) -> dict[str, Any]:
    """Measure what the checkpoint lacks in `jobs` processes, and summarise."""
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in resumed(checkpoint):
        rows[row["system"]][row["seed"]] = row
    # Seed by seed: a stopped run has all systems, with fewer seeds.
    wanted = [
        (system.name, seed)
        for seed in range(seeds)
        for system in systems
        if seed not in rows[system.name]
    ]
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        checkpoint.open("a") as file,
    ):
        for row in progress.track(measured(wanted, jobs), len(wanted), description="estimates"):
            rows[row["system"]][row["seed"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
    table = [
        summary(system, [row for row in rows[system.name].values() if row["seed"] < seeds])
        for system in systems
    ]
    return {
        "title": "what is called reliable",
        "command": f"python -m benchmarks.reliable --seeds {seeds} --json",
        "machine": machine(),
        "level": 0.95,
        "seeds": seeds,
        "rules": rules(table),
        "rows": table,
    }


def resumed(checkpoint: Path) -> Iterator[dict[str, Any]]:
    """The lines of a checkpoint, which is begun if it is missing.

    Its first line identifies the code that measures.

    Raises:
        SystemExit: the checkpoint was made by other code.
    """
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("estimators/**/*.py"), *ROOT.glob("benchmarks/_reliable*.py")]):
        digest.update(path.read_bytes())
    header = json.dumps({"code": digest.hexdigest()})
    if not checkpoint.exists():
        write_bytes(checkpoint, f"{header}\n".encode())
    data = checkpoint.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]  # without the line during which a run was stopped
    first, *rest = whole.decode().splitlines() or [""]
    if first != header:
        raise SystemExit(
            f"{checkpoint} was made by other code of the estimators or of this benchmark; delete "
            "it, or name another with --checkpoint"
        )
    os.truncate(checkpoint, len(whole))
    return map(json.loads, rest)


def measured(wanted: list[tuple[str, int]], jobs: int) -> Iterator[dict[str, Any]]:
    """The estimates of (name of a system, seed), in the order in which they are ready."""
    if jobs == 1:
        yield from map(_measure, wanted)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that start now
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_measure, wanted)


def _measure(name_and_seed: tuple[str, int]) -> dict[str, Any]:
    name, seed = name_and_seed
    return measure(next(system for system in SYSTEMS if system.name == name), seed)


def markdown(result: dict[str, Any]) -> str:
    """The page for `docs/`."""
    lines = [
        "# What is called reliable",
        "",
        f"`{result['command']}`: {len(result['rows'])} systems of known truth, "
        f"{result['seeds']} seeds each, 95 % intervals. *Misses* are intervals of reliable "
        "estimates that do not hold the truth, of *reliable intervals* (a decomposition has one "
        "for each atom). A *benign* system should be called reliable. Values are in the unit of "
        "the verb (information in nats). A share of fewer than 100 intervals breaks its limit if "
        "an exact binomial test rejects the limit at 1 %.",
        "",
        "| rule | limit | figure | of | holds |",
        "|---|---|---|---|---|",
    ]
    for rule in result["rules"]:
        held = "yes" if rule["holds"] else "**no**"
        lines.append(
            f"| {rule['rule']} | {rule['limit']} | {rule['figure']} | {rule['of']} | {held} |"
        )
    lines += [
        "",
        "| verb | system | truth | mean | seeds | reliable | misses | of | benign | refused | s |",
        "|" + "---|" * 11,
    ]
    for row in result["rows"]:
        benign = "yes" if row["benign"] else ""
        lines.append(
            f"| {row['verb']} | {row['system']} | {_numbers(row['truth'])} "
            f"| {_numbers(row['mean'])} | {row['seeds']} | {row['reliable']} | {row['misses']} "
            f"| {row['intervals']} | {benign} | {row['refused']} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _numbers(values: list[float | str]) -> str:
    shown = (value if isinstance(value, str) else f"{value:.3f}" for value in values)
    return ", ".join(shown) or "-"


def main(given: list[str] | None = None) -> int:
    """Run what the checkpoint lacks, write the JSON and the page; 1 if a rule is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliable",
        description="Whether estimates that call themselves reliable are right.",
        epilog="example: python -m benchmarks.reliable --seeds 5 --only 'near copy*' entropy",
    )
    parser.add_argument("--seeds", type=int, default=100, help="samples per system (default 100)")
    parser.add_argument(
        "--only", nargs="+", metavar="PATTERN", help="systems, verbs or suites, with * and ?"
    )
    parser.add_argument("--checkpoint", type=Path, default=Path("out/reliable.jsonl"))
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(given)
    systems = chosen(arguments.only)
    if not systems:
        parser.error(f"no system matches {' '.join(arguments.only)}")
    for option in ("seeds", "jobs"):
        if getattr(arguments, option) < 1:
            parser.error(f"--{option} must be at least 1, got {getattr(arguments, option)}")
    result = collect(systems, arguments.seeds, arguments.checkpoint, jobs=arguments.jobs)
    text = json.dumps(result, indent=1, allow_nan=False)
    if arguments.out or not arguments.only:  # a part does not replace the whole
        folder = arguments.out or FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "reliable.json").write_text(text + "\n")
        (folder / "reliable.md").write_text(markdown(result))
    sys.stdout.write(text + "\n" if arguments.json else markdown(result))
    return 0 if all(rule["holds"] for rule in result["rules"]) else 1


if __name__ == "__main__":
    sys.exit(main())
