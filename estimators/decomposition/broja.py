"""Solver of the BROJA union information, with certified bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from estimators.decomposition._backend import Array, Backend, numpy_backend, torch_backend
from estimators.decomposition._certificate import (
    dual_value,
    feasible_dual,
    feasible_primal,
    primal_value,
)
from estimators.decomposition._newton import Direction, NewtonSystem
from estimators.decomposition._table_size import check_solver
from estimators.extras import installed

Floats = NDArray[np.float64]

#: Gap in nats at which a problem is solved.
TOLERANCE = 1e-11

_START_SLACK = 0.1
_TO_BOUNDARY = 0.995  # largest step, as a share of the distance to the boundary w = 0 or z = 0
_LARGEST_STEP = 1.0  # largest change of L + M in a step, for which exp is nearly linear
_CHUNK_BYTES = 2**26  # size of the largest arrays of a batch


@dataclass(frozen=True)
class BrojaSolution:
    """Solutions for b distributions p(x1, x2, y), all in nats.

    Attributes:
        q: the optimal joints, with the pairwise marginals (X1, Y) and (X2, Y) of p,
            shape (b, x1, x2, y).
        dual_1: L, shape (b, x1, y); -inf where p(x1, y) = 0. Only L + M is determined.
        dual_2: M, shape (b, x2, y); -inf where p(x2, y) = 0.
        lower: certified lower bound of the union information, shape (b,).
        upper: certified upper bound of the union information, shape (b,).
        information_1: I(X1; Y), shape (b,).
        information_2: I(X2; Y), shape (b,).
        total: I(X1, X2; Y), shape (b,).
        iterations: Newton steps, shape (b,).
        converged: whether the primal-dual gap reached the tolerance, shape (b,).
    """

    q: Floats
    dual_1: Floats
    dual_2: Floats
    lower: Floats
    upper: Floats
    information_1: Floats
    information_2: Floats
    total: Floats
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]

    @property
    def gap(self) -> Floats:
        """Upper - lower, shape (b,): the largest possible error of an atom."""
        return self.upper - self.lower

    @property
    def union(self) -> Floats:
        """Midpoint of lower and upper, shape (b,)."""
        return self.lower + 0.5 * self.gap

    @property
    def atoms(self) -> Floats:
        """Redundant, unique_1, unique_2, synergistic; shape (b, 4)."""
        i1, i2, union = self.information_1, self.information_2, self.union
        atoms = np.stack([i1 + i2 - union, union - i2, union - i1, self.total - union], 1)
        # The bounds exclude negative atoms; this removes rounding errors only.
        return np.maximum(atoms, 0.0)


class _State(NamedTuple):
    """Iterates of a batch: L, M, w, z as in `_newton`."""

    dual_1: Array
    dual_2: Array
    w: Array
    z: Array


def solve_broja(
    p: Floats,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = 100,
    device: str | None = None,
) -> BrojaSolution:
    """Minimise I_Q(X1, X2; Y) over the joints Q with the marginals (X1, Y), (X2, Y) of p.

    With s a symbol of Y, the problem and its dual are

        min  sum q_sxy log(q_sxy / q_xy)      q_sx = p_sx, q_sy = p_sy
        max  sum p_sx L_sx + sum p_sy M_sy    sum_s exp(L_sx + M_sy) <= 1 for each (x, y)

    and I_union = H(Y) + the optimal value. A primal-dual predictor-corrector method solves the
    optimality conditions; `_newton` has the linear algebra. At each step the primal point is
    projected onto the marginals and the dual point into its domain, so both values are
    certified bounds.

    Args:
        p: distributions, shape (b, x1, x2, y) or (x1, x2, y). Not checked here: see
            `pid_from_pmf`.
        tolerance: gap in nats at which a problem is solved.
        max_iterations: largest number of Newton steps.
        device: torch device, for example "cuda". None: numpy for a single distribution or without
            torch, otherwise torch on the CPU.

    Raises:
        ValueError: so many symbols that an array of the solver would exceed 256 MiB.

    Source:
        Bertschinger, Rauh, Olbrich, Jost & Ay 2014, arXiv 1311.2852, equation 12; Mehrotra 1992
        (the predictor-corrector).

    Example:
        >>> gate = np.zeros((2, 2, 2))
        >>> gate[0, 0, 0] = gate[0, 1, 0] = gate[1, 0, 0] = gate[1, 1, 1] = 0.25  # AND
        >>> solution = solve_broja(gate)
        >>> (solution.atoms[0] / np.log(2)).round(4).tolist(), bool(solution.gap[0] < 1e-11)
        ([0.3113, 0.0, 0.0, 0.5], True)
    """
    batch = p[None] if p.ndim == 3 else p
    alone = device is None and (len(batch) == 1 or not installed("torch"))
    ops = numpy_backend() if alone else torch_backend(device or "cpu")
    n_x, n_y, n_s = batch.shape[1:]
    check_solver(n_x, n_y, n_s)
    each = 8 * max((n_x * n_y) ** 2, n_s * max(n_x, n_y) ** 2 * max(n_x, n_y), 1)
    chunk = max(1, _CHUNK_BYTES // each)
    parts = [
        _solve_chunk(ops, batch[start : start + chunk], tolerance, max_iterations)
        for start in range(0, len(batch), chunk)
    ]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[BrojaSolution]) -> BrojaSolution:
    names = BrojaSolution.__dataclass_fields__
    return BrojaSolution(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def _solve_chunk(ops: Backend, p: Floats, tolerance: float, max_iterations: int) -> BrojaSolution:
    n = len(p)
    c1, c2 = p.sum(2), p.sum(1)
    h_s, h_x, h_y = (entr(m).sum(1) for m in (c1.sum(1), c1.sum(2), c2.sum(2)))
    h_1, h_2 = entr(c1).sum((1, 2)), entr(c2).sum((1, 2))
    information_1 = np.maximum(h_x + h_s - h_1, 0.0)
    information_2 = np.maximum(h_y + h_s - h_2, 0.0)
    joint = entr(p.sum(3)).sum((1, 2))
    total = np.maximum(joint + h_s - entr(p).sum((1, 2, 3)), 0.0)
    total = np.maximum(total, np.maximum(information_1, information_2))

    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    iterations, converged = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    q_best = np.zeros_like(p)
    duals = [np.zeros_like(c1), np.zeros_like(c2)]

    active = np.arange(n)
    m1, m2 = ops.array(c1), ops.array(c2)
    state = _start(ops, m1, m2)
    for step in range(max_iterations + 1):
        a, g = _exponentials(ops, m1, m2, state)
        dual_1 = feasible_dual(ops, state.dual_1, g)
        q = feasible_primal(ops, m1, m2, state.w[..., None] * a)
        below = ops.numpy(dual_value(ops, m1, m2, dual_1, state.dual_2))
        above = ops.numpy(primal_value(ops, q))
        # A failed step gives NaN, which never counts as an improvement.
        better = below > low[active]
        low[active[better]] = below[better]
        duals[0][active[better]] = ops.numpy(dual_1)[better]
        duals[1][active[better]] = ops.numpy(state.dual_2)[better]
        better = above < high[active]
        high[active[better]] = above[better]
        q_best[active[better]] = ops.numpy(q)[better]
        iterations[active] = step
        converged[active] = high[active] - low[active] <= tolerance
        going = ~converged[active] & np.isfinite(below)
        if not going.any() or step == max_iterations:
            break
        if not going.all():
            keep = np.flatnonzero(going)
            active = active[keep]
            m1, m2, a, g = m1[keep], m2[keep], a[keep], g[keep]
            state = _State(*(part[keep] for part in state))
        state = _advance(ops, m1, m2, state, a, g)

    # Tighten by bounds known without the solver: the union is at least each information, and at
    # most their sum and the total (p itself is a feasible joint).
    floor = np.maximum(information_1, information_2)
    ceiling = np.minimum(information_1 + information_2, total)
    lower = np.minimum(np.maximum(h_s + low, floor), ceiling)
    upper = np.maximum(np.minimum(h_s + high, ceiling), lower)
    duals = [np.where(c > 0.0, dual, -np.inf) for c, dual in zip((c1, c2), duals, strict=True)]
    return BrojaSolution(
        q_best,
        duals[0],
        duals[1],
        lower,
        upper,
        information_1,
        information_2,
        total,
        iterations,
        converged,
    )


def _support(c1: Array, c2: Array) -> tuple[Array, Array]:
    """Mask of the cells where a_sxy may be positive, (b, x, y, s), and of the pairs (x, y)."""
    cells = (c1 > 0.0)[:, :, None] & (c2 > 0.0)[:, None]
    return cells, cells.any(3)


def _exponentials(ops: Backend, c1: Array, c2: Array, state: _State) -> tuple[Array, Array]:
    """A = exp(L + M) on the support and g = sum_s a."""
    cells, _ = _support(c1, c2)
    a = ops.xp.where(cells, ops.xp.exp(state.dual_1[:, :, None] + state.dual_2[:, None]), 0.0)
    return a, a.sum(3)


def _start(ops: Backend, c1: Array, c2: Array) -> _State:
    """X1 and X2 independent given Y, the dual scaled into its domain."""
    xp = ops.xp
    px, py, ps = c1.sum(2), c2.sum(2), c1.sum(1)

    def log(x: Array) -> Array:
        return xp.log(xp.where(x > 0.0, x, 1.0))

    dual_1 = xp.where(c1 > 0.0, log(c1) - log(px)[..., None], 0.0)
    dual_2 = xp.where(c2 > 0.0, log(c2) - log(py)[..., None] - log(ps)[:, None], 0.0)
    _, pairs = _support(c1, c2)
    state = _State(dual_1, dual_2, pairs, pairs)
    _, g = _exponentials(ops, c1, c2, state)
    dual_1 = xp.where(c1 > 0.0, dual_1 - log(xp.amax(g, 2))[..., None], 0.0)
    _, g = _exponentials(ops, c1, c2, state._replace(dual_1=dual_1))
    count = pairs.sum((1, 2))[:, None, None]
    product, even = px[:, :, None] * py[:, None], _START_SLACK / count
    w = xp.where(pairs, xp.where(product > even, product, even), 0.0)
    z = xp.where(1.0 - g > _START_SLACK, 1.0 - g, _START_SLACK)
    return _State(dual_1, dual_2, w, z)


def _advance(ops: Backend, c1: Array, c2: Array, state: _State, a: Array, g: Array) -> _State:
    """A predictor-corrector step; the linear system is factored once."""
    xp = ops.xp
    cells, pairs = _support(c1, c2)
    w, z = state.w, state.z
    count = pairs.sum((1, 2))
    q = w[..., None] * a
    system = NewtonSystem(ops, a, w, z, c1 > 0.0, c2 > 0.0, pairs)
    r1, r2 = c1 - q.sum(2), c2 - q.sum(1)
    rg = xp.where(pairs, 1.0 - g - z, 0.0)
    mu = (w * z).sum((1, 2)) / count

    def longest(step: Direction) -> Array:
        """Share of the step that keeps w and z positive and exp nearly linear."""
        worst_w = xp.amax(xp.where(pairs, -step.pair_1 / xp.where(pairs, w, 1.0), 0.0), (1, 2))
        worst_z = xp.amax(xp.where(pairs, -step.pair_2 / z, 0.0), (1, 2))
        change = abs(step.first[:, :, None] + step.second[:, None])
        worst_u = xp.amax(xp.where(cells, change, 0.0), (1, 2, 3)) / _LARGEST_STEP
        worst = xp.where(worst_w > worst_z, worst_w, worst_z) / _TO_BOUNDARY
        worst = xp.where(worst_u > worst, worst_u, worst)
        return 1.0 / xp.where(worst > 1.0, worst, 1.0)

    affine = system.solve(Direction(r1, r2, rg, -w * z))
    share = longest(affine)[:, None, None]
    left = (w + share * affine.pair_1) * (z + share * affine.pair_2)
    centring = (xp.where(pairs, left, 0.0).sum((1, 2)) / count / mu) ** 3
    centring = xp.where(centring < 1.0, centring, 1.0)
    target = (centring * mu)[:, None, None] - w * z - share**2 * affine.pair_1 * affine.pair_2
    step = system.solve(Direction(r1, r2, rg, xp.where(pairs, target, 0.0)))
    share = longest(step)[:, None, None]
    return _State(
        state.dual_1 + share * step.first,
        state.dual_2 + share * step.second,
        w + share * step.pair_1,
        z + share * step.pair_2,
    )
