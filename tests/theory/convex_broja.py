"""BROJA's union information by a small interior-point solve, independent of the package.

min I_Q(Y; X1, X2) over Q with the pair marginals (X1, Y) and (X2, Y) of p. The feasible set is
one point plus combinations of 2 x 2 swaps within one y; a log barrier keeps the cells positive.
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy


def information_of(q: np.ndarray) -> float:
    pair, target = q.sum(axis=2), q.sum(axis=(0, 1))
    return float(xlogy(q, q).sum() - xlogy(pair, pair).sum() - xlogy(target, target).sum())


def union_information(p: np.ndarray) -> float:
    """Accurate to about 1e-10 for small alphabets; every Q it visits is feasible."""
    target = p.sum(axis=(0, 1))
    start = np.einsum("ay,by->aby", p.sum(axis=1), p.sum(axis=0))
    start = start / np.where(target > 0, target, 1.0)  # independent given y: inside
    directions = swaps(p)
    if not directions.size:
        return information_of(start)
    free = start > 0
    q, mu = start.copy(), 1e-2
    while mu > 1e-13:
        for _ in range(60):
            pair = np.broadcast_to(q.sum(axis=2, keepdims=True), q.shape)
            gradient = np.zeros_like(q)
            gradient[free] = np.log(q[free] / pair[free]) - mu / q[free]
            weights = np.zeros_like(q)
            weights[free] = 1.0 / q[free] + mu / q[free] ** 2
            sums = directions.sum(axis=3)  # (free, a, b)
            inverse = np.where(q.sum(axis=2) > 0, 1.0 / np.maximum(q.sum(axis=2), 1e-300), 0.0)
            hessian = np.einsum("iaby,aby,jaby->ij", directions, weights, directions)
            hessian -= np.einsum("iab,ab,jab->ij", sums, inverse, sums)
            slope = np.einsum("iaby,aby->i", directions, gradient)
            scale = 1.0 / np.sqrt(np.diag(hessian))
            scaled = hessian * scale[:, None] * scale
            step = -scale * np.linalg.lstsq(scaled, scale * slope, rcond=1e-15)[0]
            move = np.einsum("i,iaby->aby", step, directions)
            shrinking = free & (move < 0)
            longest = float((q[shrinking] / -move[shrinking]).min()) if shrinking.any() else np.inf
            size = min(1.0, 0.95 * longest)
            q = np.where(free, q + size * move, 0.0)
            if -slope @ step < 1e-16 * max(1.0, mu):
                break
        mu *= 0.2
    return information_of(q)


def swaps(p: np.ndarray) -> np.ndarray:
    """All independent 2 x 2 swaps within the support of the marginals, shape (free, a, b, y)."""
    found = []
    for y in range(p.shape[2]):
        first = np.flatnonzero(p[:, :, y].sum(axis=1) > 0)
        second = np.flatnonzero(p[:, :, y].sum(axis=0) > 0)
        for i in first[1:]:
            for j in second[1:]:
                swap = np.zeros_like(p)
                swap[first[0], second[0], y] = swap[i, j, y] = 1.0
                swap[first[0], j, y] = swap[i, second[0], y] = -1.0
                found.append(swap)
    return np.array(found)
