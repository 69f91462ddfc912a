"""Two proofs about the minimum of sum q log(q / q_xy): a point below it and a point above it."""

from __future__ import annotations

import numpy as np

from estimators.decomposition._backend import Array, Backend

#: Rounding of a sum of n terms is below this times the sum of their sizes (pairwise summation
#: and a few ulp for log and exp); it is taken off the lower and put on the upper bound.
ROUNDING = 16.0 * float(np.finfo(np.float64).eps)


def feasible_dual(ops: Backend, dual_1: Array, g: Array) -> Array:
    """L rescaled so that every sum_s exp(L_sx + M_sy) is at most one.

    Args:
        ops: numpy or torch.
        dual_1: L, shape (b, x, s).
        g: sum_s exp(L_sx + M_sy), shape (b, x, y).
    """
    worst = ops.xp.amax(g, 2)
    return dual_1 - ops.xp.log(ops.xp.where(worst > 1.0, worst, 1.0))[..., None]


def dual_value(ops: Backend, c1: Array, c2: Array, dual_1: Array, dual_2: Array) -> Array:
    """Sum p(x, s) L_sx + sum p(y, s) M_sy less its rounding, for a feasible dual; shape (b,)."""
    terms_1, terms_2 = c1 * dual_1, c2 * dual_2
    size = abs(terms_1).sum((1, 2)) + abs(terms_2).sum((1, 2))
    return terms_1.sum((1, 2)) + terms_2.sum((1, 2)) - ROUNDING * size


def feasible_primal(ops: Backend, c1: Array, c2: Array, q: Array) -> Array:
    """A joint with exactly the marginals c1 and c2, near `q`.

    Rows, then columns are scaled down to what they may hold; what is missing is added back as
    a product of the missing marginals (Altschuler, Weed & Rigollet 2017, Algorithm 2).

    Args:
        ops: numpy or torch.
        c1: p(x, s), shape (b, x, s).
        c2: p(y, s), shape (b, y, s).
        q: non-negative, shape (b, x, y, s).
    """
    xp = ops.xp

    def down(target: Array, found: Array) -> Array:
        return xp.where(found > target, target / xp.where(found > 0.0, found, 1.0), 1.0)

    q = q * down(c1, q.sum(2))[:, :, None]
    q = q * down(c2, q.sum(1))[:, None]
    missing_1, missing_2 = c1 - q.sum(2), c2 - q.sum(1)
    missing_1 = xp.where(missing_1 > 0.0, missing_1, 0.0)
    missing_2 = xp.where(missing_2 > 0.0, missing_2, 0.0)
    total = missing_1.sum(1)  # b, s
    share = missing_1 / xp.where(total > 0.0, total, 1.0)[:, None]
    return q + share[:, :, None] * missing_2[:, None]


def primal_value(ops: Backend, q: Array) -> Array:
    """-H(S | X, Y) under `q` in nats plus its rounding; shape (b,)."""
    xp = ops.xp
    joint = q.sum(3)
    ratio = xp.where(q > 0.0, q, 1.0) / xp.where(q > 0.0, joint[..., None], 1.0)
    terms = q * xp.log(ratio)
    return terms.sum((1, 2, 3)) + ROUNDING * (q.sum((1, 2, 3)) + abs(terms).sum((1, 2, 3)))
