"""Redundancy as common change in surprisal (CCS) under the maximum-entropy joint."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.decomposition._table_size import PROGRAMME_ENTRIES

Floats = NDArray[np.float64]

_SWEEPS = 20_000
_SWEEPS_BEFORE_SUPPORT = 300
_TOLERANCE = 1e-13
_SIGN_TOLERANCE = 1e-9  # a change in surprisal below this, in nats, has no sign


def redundancy_ccs(p: Floats) -> float:
    """I_ccs = sum q c over the cells where co-information and all informations agree in sign.

    q is the joint of largest entropy with the three pairwise marginals of p. In each cell, with
    i(.; y) the pointwise information under q,

        c(x1, x2, y) = i(x1; y) + i(x2; y) - i(x1, x2; y)

    counts where i(x1; y), i(x2; y), i(x1, x2; y) and c all have the same sign.

    Args:
        p: array p[x1, x2, y], not checked.

    Returns:
        The redundancy in nats; it may be negative.

    Raises:
        ValueError: no maximum-entropy joint to a tolerance of 1e-13.

    Source:
        Ince 2017, arXiv 1602.05063, equation 18 and section 4.2.

    Example:
        >>> gate = np.zeros((2, 2, 2))
        >>> gate[0, 0, 0] = gate[0, 1, 0] = gate[1, 0, 0] = gate[1, 1, 1] = 0.25  # AND
        >>> round(float(redundancy_ccs(gate) / np.log(2)), 4)
        0.1038
    """
    q = maximum_entropy_joint(p)
    cell = q > 0.0

    def log(values: Floats) -> Floats:
        return np.log(np.where(values > 0.0, values, 1.0))

    y = log(q.sum((0, 1)))[None, None]
    first = log(q.sum(1))[:, None] - log(q.sum((1, 2)))[:, None, None] - y
    second = log(q.sum(0))[None] - log(q.sum((0, 2)))[None, :, None] - y
    joint = log(q) - log(q.sum(2))[:, :, None] - y
    common = first + second - joint

    def sign(values: Floats) -> Floats:
        return np.where(np.abs(values) < _SIGN_TOLERANCE, 0.0, np.sign(values))

    signs = [sign(np.broadcast_to(v, q.shape)) for v in (first, second, joint, common)]
    agree = cell & (signs[0] == signs[1]) & (signs[1] == signs[2]) & (signs[2] == signs[3])
    return float((q * common)[agree].sum())


def maximum_entropy_joint(p: Floats) -> Floats:
    """The joint of largest entropy with the marginals (X1, X2), (X1, Y), (X2, Y) of p.

    Computed by iterative proportional fitting. It is slow only where the marginals jointly force
    cells to zero; a linear programme finds these cells and removes them.

    Raises:
        ValueError: no convergence to 1e-13 within 20,000 sweeps.
    """
    targets = [p.sum(axis, keepdims=True) for axis in range(3)]
    q = np.where((targets[0] > 0) & (targets[1] > 0) & (targets[2] > 0), 1.0, 0.0)
    q, residual = _fit(q / q.sum(), targets, _SWEEPS_BEFORE_SUPPORT)
    if residual > _TOLERANCE:
        q, residual = _fit(np.where(_possible(q > 0.0, targets), 1.0, 0.0), targets, _SWEEPS)
    if residual > _TOLERANCE:
        raise ValueError(
            "the maximum-entropy joint that ccs needs was not found: after "
            f"{_SWEEPS} sweeps its marginals are off by {residual:.1e}"
        )
    return q


def _fit(q: Floats, targets: list[Floats], sweeps: int) -> tuple[Floats, float]:
    residual = np.inf
    for _ in range(sweeps):
        for axis, target in enumerate(targets):
            mass = q.sum(axis, keepdims=True)
            q = q * np.where(mass > 0.0, target / np.where(mass > 0.0, mass, 1.0), 0.0)
        residual = max(
            float(np.abs(q.sum(axis, keepdims=True) - target).max())
            for axis, target in enumerate(targets)
        )
        if residual <= _TOLERANCE:
            break
    return q, residual


def _possible(cells: NDArray[np.bool_], targets: list[Floats]) -> NDArray[np.bool_]:
    """Cells that have positive probability under some joint with these marginals.

    With scale t: maximise sum u over u <= r, 0 <= u <= 1, r >= 0 with the marginals of t times
    the targets; u is one where some joint is positive.
    """
    from scipy.optimize import linprog  # slow to import

    index = np.flatnonzero(cells)
    n = index.size
    if sum(target.size for target in targets) * (2 * n + 1) > PROGRAMME_ENTRIES:
        raise ValueError(
            f"p of {' x '.join(map(str, cells.shape))} symbols is too large for ccs: which of its "
            f"{n:,} cells can be positive is a linear programme too large for memory; merge symbols"
        )
    labels = np.arange(cells.size).reshape(cells.shape)
    rows, sides = [], []
    for axis, target in enumerate(targets):
        for group, value in zip(
            np.moveaxis(labels, axis, -1).reshape(-1, cells.shape[axis]),
            target.ravel(),
            strict=True,
        ):
            rows.append(np.isin(index, group).astype(np.float64))
            sides.append(value)
    # Variables: u, r - u, and t.
    marginals = np.array(rows)
    equal = np.hstack([marginals, marginals, -np.array(sides)[:, None]])
    cost = np.concatenate([-np.ones(n), np.zeros(n + 1)])
    bounds = [(0, 1)] * n + [(0, None)] * (n + 1)
    solution = linprog(cost, A_eq=equal, b_eq=np.zeros(len(sides)), bounds=bounds)
    possible = np.zeros(cells.size, dtype=bool)
    possible[index] = solution.x[:n] > 0.5
    return possible.reshape(cells.shape)
