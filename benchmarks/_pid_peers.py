"""One job of the PID benchmark in a process of its own: `python -m benchmarks._pid_peers`.

Reads {"peer": name, "p": [[...]]} from standard input, one p[x1][x2][y] or a list of them, and
prints {"seconds" (wall clock), "cpu_seconds", "atoms" (bits)}; start-up and imports are not in
the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from estimators.decomposition.broja import solve_broja
from estimators.decomposition.dit_measures import dit_distribution

ABSENT = "absent"


def ours(batch: np.ndarray) -> list[list[float]]:
    """The solver of `pid_from_pmf`; several distributions are solved together."""
    return (solve_broja(batch).atoms / np.log(2.0)).tolist()


def clarabel(batch: np.ndarray) -> list[list[float]]:
    """The exponential-cone programme of Makkeh, Theis & Vicente 2018, by Clarabel."""
    return [_by_cones(p) for p in batch]


def _by_cones(p: np.ndarray) -> list[float]:
    import clarabel as solver
    from scipy import sparse

    x, y, s = np.nonzero((p.sum(1)[:, None] > 0) & (p.sum(0)[None] > 0))
    n, pairs = x.size, x * p.shape[1] + y
    # Variables (r, q); cones (-r, q, q_xy) in the exponential cone.
    rows, columns, values = [], [], []
    for kind, (index, shape) in enumerate(
        ((x * p.shape[2] + s, p.sum(1)), (y * p.shape[2] + s, p.sum(0)))
    ):
        found, codes = np.unique(index, return_inverse=True)
        rows.append(codes + (0 if kind == 0 else rows[0].max() + 1))
        columns.append(n + np.arange(n))
        values.append(shape.ravel()[found])
    sides = np.concatenate(values)
    equal = sparse.csc_matrix(
        (np.ones(2 * n), (np.concatenate(rows), np.concatenate(columns))), (sides.size, 2 * n)
    )
    member = sparse.csr_matrix((np.ones(n), (pairs, np.arange(n))))
    same = member.T @ member
    i, j = same.nonzero()
    each = np.arange(n)
    cones = sparse.csc_matrix(
        (
            np.concatenate([np.ones(n), -np.ones(n + i.size)]),
            (
                np.concatenate([3 * each, 3 * each + 1, 3 * i + 2]),
                np.concatenate([each, n + each, n + j]),
            ),
        ),
        (3 * n, 2 * n),
    )
    settings = solver.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, 1e-10)
    found = solver.DefaultSolver(
        sparse.csc_matrix((2 * n, 2 * n)),
        np.concatenate([np.ones(n), np.zeros(n)]),
        sparse.vstack([equal, cones]).tocsc(),
        np.concatenate([sides, np.zeros(3 * n)]),
        [solver.ZeroConeT(sides.size), *([solver.ExponentialConeT()] * n)],
        settings,
    ).solve()
    return _atoms(p, float(found.obj_val))


def _atoms(p: np.ndarray, minimum: float) -> list[float]:
    """Atoms in bits from the minimum of -H(Y | X1, X2) in nats."""

    def h(m: np.ndarray) -> float:
        return float(-(m[m > 0] * np.log(m[m > 0])).sum())

    target = h(p.sum((0, 1)))
    union = target + minimum
    one = h(p.sum((1, 2))) + target - h(p.sum(1))
    two = h(p.sum((0, 2))) + target - h(p.sum(0))
    total = h(p.sum(2)) + target - h(p)
    atoms = np.array([one + two - union, union - two, union - one, total - union])
    return (atoms / np.log(2.0)).tolist()


def _dit(method: str) -> Callable[[np.ndarray], list[list[float]]]:
    def solve(batch: np.ndarray) -> list[list[float]]:
        import dit

        found = []
        for p in batch:
            pid = dit.pid.PID_BROJA(dit_distribution(p), method=method)
            keys = (((0,), (1,)), ((0,),), ((1,),), ((0, 1),))
            found.append([float(pid.get_pi(key)) for key in keys])
        return found

    return solve


PEERS: dict[str, tuple[tuple[str, ...], Callable[[np.ndarray], list[list[float]]]]] = {
    "ours": ((), ours),
    "Clarabel": (("clarabel",), clarabel),
    "dit cone": (("dit", "ecos"), _dit("cone")),
    "dit auto": (("dit",), _dit("auto")),
}


def main() -> None:
    """Do the job on standard input."""
    job: dict[str, Any] = json.load(sys.stdin)
    modules, solve = PEERS[job["peer"]]
    for module in modules:
        try:
            __import__(module)
        except ImportError:
            json.dump({"word": ABSENT}, sys.stdout)
            return
    # One small distribution first: what is loaded late is start-up too.
    small = np.full((2, 2, 2, 2), 0.125)
    solve(small if np.ndim(job["p"]) == 4 and len(job["p"]) > 1 else small[:1])
    batch = np.asarray(job["p"], dtype=np.float64)
    start, start_cpu = time.perf_counter(), time.process_time()
    atoms = solve(batch)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    json.dump({"seconds": seconds, "cpu_seconds": cpu_seconds, "atoms": atoms}, sys.stdout)


if __name__ == "__main__":
    main()
