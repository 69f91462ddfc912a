"""Union information of jointly Gaussian variables, by convex optimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

Floats = NDArray[np.float64]

#: Directions of a source with less information than this, in nats, are dropped.
_NEGLIGIBLE = 1e-14
_STEPS = 1000
#: Largest initial noise correlation, and a ridge that keeps `I - K K'` invertible.
_INSIDE = 0.999
_RIDGE = 1e-13


@dataclass(frozen=True)
class Union:
    """Least information of both sources over the joint Gaussians with given pairwise marginals.

    Attributes:
        value: primal value in nats, an upper bound of the minimum.
        gap: value minus a certified lower bound, in nats.
        iterations: number of steps.
    """

    value: float
    gap: float
    iterations: int

    @property
    def lower(self) -> float:
        """Certified lower bound of the minimum, in nats."""
        return self.value - self.gap


def channel(cov: Floats, source: slice, target: slice) -> Floats:
    """Matrix H, (r, d_y), of the source as H times the white target plus white noise; r <= d_y.

    `X ~ H Y + noise` with both Y and the noise white. Rows are rotated so that `H H'` is diagonal;
    directions without information are dropped.

    Args:
        cov: positive definite covariance of all variables.
        source: rows of X.
        target: rows of Y.

    Raises:
        numpy.linalg.LinAlgError: a block of the covariance is not positive definite.
    """
    of_y = np.linalg.cholesky(cov[target, target])
    # X = A y + noise with white y; the noise has the residual covariance.
    a = np.linalg.solve(of_y, cov[target, source]).T
    noise = np.linalg.cholesky(cov[source, source] - a @ a.T)
    h = np.linalg.solve(noise, a)
    _, singular, right = np.linalg.svd(h, full_matrices=False)
    informative = np.log1p(singular**2) > 2 * _NEGLIGIBLE
    return np.asarray(singular[informative, None] * right[informative])


def union_information(
    h_x: Floats, h_y: Floats, *, tolerance: float = 1e-10, change: float = 1e-15
) -> Union:
    """Minimise `1/2 ln det(I + [Hx; Hy]' [[I, K], [K', I]]^-1 [Hx; Hy])` over contractions K.

    K is the covariance of the two noises, the only free parameter given the pairwise marginals;
    the information is convex in the noise covariance, so the problem is convex. The map from any
    matrix `M = U S V'` to `K = U sin(S) V'` covers all contractions and is smooth where the
    optimum lies on the boundary. L-BFGS in M starts at the K that is optimal if `Hx'Hx` and
    `Hy'Hy` commute. The gap follows from the linearisation at K:
    `f(K) - f* <= <G, K> + |G|_nuclear` with G the gradient; the true error is far smaller.

    Args:
        h_x: (r_x, d) channel of the first source.
        h_y: (r_y, d) channel of the second.
        tolerance: gap at which the initial K is accepted, in nats.
        change: relative decrease of the information at which the steps end.

    Source:
        Venkatesh, Bennett, Gale, Ramirez, Heller, Durand, Olsen and Mihalas 2023, Gaussian partial
        information decomposition, NeurIPS, arXiv 2307.10515, eq. (9); optimality of a joint
        Gaussian: arXiv 2510.04417.
    """
    if not len(h_x) or not len(h_y):
        return Union(_information(h_x) + _information(h_y), 0.0, 0)
    exact = _start(h_x, h_y)
    first = _judged(h_x, h_y, exact, 1)
    if first.gap <= tolerance:  # the channels share principal directions
        return first
    left, singular, right = np.linalg.svd(exact, full_matrices=False)
    start = (left * np.arcsin(np.minimum(singular, _INSIDE))) @ right

    def objective(flat: Floats) -> tuple[float, Floats]:
        k, pull = _contraction(flat.reshape(start.shape))
        value, slope = _value(h_x, h_y, k)
        return value, pull(slope).ravel()

    from scipy.optimize import minimize  # slow to import

    solution = minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS, "ftol": change, "gtol": 1e-10, "maxcor": 20},
    )
    second = _judged(h_x, h_y, _contraction(solution.x.reshape(start.shape))[0], int(solution.nfev))
    value, lower = min(first.value, second.value), max(first.lower, second.lower)
    return Union(value, max(value - lower, 0.0), second.iterations)


def _judged(h_x: Floats, h_y: Floats, k: Floats, iterations: int) -> Union:
    """Value and gap at K."""
    value, slope = _value(h_x, h_y, k)
    gap = float((slope * k).sum()) + float(np.linalg.norm(slope, "nuc"))
    return Union(value, max(gap, 0.0), iterations)


def _information(h: Floats) -> float:
    """`1/2 ln det(I + H'H)`."""
    return 0.5 * float(np.linalg.slogdet(np.eye(h.shape[1]) + h.T @ h).logabsdet)


def _start(h_x: Floats, h_y: Floats) -> Floats:
    """The K that is optimal if the two channels share their principal directions.

    With `T'Hx'Hx T = diag(a^2)` and `T'Hy'Hy T = diag(b^2)` both channels are
    diagonal; the weaker source is then the stronger source plus noise, `K = min(a/b, b/a)`.
    """
    of_x, of_y = h_x.T @ h_x, h_y.T @ h_y
    total = of_x + of_y
    floor = 1e-10 * float(np.trace(total)) / len(total)
    basis = eigh(of_x, total + floor * np.eye(len(total)))[1]
    in_x, in_y = h_x @ basis, h_y @ basis
    a, b = np.linalg.norm(in_x, axis=0), np.linalg.norm(in_y, axis=0)
    shared = (a > 1e-4) & (b > 1e-4)
    a, b = a[shared], b[shared]
    k = (in_x[:, shared] / a * np.minimum(a / b, b / a)) @ (in_y[:, shared] / b).T
    return np.asarray(k / max(1.0, float(np.linalg.norm(k, 2))))


def _value(h_x: Floats, h_y: Floats, k: Floats) -> tuple[float, Floats]:
    """Information at K and its gradient `-W_x B^-1 W_y'`, W the weights of the decoder."""
    free = cho_factor((1.0 + _RIDGE) * np.eye(len(k)) - k @ k.T, lower=True)
    w_x = cho_solve(free, h_x - k @ h_y)
    w_y = h_y - k.T @ w_x
    b = cho_factor(np.eye(h_x.shape[1]) + h_x.T @ w_x + h_y.T @ w_y, lower=True)
    value = float(np.log(np.diagonal(b[0])).sum())
    return value, -w_x @ cho_solve(b, w_y.T)


def _contraction(m: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
    """`K = U sin(S) V'` of M, and the map from gradients in K to gradients in M.

    `K = M g(M'M)` with `g(t) = sin(sqrt t) / sqrt t`, whose derivative acts in the eigenbasis of
    M'M by divided differences of g (Daleckii and Krein).
    """
    t, basis = eigh(m.T @ m)
    t = np.maximum(t, 0.0)
    s = np.maximum(np.sqrt(t), 1e-150)
    g = np.where(s > 1e-4, np.sin(s) / s, 1.0 - t / 6.0)
    slope = np.where(s > 1e-2, (np.cos(s) - g) / (2.0 * s**2), -1.0 / 6.0 + t / 60.0)
    gap = t[:, None] - t[None, :]
    close = np.abs(gap) < 1e-8 * (1.0 + t[:, None])
    differences = np.where(
        close,
        (slope[:, None] + slope[None, :]) / 2.0,
        (g[:, None] - g[None, :]) / np.where(close, 1.0, gap),
    )
    root = (basis * g) @ basis.T

    def pull(gradient: Floats) -> Floats:
        inner = m.T @ gradient
        turned = basis.T @ (inner + inner.T) @ basis / 2.0
        return np.asarray(gradient @ root + 2.0 * m @ (basis @ (differences * turned) @ basis.T))

    return np.asarray(m @ root), pull
