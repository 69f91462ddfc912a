"""PID from samples against known truth: bias, error and coverage, beside the plug-in.

Run it with `python -m benchmarks.pid_samples --json`. Every data set is one line of a checkpoint: a
run that was stopped goes on where it was. The systems (`benchmarks/_pid_systems.py`) took no part
in choosing the method.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from benchmarks._pid_systems import SYSTEMS
from estimators import pid_from_counts, pid_from_pmf
from estimators.decomposition.result import ATOMS

LEVEL = 0.9
#: An atom is interior if it is at least this large, in bits; the others sit on a boundary.
INTERIOR = 0.01
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, int, int, int]]:
    """Every (system, bins, n, seed), the cheap ones first."""
    for bins in sorted(arguments.bins):
        for system in arguments.systems:
            for n in arguments.n:
                for seed in range(arguments.seeds):
                    yield system, bins, n, seed


def measure(system: str, bins: int, n: int, seed: int) -> dict[str, Any]:
    """One data set: estimates, plug-in and intervals in bits."""
    p = SYSTEMS[system](bins)
    rng = np.random.default_rng([seed, n, bins, sorted(SYSTEMS).index(system)])
    counts = rng.multinomial(n, p.ravel()).reshape(p.shape)
    start = time.perf_counter()
    found = pid_from_counts(counts, unit="bits", level=LEVEL, seed=seed)
    return {
        "case": [system, bins, n, seed],
        "ours": [round(found.atoms[atom], 6) for atom in ATOMS],
        "plugin": [round(float(found.diagnostics[f"plugin_{atom}"]), 6) for atom in ATOMS],
        "low": [round(found.intervals[atom][0], 6) for atom in ATOMS],
        "high": [round(found.intervals[atom][1], 6) for atom in ATOMS],
        "reliable": found.reliable,
        "symmetrised": found.diagnostics["symmetrised"],
        "seconds": round(time.perf_counter() - start, 3),
    }


def summarise(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Bias, MAE, RMSE and coverage for each (system, bins, n), in bits."""
    table = []
    for bins in sorted(arguments.bins):
        for system in arguments.systems:
            exact = pid_from_pmf(SYSTEMS[system](bins), unit="bits")
            truth = np.array(list(exact.atoms.values()))
            for n in arguments.n:
                mine = [row for row in rows if row["case"][:3] == [system, bins, n]]
                if not mine:
                    continue
                entry: dict[str, Any] = {
                    "system": system,
                    "bins": bins,
                    "n": n,
                    "seeds": len(mine),
                    "truth": np.round(truth, 4).tolist(),
                }
                for name in ("ours", "plugin"):
                    error = np.array([row[name] for row in mine]) - truth
                    entry[name] = {
                        "bias": np.round(error.mean(axis=0), 4).tolist(),
                        "mae": np.round(np.abs(error).mean(axis=0), 4).tolist(),
                        "rmse": np.round(np.sqrt((error**2).mean(axis=0)), 4).tolist(),
                    }
                low = np.array([row["low"] for row in mine])
                high = np.array([row["high"] for row in mine])
                inside = (low <= truth + exact.gap) & (truth - exact.gap <= high)
                entry["coverage"] = np.round(inside.mean(axis=0), 3).tolist()
                entry["reliable"] = float(np.mean([row["reliable"] for row in mine]))
                entry["symmetrised"] = float(np.mean([row["symmetrised"] for row in mine]))
                entry["seconds"] = round(float(np.median([row["seconds"] for row in mine])), 3)
                table.append(entry)
    return table


