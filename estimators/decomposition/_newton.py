"""The Newton system of the BROJA dual, factored once for several right-hand sides.

Variables are u = (L, M), of shapes (b, x, s) and (b, y, s), a multiplier w and a slack z for
each pair (x, y). With a_sxy = exp(L_sx + M_sy) and q = w a the system is

    K du + A' dw     = b_u     K: Hessian of the Lagrangian, A: gradient of sum_s a_sxy
    A du      + dz   = b_g
    z dw   + w dz    = b_c

K is block diagonal. The block of a symbol s, [diag(q_sx.), q_s; q_s', diag(q_s.y)], is singular
along the gauge (L_s + c, M_s - c). Eliminating u and z leaves one matrix of size |X||Y|,
T = A K^+ A' + diag(z / w), built by matrix products in |S| (|X||Y|)^2 operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from estimators.decomposition._backend import Array, Backend

#: Relative shift of the blocks of K that keeps nearly disconnected blocks invertible;
#: refinement against the unshifted system removes its error.
BLOCK_SHIFT = 1e-8
REFINEMENTS = 3


class Direction(NamedTuple):
    """A right-hand side (b_u in two parts, b_g, b_c) or a step (dL, dM, dw, dz)."""

    first: Array
    second: Array
    pair_1: Array
    pair_2: Array

    def __add__(self, other: Direction) -> Direction:  # type: ignore[override]
        return Direction(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: Direction) -> Direction:
        """Elementwise difference."""
        return Direction(*(a - b for a, b in zip(self, other, strict=True)))


class NewtonSystem:
    """The factored Newton system at a point; `solve` takes any right-hand side.

    Args:
        ops: numpy or torch.
        a: exp(L + M), zero outside the support, shape (b, x, y, s).
        w: multipliers, shape (b, x, y), zero where `pair` is false.
        z: slacks, shape (b, x, y).
        first: mask of p(x, s) > 0, shape (b, x, s).
        second: mask of p(y, s) > 0, shape (b, y, s).
        pair: mask of the pairs (x, y) with a common symbol s, shape (b, x, y).
    """

    def __init__(
        self, ops: Backend, a: Array, w: Array, z: Array, first: Array, second: Array, pair: Array
    ) -> None:
        self._ops, self._a, self._w, self._z, self._pair = ops, a, w, z, pair
        self._q = w[..., None] * a
        self._safe_w = ops.xp.where(pair, w, 1.0)
        self._blocks = self._pseudo_inverse(first, second)
        self._solve_pairs = self._factor()

    def gradient(self, du: tuple[Array, Array]) -> Array:
        """The product A du."""
        return ((du[0][:, :, None] + du[1][:, None]) * self._a).sum(3)

    def adjoint(self, dw: Array) -> tuple[Array, Array]:
        """The product A' dw."""
        flow = dw[..., None] * self._a
        return flow.sum(2), flow.sum(1)

    def apply(self, step: Direction) -> Direction:
        """The left-hand side of the system for a step."""
        flow = (step.first[:, :, None] + step.second[:, None]) * self._q
        t1, t2 = self.adjoint(step.pair_1)
        return Direction(
            flow.sum(2) + t1,
            flow.sum(1) + t2,
            self.gradient((step.first, step.second)) + step.pair_2,
            self._z * step.pair_1 + self._w * step.pair_2,
        )

    def solve(self, rhs: Direction) -> Direction:
        """The step for a right-hand side, refined against the exact system."""
        step = self._solve_once(rhs)
        for _ in range(REFINEMENTS):
            step = step + self._solve_once(rhs.minus(self.apply(step)))
        return step

    def _pseudo_inverse(self, first: Array, second: Array) -> Array:
        """K^+ block by block, shape (b, s, x + y, x + y), rows of absent symbols zero."""
        ops, xp = self._ops, self._ops.xp
        n_x, n_y = first.shape[1], second.shape[1]
        present = xp.swapaxes(xp.concatenate([first, second], 1), 1, 2)  # b, s, x + y
        mass = xp.swapaxes(xp.concatenate([self._q.sum(2), self._q.sum(1)], 1), 1, 2)
        mass = xp.where(present, mass, 1.0)
        scale = xp.where(present, mass**-0.5, 0.0)
        inner = ops.permute(self._q, (0, 3, 1, 2))  # b, s, x, y
        inner = inner * scale[:, :, :n_x, None] * scale[:, :, None, n_x:]
        identity = ops.array((1.0 + BLOCK_SHIFT) * np.eye(n_x + n_y))
        gauge = xp.where(present, mass**0.5, 0.0)
        gauge[:, :, n_x:] *= -1.0
        norm = ((gauge**2).sum(2) + 1e-300) ** 0.5
        gauge = gauge / norm[..., None]
        outer = gauge[..., None] * gauge[..., None, :]
        # The gauge is an eigenvector of every block: add it, and subtract it from the inverse.
        blocks = identity + outer
        blocks[:, :, :n_x, n_x:] += inner
        blocks[:, :, n_x:, :n_x] += xp.swapaxes(inner, 2, 3)
        inverse = xp.linalg.inv(blocks) - outer / (1.0 + BLOCK_SHIFT)
        return inverse * scale[..., None] * scale[..., None, :]

    def _factor(self) -> Callable[[Array], Array]:
        """Solver of systems with T, for right-hand sides (b, x, y)."""
        ops, xp, a = self._ops, self._ops.xp, self._a
        b, n_x, n_y, _ = a.shape
        by_pair = ops.permute(self._blocks, (0, 2, 3, 1))  # b, x + y, x + y, s
        swapped = xp.swapaxes(a, 1, 2)  # b, y, x, s
        # Each product is over s, batched over the two symbols that the block joins.
        same_x = by_pair[:, :n_x, :n_x, None] * a[:, :, None]  # b, x, x', y, s
        t = ops.permute(same_x @ xp.swapaxes(a, 2, 3)[:, None], (0, 1, 3, 2, 4))
        same_y = by_pair[:, n_x:, n_x:, None] * swapped[:, :, None]  # b, y, y', x, s
        t = t + ops.permute(same_y @ xp.swapaxes(swapped, 2, 3)[:, None], (0, 3, 1, 4, 2))
        crossed = by_pair[:, :n_x, n_x:, None] * a[:, :, None]  # b, x, y', y, s
        c = ops.permute(crossed @ xp.swapaxes(swapped, 2, 3)[:, None], (0, 1, 3, 4, 2))
        size = n_x * n_y
        c = c.reshape(b, size, size)
        t = t.reshape(b, size, size) + c + xp.swapaxes(c, 1, 2)
        ratio = xp.where(self._pair, self._z, 1.0) / self._safe_w
        diagonal = list(range(size))
        t[:, diagonal, diagonal] += ratio.reshape(b, size)
        scale = t[:, diagonal, diagonal] ** -0.5
        solve = ops.cholesky(t * scale[:, :, None] * scale[:, None])

        def solve_pairs(rhs: Array) -> Array:
            solved = scale * solve(scale * rhs.reshape(b, size))
            return solved.reshape(b, n_x, n_y) * self._pair

        return solve_pairs

    def _solve_blocks(self, first: Array, second: Array) -> tuple[Array, Array]:
        xp, n_x = self._ops.xp, first.shape[1]
        stacked = xp.swapaxes(xp.concatenate([first, second], 1), 1, 2)[..., None]  # b, s, x+y, 1
        solved = xp.swapaxes((self._blocks @ stacked)[..., 0], 1, 2)
        return solved[:, :n_x], solved[:, n_x:]

    def _solve_once(self, rhs: Direction) -> Direction:
        free = self._solve_blocks(rhs.first, rhs.second)
        dw = self._solve_pairs(self.gradient(free) + rhs.pair_2 / self._safe_w - rhs.pair_1)
        t1, t2 = self.adjoint(dw)
        first, second = self._solve_blocks(rhs.first - t1, rhs.second - t2)
        dz = (rhs.pair_2 - self._z * dw) / self._safe_w * self._pair
        return Direction(first, second, dw, dz)
