"""Whether `reliable` is true: systems of known truth, for every verb, in both directions.

Run it with `python -m benchmarks.reliable --json`; `--only PATTERN` and `--seeds N` take a part.
Every estimate is one line of a checkpoint, from which a stopped run resumes. The rules:

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
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from benchmarks import _reliable_est, _reliable_mi, _reliable_pid
from benchmarks._reliable_rules import rules, summary
from benchmarks._reliable_system import System, measure
from benchmarks._table import machine

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
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


def collect(systems: list[System], seeds: int, checkpoint: Path) -> dict[str, Any]:
    """Measure what the checkpoint lacks, and summarise."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    if checkpoint.exists():
        for line in checkpoint.read_text().splitlines():
            row = json.loads(line)
            rows[row["system"]][row["seed"]] = row
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Seed by seed: a stopped run has all systems, with fewer seeds.
    wanted = [(system, seed) for seed in range(seeds) for system in systems]
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        checkpoint.open("a") as file,
    ):
        task = progress.add_task("estimates", total=len(wanted))
        for system, seed in wanted:
            if seed not in rows[system.name]:
                row = measure(system, seed)
                rows[system.name][seed] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
            progress.advance(task)
    table = [
        summary(system, [row for row in rows[system.name].values() if row["seed"] < seeds])
        for system in systems
    ]
    return {
        "title": "what is called reliable",
        "command": "python -m benchmarks.reliable --json",
        "machine": machine(),
        "level": 0.95,
        "seeds": seeds,
        "rules": rules(table),
        "rows": table,
    }


def markdown(result: dict[str, Any]) -> str:
    """The page for `docs/`."""
    lines = [
        "# What is called reliable",
        "",
        f"`{result['command']}`: {len(result['rows'])} systems of known truth, "
        f"{result['seeds']} seeds each, 95 % intervals. *Misses* are intervals of reliable "
        "estimates that do not hold the truth, of *reliable intervals* (a decomposition has one "
        "for each atom). A *benign* system should be called reliable. Values are in the unit of "
        "the verb (information in nats).",
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
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(given)
    systems = chosen(arguments.only)
    if not systems or arguments.seeds < 1:
        parser.error(
            f"no system matches {' '.join(arguments.only)}"
            if not systems
            else f"--seeds must be at least 1, got {arguments.seeds}"
        )
    result = collect(systems, arguments.seeds, arguments.checkpoint)
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
