"""Linear probes with a ridge penalty chosen on inner training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows

#: Candidate penalties on standardised features, per training row.
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
#: Further ones of ridge regression, for directions of x that nearly copied columns leave small.
FINER = (1e-8, 1e-10)
#: Share of the training clusters (inner rows) that choose the settings.
INNER_SHARE = 0.2
_STEPS = 100


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
        best, least = np.zeros((train.shape[1] + 1, classes)), np.inf
        weights, strength = best, self.penalties[0]
        for penalty in self.penalties:  # from strong to weak, with warm starts
            weights = _logistic(outer, labels[~inner], classes, penalty, weights)
            log_p = _log_softmax(judge @ weights[:-1] + weights[-1])
            loss = -float(log_p[np.arange(len(judge)), labels[inner]].mean())
            if loss > least:
                break
            best, least, strength = weights, loss, penalty
        weights = _logistic(train, labels, classes, strength, best)
        return _log_softmax(held @ weights[:-1] + weights[-1]), least

    def gaussian(
        self, train: Rows, target: Rows, held: Rows, inner: NDArray[np.bool_], seed: int
    ) -> tuple[Rows, Rows, float]:
        """Held-out means (m, q), residual covariance (q, q) and its log determinant."""
        penalties = (*self.penalties, *FINER)
        fits = [_ridge(train[~inner], target[~inner], p, train[inner]) for p in penalties]
        covariances = [residual_covariance(target[inner] - fit) for fit in fits]
        losses = [_log_determinant(covariance) for covariance in covariances]
        best = int(np.argmin(losses))
        means = _ridge(train, target, penalties[best], held)
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

    Features are uncorrelated (`crossfit.uncorrelated`), so weights in units of the curvature
    `mean a_j^2 / 4 + penalty` are nearly independent and few steps suffice.
    """
    from scipy.optimize import minimize  # slow to import

    n, d = a.shape
    wanted = np.eye(classes)[labels]
    curvature = np.append(0.25 * (a**2).mean(axis=0) + penalty, 0.25) ** 0.5

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(d + 1, classes) / curvature[:, None]
        log_p = _log_softmax(a @ weights[:-1] + weights[-1])
        loss = -float((wanted * log_p).sum()) / n
        loss += 0.5 * penalty * float((weights[:-1] ** 2).sum())
        error = (np.exp(log_p) - wanted) / n
        slope = np.concatenate([a.T @ error + penalty * weights[:-1], error.sum(axis=0)[None]])
        return loss, (slope / curvature[:, None]).ravel()

    solution = minimize(
        objective,
        (start * curvature[:, None]).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS, "ftol": 1e-8, "gtol": 1e-5},
    )
    weights: Rows = solution.x.reshape(d + 1, classes) / curvature[:, None]
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
