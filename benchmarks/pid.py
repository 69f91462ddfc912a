"""BROJA: exactness on gates and random distributions, time against dit and Clarabel."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _help
from benchmarks._pid_peers import PEERS
from estimators.decomposition.broja import solve_broja

ROOT = Path(__file__).resolve().parent.parent
GATES = ROOT / "tests" / "estimators" / "data" / "pid_gates.json"
LIMIT = 120.0  # seconds for one job of one peer, its start-up not counted
START_UP = 60.0
SEED = 0

#: One core for everybody.
ENVIRONMENT = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def draw(k: int, count: int) -> np.ndarray:
    """`count` distributions p[k, k, k] from a flat Dirichlet."""
    return np.random.default_rng([SEED, k]).dirichlet(np.ones(k**3), count).reshape(-1, k, k, k)


def job(peer: str, p: np.ndarray, limit: float) -> dict[str, Any]:
    """Seconds and atoms of a peer on p[b, x1, x2, y], or a word why there are none."""
    with tempfile.TemporaryFile("w+") as given:
        json.dump({"peer": peer, "p": p.tolist()}, given)
        given.seek(0)
        try:
            run = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "benchmarks._pid_peers"],
                stdin=given,
                capture_output=True,
                text=True,
                cwd=ROOT,
                env=os.environ | ENVIRONMENT,
                timeout=limit + START_UP,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"word": f"> {limit:g} s"}
    if run.returncode:
        return {"word": f"failed: {run.stderr.strip().splitlines()[-1][:80]}"}
    found: dict[str, Any] = json.loads(run.stdout)
    return {"word": f"> {limit:g} s"} if found.get("seconds", 0.0) > limit else found


def gates() -> dict[str, Any]:
    """Largest distance from the known atoms (given to six digits), in bits."""
    known = json.loads(GATES.read_text(encoding="utf-8"))["gates"]
    errors, gaps = {}, {}
    for name, gate in known.items():
        solution = solve_broja(np.asarray(gate["p"]))
        atoms = solution.atoms[0] / np.log(2.0)
        errors[name] = float(np.abs(atoms - gate["atoms"]["broja"]).max())
        gaps[name] = float(solution.gap[0] / np.log(2.0))
    return {
        "gates": len(errors),
        "worst_gate": max(errors, key=errors.__getitem__),
        "max_error_bits": max(errors.values()),
        "max_gap_bits": max(gaps.values()),
    }


def exactness(count: int, limit: float) -> dict[str, Any]:
    """Random distributions of k = 2..5, against Clarabel; every gap is certified."""
    parts, gaps, iterations, converged = {}, 0.0, 0, 0
    for k in (2, 3, 4, 5):
        p = draw(k, max(1, count // 4))
        solution = solve_broja(p)
        gaps = max(gaps, float(solution.gap.max() / np.log(2.0)))
        iterations = max(iterations, int(solution.iterations.max()))
        converged += int(solution.converged.sum())
        other = job("Clarabel", p, limit)
        if "atoms" in other:
            ours = solution.atoms / np.log(2.0)
            parts[f"k={k}"] = float(np.abs(ours - np.asarray(other["atoms"])).max())
        else:
            parts[f"k={k}"] = other["word"]
    return {
        "distributions": 4 * max(1, count // 4),
        "converged": converged,
        "max_gap_bits": gaps,
        "max_iterations": iterations,
        "max_difference_to_clarabel_bits": parts,
    }


def times(sizes: list[int], limit: float) -> dict[str, dict[str, Any]]:
    """Seconds of each peer on one random k x k x k; past a limit a peer gets no larger k."""
    rows: dict[str, dict[str, Any]] = {peer: {} for peer in PEERS}
    given_up: dict[str, str] = {}
    for k in sizes:
        p = draw(k, 1)
        for peer in PEERS:
            found = {"word": given_up[peer]} if peer in given_up else job(peer, p, limit)
            if "word" in found:
                given_up[peer] = found["word"]
            rows[peer][f"k={k}"] = _timing(found)
    return rows


def batch(k: int, count: int, limit: float) -> dict[str, Any]:
    """Seconds of each peer for many distributions of one size."""
    p = draw(k, count)
    found = {peer: job(peer, p, limit) for peer in PEERS}
    return {peer: _timing(each) for peer, each in found.items()}


def _timing(found: dict[str, Any]) -> dict[str, float] | str:
    """Wall-clock and CPU seconds, which differ on a busy machine, or the word."""
    if "word" in found:
        return str(found["word"])
    return {"wall": found["seconds"], "cpu": found["cpu_seconds"]}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON object."""
    return {
        "benchmark": "pid",
        "seed": SEED,
        "gates": gates(),
        "exactness": exactness(options.random, options.limit),
        "seconds": times(options.sizes, options.limit),
        "batch": {
            f"{options.batch_size} of k=4": batch(4, options.batch_size, options.limit),
            f"{max(1, options.batch_size // 10)} of k=8": batch(
                8, max(1, options.batch_size // 10), options.limit
            ),
        },
    }


def show(result: dict[str, Any]) -> None:
    """The result as text."""
    for part in ("gates", "exactness"):
        print(part)
        for name, value in result[part].items():
            print(f"  {name}: {_short(value)}")
    for part in ("seconds", "batch"):
        print(part if part == "seconds" else "batch, seconds")
        for name, row in result[part].items():
            print(f"  {name:<16}" + "".join(f"{key} {_short(v)}   " for key, v in row.items()))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = _help.parser("pid", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--random", type=int, default=1000, help="random distributions, k = 2..5")
    parser.add_argument(
        "--batch-size", type=int, default=1000, help="distributions of the k = 4 batch"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one job of a peer")
    options = parser.parse_args(arguments)
    result = measure(options)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
