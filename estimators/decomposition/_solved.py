"""Decompositions of a batch of tables, in nats, with the influence of every cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.decomposition.broja import solve_broja
from estimators.decomposition.pmf import pid_from_pmf_batch

Floats = NDArray[np.float64]

# Tolerated BROJA gap in nats, times N: bias and permutation values are of order 1/N.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Solved:
    """Decompositions of a batch in nats; influence and certificate belong to the first table."""

    atoms: Floats  # (b, 4)
    influence: Floats | None  # (4, cells), BROJA only
    certificate: dict[str, float | int | bool]

    @classmethod
    def of(cls, p: Floats, measure: str, tolerance: float | None = None) -> Solved:
        if measure != "broja":
            results = pid_from_pmf_batch(p, measure=measure)
            return cls(np.array([list(result.atoms.values()) for result in results]), None, {})
        solution = solve_broja(p) if tolerance is None else solve_broja(p, tolerance=tolerance)
        certificate = {
            "lower": float(solution.lower[0]),
            "upper": float(solution.upper[0]),
            "gap": float(solution.gap[0]),
            "iterations": int(solution.iterations[0]),
            "converged": bool(solution.converged[0]),
        }
        influence = _influence(p[0], solution.dual_1[0], solution.dual_2[0])
        return cls(solution.atoms, influence, certificate)


def _influence(p: Floats, dual_1: Floats, dual_2: Floats) -> Floats:
    """Influence of every cell on the four atoms, in nats, shape (4, cells); 0 where p is 0."""

    def log(q: Floats) -> Floats:
        result: Floats = np.log(np.where(q > 0.0, q, 1.0))
        return result

    target = log(p.sum(axis=(0, 1), keepdims=True))
    first = log(p.sum(axis=1, keepdims=True)) - log(p.sum(axis=(1, 2), keepdims=True)) - target
    second = log(p.sum(axis=0, keepdims=True)) - log(p.sum(axis=(0, 2), keepdims=True)) - target
    joint = log(p) - log(p.sum(axis=2, keepdims=True)) - target
    union = dual_1[:, None, :] + dual_2[None, :, :] - target
    atoms = (first + second - union, union - second, union - first, joint - union)
    return np.stack([np.where(p > 0.0, psi, 0.0).ravel() for psi in atoms])
