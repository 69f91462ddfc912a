"""Linear probes with a ridge penalty chosen on inner training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows

#: Candidate penalties on standardised features, per training row; the finest are for directions
#: of x that nearly copied columns leave small.
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10, 1e-12)
#: Rise of the loss above the least one, as a share of it, at which no finer penalty is tried. A
#: small rise is a reason to stop only if no direction is left to be fitted: wide ones that say
#: nothing come before narrow ones that do.
_RISE = 0.25
#: Variance of a direction, as a share of the widest, below which it is rounding.
ROUNDING = 1e-13
#: Finest penalty, as a share of the variance of the narrowest direction.
_FINEST = 5e-7
#: Share of the training clusters (inner rows) that choose the settings.
INNER_SHARE = 0.2
_STEPS = 1000
#: Least variance of a label that counts as curvature.
_LEAST_SPREAD = 1e-9


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression for labels, ridge regression for numbers.

    `log p(y | x) = x' w_y + b_y - logsumexp`, or `y ~ N(W x + b, S)` with S the residual
    covariance; the penalty `lambda n |W|^2 / 2` minimises the loss on a fifth of the
    training clusters; the final fit uses all.

    Attributes:
        penalties: candidate penalties.
    """

    penalties: tuple[float, ...] = PENALTIES
    name: str = "linear"

    def log_probabilities(
        self,
        train: Rows,
        labels: NDArray[np.int64],
        held: Rows,
        inner: NDArray[np.bool_],
        classes: int,
        seed: int,
    ) -> tuple[Rows, float]:
        """Held-out log-probabilities (m, classes) and the loss on the inner rows.

        Args:
            train: (n, d) features.
            labels: (n,) codes of the training rows.
            held: (m, d) features.
            inner: (n,) mask of the training rows that choose the penalty.
            classes: number of labels.
            seed: unused, the fit is convex.
        """
        outer, judge = train[~inner], train[inner]
        variances = outer.var(axis=0)
        narrowest = float(variances[variances >= ROUNDING * variances.max()].min())
        best, least = np.zeros((train.shape[1] + 1, classes)), np.inf
        weights, strength = best, self.penalties[0]
        for penalty in self.penalties:  # from strong to weak, with warm starts
            if penalty < _FINEST * narrowest:
                break
            weights = _logistic(outer, labels[~inner], classes, penalty, weights)
            log_p = _log_softmax(judge @ weights[:-1] + weights[-1])
            loss = -float(log_p[np.arange(len(judge)), labels[inner]].mean())
            if loss < least:
                best, least, strength = weights, loss, penalty
            elif loss > (1.0 + _RISE) * least or penalty < 0.1 * narrowest:
                break
        weights = _logistic(train, labels, classes, strength, best)
        return _log_softmax(held @ weights[:-1] + weights[-1]), least

    def gaussian(
        self, train: Rows, target: Rows, held: Rows, inner: NDArray[np.bool_], seed: int
    ) -> tuple[Rows, Rows, float]:
        """Held-out means (m, q), residual covariance (q, q) and its log determinant."""
        fits = [_ridge(train[~inner], target[~inner], p, train[inner]) for p in self.penalties]
        covariances = [residual_covariance(target[inner] - fit) for fit in fits]
        losses = [_log_determinant(covariance) for covariance in covariances]
        best = int(np.argmin(losses))
        means = _ridge(train, target, self.penalties[best], held)
        return means, covariances[best], losses[best]


def _log_determinant(covariance: Rows) -> float:
    """Log determinant; -inf where rounding has made it zero or negative."""
    sign, value = np.linalg.slogdet(covariance)
    return float(value) if sign > 0 else -np.inf


def residual_covariance(rest: Rows) -> Rows:
    """Second moments (q, q) of residuals (n, q)."""
    return np.asarray(rest.T @ rest / len(rest))


def inner_rows(codes: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Mask (n,) of the training rows in the fifth of the clusters that choose settings."""
    clusters = np.unique(codes)
    chosen = np.random.default_rng(seed).permutation(clusters)[
        : max(1, int(len(clusters) * INNER_SHARE))
    ]
    return np.isin(codes, chosen)


def _logistic(
    a: Rows, labels: NDArray[np.int64], classes: int, penalty: float, start: Rows
) -> Rows:
    """Weights and biases (d + 1, classes) of a logistic regression, started at `start`.

    Features are uncorrelated (`crossfit.uncorrelated`), so weights in units of the curvature at
    the start, `mean a_j^2 p_c (1 - p_c) + penalty`, are nearly independent and few steps suffice.
    """
    from scipy.optimize import minimize  # slow to import

    n, d = a.shape
    wanted = np.eye(classes)[labels]
    p = np.exp(_log_softmax(a @ start[:-1] + start[-1]))
    spread = p * (1.0 - p) + _LEAST_SPREAD
    curvature = np.concatenate([(a**2).T @ spread / n + penalty, spread.mean(axis=0)[None]]) ** 0.5

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(d + 1, classes) / curvature
        log_p = _log_softmax(a @ weights[:-1] + weights[-1])
        loss = -float((wanted * log_p).sum()) / n
        loss += 0.5 * penalty * float((weights[:-1] ** 2).sum())
        error = (np.exp(log_p) - wanted) / n
        slope = np.concatenate([a.T @ error + penalty * weights[:-1], error.sum(axis=0)[None]])
        return loss, (slope / curvature).ravel()

    solution = minimize(
        objective,
        (start * curvature).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS, "ftol": 1e-8, "gtol": 1e-5},
    )
    weights: Rows = solution.x.reshape(d + 1, classes) / curvature
    return weights


def _ridge(a: Rows, target: Rows, penalty: float, b: Rows) -> Rows:
    """Ridge predictions for the rows b; dual form if rows are fewer than columns."""
    n, d = a.shape
    mean, centre = target.mean(axis=0), a.mean(axis=0)
    a, b = a - centre, b - centre
    if d <= n:
        weights = np.linalg.solve(a.T @ a + penalty * n * np.eye(d), a.T @ (target - mean))
        return np.asarray(b @ weights + mean)
    dual = np.linalg.solve(a @ a.T + penalty * n * np.eye(n), target - mean)
    return np.asarray((b @ a.T) @ dual + mean)


def _log_softmax(scores: Rows) -> Rows:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