def pooled(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Coverage pooled over interior atoms, and over the boundary atoms of tie, by bins and n."""
    pools = []
    for bins, n in sorted({(entry["bins"], entry["n"]) for entry in table}):
        mine = [entry for entry in table if (entry["bins"], entry["n"]) == (bins, n)]
        interior, at_tie = [], []
        for entry in mine:
            for truth, coverage in zip(entry["truth"], entry["coverage"], strict=True):
                if entry["system"] == "tie":
                    at_tie.append(coverage)
                elif truth >= INTERIOR:
                    interior.append(coverage)
        pools.append(
            {
                "bins": bins,
                "n": n,
                "interior": round(float(np.mean(interior)), 3) if interior else None,
                "tie": round(float(np.mean(at_tie)), 3) if at_tie else None,
            }
        )
    return pools


def markdown(result: dict[str, Any]) -> str:
    """The table for `docs/`: largest over the four atoms for errors, range for coverage."""
    lines = [
        "# PID from samples",
        "",
        f"`{result['command']}`: BROJA, {result['seeds']} seeds a row, bits. Errors are the "
        f"largest over the four atoms, coverage of {100 * LEVEL:g} % intervals is that of the "
        "worst and the best atom. Atoms are not clipped. *gaussian* and *tie* are binned normal "
        "variables, *categorical* has no order and no smoothness; at *tie* both unique atoms are "
        "zero and the union information has a kink. *reliable* is the share of data sets that the "
        "method itself calls so.",
        "",
        "| system | bins | N | bias: plug-in | ours | MAE: plug-in | ours | RMSE: ours | coverage "
        "| reliable |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in result["table"]:
        worst = {
            (name, kind): max(entry[name][kind], key=abs)
            for name in ("ours", "plugin")
            for kind in ("bias", "mae", "rmse")
        }
        lines.append(
            f"| {entry['system']} | {entry['bins']} | {entry['n']:,} "
            f"| {worst['plugin', 'bias']:+.3f} | {worst['ours', 'bias']:+.3f} "
            f"| {worst['plugin', 'mae']:.3f} | {worst['ours', 'mae']:.3f} "
            f"| {worst['ours', 'rmse']:.3f} "
            f"| {min(entry['coverage']):.2f} to {max(entry['coverage']):.2f} "
            f"| {100 * entry['reliable']:.0f} % |"
        )
    lines += [
        "",
        f"Coverage pooled over atoms: interior ones (at least {INTERIOR} bit) of *gaussian* and "
        "*categorical*, and all four at *tie*.",
        "",
        "| bins | N | interior | tie |",
        "|---|---|---|---|",
    ]
    for pool in result["pooled"]:
        shown = ["-" if pool[k] is None else f"{pool[k]:.3f}" for k in ("interior", "tie")]
        lines.append(f"| {pool['bins']} | {pool['n']:,} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines) + "\n"


def main(given: list[str] | None = None) -> None:
    """Run what the checkpoint lacks, then write the JSON and the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pid_samples",
        description="PID from samples: bias, error and coverage against known truth.",
        epilog="example: python -m benchmarks.pid_samples --bins 4 --n 500 --seeds 20 --json",
    )
    parser.add_argument("--seeds", type=int, default=200, help="data sets per row (default 200)")
    parser.add_argument("--bins", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--n", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--checkpoint", type=Path, default=Path("out/pid_samples.jsonl"))
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(given)
    wanted = list(cases(arguments))
    arguments.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    if arguments.checkpoint.exists():
        rows = [json.loads(line) for line in arguments.checkpoint.read_text().splitlines()]
    have = {tuple(row["case"]) for row in rows}
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        arguments.checkpoint.open("a") as checkpoint,
    ):
        task = progress.add_task("data sets", total=len(wanted))
        for case in wanted:
            if case not in have:
                rows.append(measure(*case))
                checkpoint.write(json.dumps(rows[-1]) + "\n")
                checkpoint.flush()
            progress.advance(task)
    chosen = set(wanted)
    rows = [row for row in rows if tuple(row["case"]) in chosen]
    table = summarise(rows, arguments)
    result = {
        "command": "python -m benchmarks.pid_samples --json",
        "seeds": arguments.seeds,
        "unit": "bits",
        "level": LEVEL,
        "atoms": list(ATOMS),
        "table": table,
        "pooled": pooled(table),
    }
    folder = arguments.out or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    (folder / "pid_samples.json").write_text(text + "\n")
    (folder / "pid_samples.md").write_text(markdown(result))
    if arguments.json:
        print(text)
    else:
        sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
