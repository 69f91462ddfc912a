"""Mutual information against the truth: every method, the 40 public tasks, Gaussians to d = 1,000.

Run it with `python -m benchmarks.mi --json`; with `--quick` in some minutes. A cell is a problem,
a number of rows and a method. It gets `--seeds` data sets, or as many as fit in `--budget`
seconds, and at least one; an estimate that takes longer than `--cap` seconds is stopped, and its
cell with it; the result records both. Every estimate is one line of a checkpoint, from which a
stopped run resumes. One thread, whatever the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from benchmarks._capped import Capped
from benchmarks._mi_methods import LEVEL, METHODS, PEERS, installed, problems, run
from benchmarks._table import machine

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
Cell = tuple[str, int, str]
Row = dict[str, Any]


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """Every (problem, n, method), method by method, few rows first."""
    known = list(problems())
    chosen = [name for name in known if arguments.problems is None or name in arguments.problems]
    return [
        (problem, n, method)
        for method in arguments.methods
        for n in sorted(arguments.n)
        for problem in chosen
    ]


def fill(cell: Cell, have: list[Row], measure: Capped, seeds: int, budget: float) -> Iterable[Row]:
    """The estimates a cell still lacks; none where it was stopped or has spent its budget."""
    done = {row["seed"] for row in have}
    spent = sum(row.get("seconds", 0.0) for row in have)
    if any("over_cap" in row or "error" in row for row in have):
        return
    for seed in range(seeds):
        if seed in done:
            continue
        if spent > budget and done:
            return
        problem, n, method = cell
        row = {"problem": problem, "n": n, "method": method, "seed": seed}
        row |= measure(problem, n, method, seed)
        done.add(seed)
        spent += row.get("seconds", 0.0)
        yield row
        if "seconds" not in row or "error" in row:
            return


def summary(cell: Cell, rows: list[Row], truth: float) -> Row:
    """Bias, spread, coverage and time of one cell, in nats and seconds."""
    problem, n, method = cell
    out: Row = {"problem": problem, "n": n, "method": method, "truth": round(truth, 6)}
    for key in ("over_cap", "error"):
        values = [row[key] for row in rows if key in row]
        if values:
            out[key] = values[0]
    some = [row for row in rows if "value" in row]
    if not some:
        return out
    errors = np.array([row["value"] for row in some]) - truth
    out |= {
        "seeds": len(some),
        "bias": round(float(errors.mean()), 5),
        "sd": round(float(errors.std(ddof=1)), 5) if len(some) > 1 else None,
        "seconds": round(float(np.median([row["seconds"] for row in some])), 4),
    }
    bounded = [row for row in some if row["low"] is not None and row["high"] is not None]
    if bounded:
        inside = [row["low"] <= truth <= row["high"] for row in bounded]
        widths = [row["high"] - row["low"] for row in bounded]
        out |= {
            "coverage": round(float(np.mean(inside)), 3),
            "half_width": round(float(np.median(widths)) / 2, 5),
            "reliable": round(float(np.mean([row["reliable"] for row in bounded])), 3),
            "reliable_and_covered": round(
                float(
                    np.mean([a and row["reliable"] for a, row in zip(inside, bounded, strict=True)])
                ),
                3,
            ),
        }
    return out


def overview(table: list[Row]) -> list[Row]:
    """Every method over all tasks, and over all Gaussians, at each n."""
    groups: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for entry in table:
        kind = "gaussians" if entry["problem"].startswith("gaussian-") else "tasks"
        groups[kind, entry["n"], entry["method"]].append(entry)
    out = []
    for (kind, n, method), mine in groups.items():
        some = [entry for entry in mine if "bias" in entry]
        row: Row = {"problems": kind, "n": n, "method": method, "asked": len(mine)}
        row["answered"] = len(some)
        silent = [entry for entry in mine if "bias" not in entry]
        row["over_cap"] = sum("over_cap" in entry for entry in silent)
        row["refused"] = sum("error" in entry for entry in silent)
        row["not_run"] = len(silent) - row["over_cap"] - row["refused"]
        row["runs"] = [min(e["seeds"] for e in some), max(e["seeds"] for e in some)] if some else []
        if some:
            row["median_abs_bias"] = round(float(np.median([abs(e["bias"]) for e in some])), 4)
            row["worst_bias"] = max((e["bias"] for e in some), key=abs)
            row["seconds"] = round(float(np.median([e["seconds"] for e in some])), 3)
            row["slowest"] = max(e["seconds"] for e in some)
        bounded = [entry for entry in some if "coverage" in entry]
        if bounded:
            weights = np.array([e["seeds"] for e in bounded], dtype=float)
            reliable = np.array([e["reliable"] for e in bounded]) * weights
            right = np.array([e["reliable_and_covered"] for e in bounded]) * weights
            row["coverage"] = round(
                float(np.average([e["coverage"] for e in bounded], weights=weights)), 3
            )
            row["reliable_problems"] = sum(e["reliable"] >= 0.5 for e in bounded)
            row["covered_if_reliable"] = (
                round(float(right.sum() / reliable.sum()), 3) if reliable.sum() else None
            )
        out.append(row)
    return out


def main(given: list[str] | None = None) -> None:
    """Run what the checkpoint lacks, then write the JSON and the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mi",
        description="Mutual information: bias, spread, coverage and time against known truth.",
        epilog="example: python -m benchmarks.mi --quick --methods auto ksg1 npeet-plus",
    )
    present = [name for name in METHODS if name not in PEERS or name in installed()]
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 10_000], help="rows")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=present,
        choices=present,
        metavar="METHOD",
        help=f"some of {', '.join(present)} (default: all)",
    )
    parser.add_argument("--problems", nargs="+", choices=list(problems()), metavar="PROBLEM")
    parser.add_argument("--seeds", type=int, default=20, help="data sets per cell (default 20)")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds per cell (default 10)")
    parser.add_argument("--cap", type=float, default=30.0, help="seconds per estimate (default 30)")
    parser.add_argument("--quick", action="store_true", help="N = 1,000, 3 seeds, 2 s per cell")
    parser.add_argument("--checkpoint", type=Path, default=Path("out/mi.jsonl"))
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--report", action="store_true", help="show the results in the checkpoint, measure nothing"
    )
    arguments = parser.parse_args(given)
    if arguments.quick:
        arguments.n, arguments.seeds, arguments.budget = [1000], 3, 2.0
    result = collect(arguments)
    folder = arguments.out or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False)
    (folder / "mi.json").write_text(text + "\n")
    (folder / "mi.md").write_text(markdown(result))
    if arguments.json:
        print(text)
    else:
        sys.stdout.write(markdown(result))


