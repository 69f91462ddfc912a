"""PID of continuous states: Gaussian in 50 to 200 dimensions, learned in 4,096."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks import _help
from benchmarks._table import report
from estimators import pid_from_covariance
from estimators.decomposition.learned import fit_learned_pid

#: Atoms of each gate, in bits: redundant, unique 1, unique 2, synergistic.
GATES = {
    "xor": (0.0, 0.0, 0.0, 1.0),
    "and": (0.3113, 0.0, 0.0, 0.5),
    "copy": (0.0, 1.0, 0.0, 0.0),
    "same": (1.0, 0.0, 0.0, 0.0),
}


def covariance(d: int, seed: int, *, blocks: bool) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Of (X1, X2, Y), each of dimension d: one random matrix, or independent blocks of two."""
    size, count = (2, d // 2) if blocks else (d, 1)
    whole = np.zeros((3 * d, 3 * d))
    rng = np.random.default_rng([seed, d])
    for block in range(count):
        a = rng.normal(size=(3 * size, 9 * size))
        at = np.concatenate([part * d + block * size + np.arange(size) for part in range(3)])
        whole[np.ix_(at, at)] = a @ a.T / (9 * size)
    return whole, (d, d, d)


def gaussian(d: int, seed: int) -> dict[str, Any]:
    """Seconds and gap of a random covariance; additivity over blocks."""
    cov, dims = covariance(d, seed, blocks=False)
    start = time.process_time()
    found = pid_from_covariance(cov, dims)
    seconds = time.process_time() - start
    joined, dims = covariance(d, seed, blocks=True)
    whole = pid_from_covariance(joined, dims).atoms
    apart = np.zeros(4)
    for block in range(d // 2):
        at = np.concatenate([part * d + 2 * block + np.arange(2) for part in range(3)])
        apart += list(pid_from_covariance(joined[np.ix_(at, at)], (2, 2, 2)).atoms.values())
    return {
        "case": f"gaussian, d = {d}",
        "cpu_seconds": seconds,
        "error": float(np.abs(np.array(list(whole.values())) - apart).max()),
        "error_of": "blocks added up, nats",
        "gap_nats": found.gap,
        "reliable": found.converged,
    }


def learned(gate: str, d: int, n: int, seed: int) -> dict[str, Any]:
    """Error of the worst atom of a planted gate, in bits, and what it says of itself."""
    rng = np.random.default_rng([seed, d])
    b1, b2 = rng.integers(0, 2, size=(2, n))
    b2 = b1 if gate == "same" else b2
    y = {"xor": b1 ^ b2, "and": b1 & b2, "copy": b1, "same": b1}[gate]
    shown = max(1, d // 8)
    sides = []
    for bit in (b1, b2):
        x = rng.normal(size=(n, d))
        x[:, :shown] += (2 * bit - 1)[:, None] * 3.0 / shown**0.5
        sides.append(x)
    start = time.process_time()
    found = fit_learned_pid(*sides, y, unit="bits", seed=seed)
    return {
        "case": f"learned, {gate}, d = {d}",
        "cpu_seconds": time.process_time() - start,
        "error": float(np.abs(np.array(list(found.atoms.values())) - GATES[gate]).max()),
        "error_of": "worst atom, bits",
        "gap_nats": None,
        "reliable": found.reliable,
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = _help.parser("pid_states", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--dims", type=int, nargs="*", default=[50, 100, 200])
    parser.add_argument("--wide", type=int, nargs="*", default=[64, 4096])
    parser.add_argument("--rows", type=int, default=2000, help="rows of the wide states")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rows = [gaussian(d, options.seed) for d in options.dims]
    rows += [learned(gate, d, options.rows, options.seed) for d in options.wide for gate in GATES]
    report(
        "PID of continuous states",
        rows,
        as_json=options.json,
        seed=options.seed,
        n=options.rows,
    )


if __name__ == "__main__":
    main()
