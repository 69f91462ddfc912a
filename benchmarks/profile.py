"""One pass over 1,000,000 rows of 512 columns: geometry, second moments and CKA, time and memory.

Run it with `python -m benchmarks.profile --json`. Rows are made block by block and are in no
measurement; a plain pass that keeps all rows would need 4 GB a state.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from benchmarks._table import machine, report
from estimators import CKAAccumulator, CrossMoments, PairAccumulator, PairRows

TITLE = "streaming profile"
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"


def block(rows: int, d: int, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States before and after a layer, float32, and the cluster (32 rows each) of every row."""
    rng = np.random.default_rng(start)
    x = rng.standard_normal((rows, d), dtype=np.float32)
    y = x + 0.1 * rng.standard_normal((rows, d), dtype=np.float32)
    return x, y, (start + np.arange(rows)) // 32


def measure(rows: int, d: int, step: int) -> list[dict[str, Any]]:
    """Seconds of every accumulator over all blocks, and the memory they hold."""
    geometry, moments, cka = PairAccumulator(), CrossMoments(), CKAAccumulator()
    parts = {
        "geometry": lambda x, y, ids: geometry.update(PairRows.of(x, y), ids),
        "second moments of x with y": lambda x, y, ids: moments.update(x, y),
        "CKA with interval": cka.update,
    }
    seconds = dict.fromkeys(parts, 0.0)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("rows", total=rows)
        for start in range(0, rows, step):
            given = block(min(step, rows - start), d, start)
            for name, update in parts.items():
                before = time.perf_counter()
                update(*given)
                seconds[name] += time.perf_counter() - before
            progress.advance(task, len(given[0]))
    held = {
        "geometry": geometry.to_arrays(),
        "second moments of x with y": moments.to_arrays(),
        "CKA with interval": cka.to_arrays(),
    }
    start = time.perf_counter()
    found = {
        "geometry": geometry.mean("cosine_distance"),
        "CKA with interval": cka.estimate(),
    }
    finish = time.perf_counter() - start
    table = [
        {
            "what": name,
            "rows": rows,
            "d": d,
            "seconds": round(seconds[name], 2),
            "rows_per_second": round(rows / seconds[name]),
            "held_MB": round(sum(array.nbytes for array in held[name].values()) / 1e6, 2),
            "found": str(found[name]) if name in found else "",
        }
        for name in parts
    ]
    total = {
        "what": "geometry and CKA together, to the estimates",
        "seconds": round(seconds["geometry"] + seconds["CKA with interval"] + finish, 2),
    }
    return [*table, {**dict.fromkeys(table[0], ""), "rows": rows, "d": d, **total}]


def main(given: list[str] | None = None) -> None:
    """Measure, print, and keep the result in `docs/results`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description="Streaming profile of one pair of states: time and memory.",
        epilog="example: python -m benchmarks.profile --rows 100000",
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--block", type=int, default=8192, help="rows at a time (default 8192)")
    parser.add_argument("--out", type=Path, help=f"folder for the result (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(given)
    rows = measure(arguments.rows, arguments.width, arguments.block)
    facts = {
        "target": "60 s together",
        "peak_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }
    folder = arguments.out or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    body = {"title": TITLE, "machine": machine(), **facts, "rows": rows}
    (folder / "profile.json").write_text(json.dumps(body, indent=1) + "\n")
    (folder / "profile.md").write_text(markdown(body))
    report(TITLE, rows, as_json=arguments.json, **facts)


def markdown(body: dict[str, Any]) -> str:
    """The table for `docs/`."""
    first = body["rows"][0]
    lines = [
        "# One pass over the states of a layer",
        "",
        f"`python -m benchmarks.profile --json`: {first['rows']:,} rows of {first['d']} columns "
        f"before and after a layer, float32, {body['machine']['threads']} thread(s) of "
        f"{body['machine']['cores']} cores; making the rows is not in the seconds. Target "
        f"{body['target']}; peak memory of the process {body['peak_MB']} MB.",
        "",
        "| what | seconds | rows / s | memory held, MB | found |",
        "|---|---|---|---|---|",
    ]
    keys = ("what", "seconds", "rows_per_second", "held_MB", "found")
    lines += [f"| {' | '.join(str(row[key]) for key in keys)} |" for row in body["rows"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
