"""Certified lower and upper bounds of the BROJA minimum of sum q log(q / q_xy)."""

from __future__ import annotations

import numpy as np

from estimators.decomposition._backend import Array, Backend

#: Rounding of a sum of n terms is below this times the sum of their sizes (pairwise summation
#: and a few ulp for log and exp); it is subtracted from lower and added to upper bounds.
ROUNDING = 16.0 * float(np.finfo(np.float64).eps)


def feasible_dual(ops: Backend, dual_1: Array, g: Array) -> Array:
    """Shift L so that every sum_s exp(L_sx + M_sy) is at most one.

    Args:
        ops: numpy or torch.
        dual_1: L, shape (b, x, s).
        g: sum_s exp(L_sx + M_sy), shape (b, x, y).
    """
    worst = ops.xp.amax(g, 2)
    return dual_1 - ops.xp.log(ops.xp.where(worst > 1.0, worst, 1.0))[..., None]


def dual_value(ops: Backend, c1: Array, c2: Array, dual_1: Array, dual_2: Array) -> Array:
    """Sum p(x, s) L_sx + sum p(y, s) M_sy of a feasible dual, less rounding errors; shape (b,)."""
    terms_1, terms_2 = c1 * dual_1, c2 * dual_2
    size = abs(terms_1).sum((1, 2)) + abs(terms_2).sum((1, 2))
    return terms_1.sum((1, 2)) + terms_2.sum((1, 2)) - ROUNDING * size


def feasible_primal(ops: Backend, c1: Array, c2: Array, q: Array) -> Array:
    """Project q to a nearby joint with exactly the marginals c1 and c2.

    Rows, then columns are scaled down to at most their marginals; the missing mass is added as a
    product of the missing marginals (Altschuler, Weed & Rigollet 2017, Algorithm 2).

    Args:
        ops: numpy or torch.
        c1: p(x, s), shape (b, x, s).
        c2: p(y, s), shape (b, y, s).
        q: non-negative, shape (b, x, y, s).
    """
    xp = ops.xp

    def down(target: Array, mass: Array) -> Array:
        return xp.where(mass > target, target / xp.where(mass > 0.0, mass, 1.0), 1.0)

    q = q * down(c1, q.sum(2))[:, :, None]
    q = q * down(c2, q.sum(1))[:, None]
    missing_1, missing_2 = c1 - q.sum(2), c2 - q.sum(1)
    missing_1 = xp.where(missing_1 > 0.0, missing_1, 0.0)
    missing_2 = xp.where(missing_2 > 0.0, missing_2, 0.0)
    total = missing_1.sum(1)  # b, s
    share = missing_1 / xp.where(total > 0.0, total, 1.0)[:, None]
    return q + share[:, :, None] * missing_2[:, None]


def primal_value(ops: Backend, q: Array) -> Array:
    """-H(S | X, Y) under `q` in nats, plus its rounding error; shape (b,)."""
    xp = ops.xp
    joint = q.sum(3)
    ratio = xp.where(q > 0.0, q, 1.0) / xp.where(q > 0.0, joint[..., None], 1.0)
    terms = q * xp.log(ratio)
    return terms.sum((1, 2, 3)) + ROUNDING * (q.sum((1, 2, 3)) + abs(terms).sum((1, 2, 3)))