def collect(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that was measured, for the cells asked for."""
    wanted = cells(arguments)
    arguments.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[Cell, list[Row]] = defaultdict(list)
    if arguments.checkpoint.exists():
        for line in arguments.checkpoint.read_text().splitlines():
            row = json.loads(line)
            rows[row["problem"], row["n"], row["method"]].append(row)
    if not arguments.report:
        measure_missing(wanted, rows, arguments)
    truths = {name: one.mutual_information for name, one in problems().items()}
    asked = {cell: [row for row in rows[cell] if row["seed"] < arguments.seeds] for cell in wanted}
    table = [summary(cell, asked[cell], truths[cell[0]]) for cell in wanted]
    return {
        "title": "mutual information",
        "machine": machine(),
        "unit": "nats",
        "level": LEVEL,
        "seeds": arguments.seeds,
        "budget_seconds": None if arguments.report else arguments.budget,
        "cap_seconds": arguments.cap,
        "peers_missing": [name for name in PEERS if name not in installed()],
        "overview": overview(table),
        "rows": table,
    }


def measure_missing(
    wanted: list[Cell], rows: dict[Cell, list[Row]], arguments: argparse.Namespace
) -> None:
    """Fill the cells, and append to the checkpoint."""
    measure = Capped(run, arguments.cap)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        arguments.checkpoint.open("a") as checkpoint,
    ):
        task = progress.add_task("cells", total=len(wanted))
        for cell in wanted:
            progress.update(task, description=" ".join(map(str, cell)))
            for row in fill(cell, rows[cell], measure, arguments.seeds, arguments.budget):
                rows[cell].append(row)
                checkpoint.write(json.dumps(row) + "\n")
                checkpoint.flush()
            progress.advance(task)
    measure.close()


def markdown(result: dict[str, Any]) -> str:
    """The tables for `docs/`."""
    lines = [
        "# Mutual information against the truth",
        "",
        f"`python -m benchmarks.mi`, one thread, nats, at most {result['seeds']} data sets a cell"
        f"{_budget(result['budget_seconds'])}; an estimate of more than "
        f"{result['cap_seconds']:g} s is stopped. *Tasks* are the 40 of the public benchmark "
        "(Czyz et al. 2023), *Gaussians* have 1 nat, spread over all d canonical pairs or in 3 of "
        f"them, d = 1 to 1,000. Coverage is of {100 * result['level']:g} % intervals, over data "
        "sets; *reliable* counts problems whose estimates mostly call themselves so, *covered if "
        "reliable* is the coverage of those. *Answered* are problems with at least one value in "
        "time, *runs* the fewest and most data sets of those; *no answer* counts problems over the "
        "time, refused by the method, and not run.",
        "",
    ]
    if result["peers_missing"]:
        lines += [f"Not installed, so not measured: {', '.join(result['peers_missing'])}.", ""]
    head = (
        "| method | answered | runs | no answer | median of abs. bias | worst bias | coverage "
        "| reliable | covered if reliable | median s | slowest s |"
    )
    pairs = sorted({(row["problems"], row["n"]) for row in result["overview"]}, reverse=True)
    for kind, n in sorted(pairs, key=lambda pair: (pair[0] != "tasks", pair[1])):
        lines += [f"## {kind.capitalize()}, N = {n:,}", "", head, "|---" * 11 + "|"]
        for row in result["overview"]:
            if (row["problems"], row["n"]) == (kind, n):
                cells_ = [
                    f"{row['answered']}/{row['asked']}",
                    " to ".join(map(str, sorted(set(row["runs"])))) or "-",
                    _unanswered(row),
                    _shown(row.get("median_abs_bias"), ".3f"),
                    _shown(row.get("worst_bias"), "+.3f"),
                    _shown(row.get("coverage"), ".2f"),
                    _shown(row.get("reliable_problems"), "d"),
                    _shown(row.get("covered_if_reliable"), ".2f"),
                    _shown(row.get("seconds"), ".2f"),
                    _shown(row.get("slowest"), ".1f"),
                ]
                lines.append(f"| {row['method']} | {' | '.join(cells_)} |")
        lines.append("")
    for n in sorted({row["n"] for row in result["rows"]}):
        lines += _by_problem(result["rows"], n)
    return "\n".join(lines)


def _by_problem(rows: list[Row], n: int) -> list[str]:
    """Mean estimate of every method on every problem."""
    mine = {(row["problem"], row["method"]): row for row in rows if row["n"] == n}
    methods = list(dict.fromkeys(method for _, method in mine))
    lines = [
        f"## Mean estimate, N = {n:,}",
        "",
        "An asterisk: most of these estimates call themselves reliable. A dash: no answer.",
        "",
        f"| problem | truth | {' | '.join(methods)} |",
        "|---" * (len(methods) + 2) + "|",
    ]
    for problem in dict.fromkeys(problem for problem, _ in mine):
        entries = [mine[problem, method] for method in methods]
        shown = []
        for entry in entries:
            star = "*" if (entry.get("reliable") or 0) >= 0.5 else ""
            value = entry["truth"] + entry["bias"] if "bias" in entry else None
            shown.append(_shown(value, ".2f") + star)
        lines.append(f"| {problem} | {entries[0]['truth']:.2f} | {' | '.join(shown)} |")
    return [*lines, ""]


def _budget(seconds: float | None) -> str:
    return f", at least as many as fit in {seconds:g} s" if seconds is not None else ""


def _unanswered(row: Row) -> str:
    """Why problems have no value: "3 over time, 2 refused"."""
    why = {"over_cap": "over time", "refused": "refused", "not_run": "not run"}
    return ", ".join(f"{row[key]} {word}" for key, word in why.items() if row[key]) or "-"


def _shown(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


if __name__ == "__main__":
    main()
