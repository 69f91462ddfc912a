"""Cross-fitting: held-out losses from probes trained on other clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators.usable._folds import folds_of
from estimators.usable.linear import ROUNDING, LinearProbe, inner_rows, residual_covariance
from estimators.usable.mlp import MLPProbe

#: Fewest rows for which `auto` also tries the neural probe.
ROWS_FOR_MLP = 1000
#: Smallest residual variance of a target, as a share of its variance.
SMALLEST_RESIDUAL = 1e-12
#: Variance of an independent direction, as a share of the widest.
_INDEPENDENT = 1e-10


def probes_of(method: str, n: int) -> list[Any]:
    """Probes of a method; `auto` has both if there are enough rows.

    Raises:
        ValueError: an unknown method.
    """
    if method not in ("auto", "linear", "mlp"):
        raise ValueError(f"unknown method '{method}'; choose from auto, linear, mlp")
    if method == "linear" or (method == "auto" and n < ROWS_FOR_MLP):
        return [LinearProbe()]
    return [MLPProbe()] if method == "mlp" else [LinearProbe(), MLPProbe()]


def held_out_losses(
    x: Rows | None,
    target: NDArray[Any],
    codes: NDArray[np.int64],
    probes: list[Any],
    folds: int,
    seed: int,
    training: float = 1.0,
) -> NDArray[np.float64]:
    """Held-out `-log q(y | x)` of every row, (n,), in nats; of the best constant if x is None.

    Args:
        x: (n, d) checked rows, or None.
        target: (n,) codes of labels, or (n, q) numbers.
        codes: (n,) cluster number of every row.
        probes: candidates from `probes_of`; each fold uses the one with the least inner loss.
        folds: number of folds.
        seed: seed of folds and training.
        training: share of the training clusters of each fold that are used.
    """
    if target.ndim == 2:
        return _gaussian_losses(x, target, codes, probes, folds, seed, training)
    if x is None:
        return _constant_losses(target, codes, folds, seed, training)
    log_p = held_out_log_probabilities(x, target, codes, probes, folds, seed, training)
    return np.asarray(-log_p[np.arange(len(target)), target])


def held_out_log_probabilities(
    x: Rows,
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    probes: list[Any],
    folds: int,
    seed: int,
    training: float = 1.0,
) -> Rows:
    """Cross-fitted log-probabilities of all labels, (n, classes); see `held_out_losses`."""
    classes = int(labels.max()) + 1
    features = uncorrelated(x)
    out = np.empty((len(x), classes))
    for train, held in folds_of(codes, folds, seed, training):
        inner = inner_rows(codes[train], seed)
        fits = [
            probe.log_probabilities(
                features[train], labels[train], features[held], inner, classes, seed
            )
            for probe in probes
        ]
        # Mix in one uniform row, so that labels absent from the training rows have a finite loss.
        share = 1.0 / (len(train) + 1)
        chosen = min(fits, key=lambda fit: float(fit[1]))[0]
        out[held] = np.logaddexp(np.log1p(-share) + chosen, np.log(share / classes))
    return out


def _constant_losses(
    labels: NDArray[np.int64], codes: NDArray[np.int64], folds: int, seed: int, training: float
) -> NDArray[np.float64]:
    classes = int(labels.max()) + 1
    out = np.empty(len(labels))
    for train, held in folds_of(codes, folds, seed, training):
        counts = np.bincount(labels[train], minlength=classes) + 0.5
        out[held] = -np.log(counts / counts.sum())[labels[held]]
    return out


def _gaussian_losses(
    x: Rows | None,
    target: Rows,
    codes: NDArray[np.int64],
    probes: list[Any],
    folds: int,
    seed: int,
    training: float = 1.0,
) -> NDArray[np.float64]:
    out = np.empty(len(target))
    features = None if x is None else uncorrelated(x)
    q = target.shape[1]
    for train, held in folds_of(codes, folds, seed, training):
        inner = inner_rows(codes[train], seed)
        if inner.sum() <= q + 1:
            raise ValueError(
                f"{int(inner.sum())} inner rows of a fold are too few for the residual "
                f"covariance of {q} targets; use more rows or fewer targets"
            )
        if features is None:
            mean = np.broadcast_to(target[train].mean(axis=0), target[held].shape)
            covariance = residual_covariance(target[train] - target[train].mean(axis=0))
        else:
            fits = [
                probe.gaussian(features[train], target[train], features[held], inner, seed)
                for probe in probes
            ]
            mean, covariance, _ = min(fits, key=lambda fit: float(fit[2]))
        gap = target[held] - mean
        # No residual is smaller than rounding: y that x determines has a finite loss.
        covariance = covariance + np.diag(SMALLEST_RESIDUAL * target.var(axis=0))
        quadratic = (gap * np.linalg.solve(covariance, gap.T).T).sum(axis=1)
        log_det = float(np.linalg.slogdet(2 * np.pi * covariance).logabsdet)
        out[held] = 0.5 * (quadratic + log_det)
    return out


def directions(x: Rows) -> tuple[int, int]:
    """Numbers of independent directions of standardised columns, and of those too narrow to use.

    A direction is independent with more than 1e-10 of the variance of the widest; narrower ones
    above rounding are beyond the penalties of a linear probe.
    """
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    values = np.linalg.eigvalsh(z.T @ z if x.shape[1] <= len(x) else z @ z.T)
    independent = int((values > _INDEPENDENT * values[-1]).sum())
    return independent, int((values > ROUNDING * values[-1]).sum()) - independent


def carriers(x: Rows) -> float:
    """Number of rows that carry the standardised columns: `(sum |z|^2)^2 / sum |z|^4`."""
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    squares = np.einsum("ij,ij->i", z, z)
    return float(squares.sum() ** 2 / (squares @ squares))


def uncorrelated(x: Rows, *, drop: bool = False) -> Rows:
    """Standardised columns, rotated to at most n uncorrelated coordinates.

    Neither step uses the target, so both may use all rows. A ridge-penalised linear probe on
    the rotated columns equals the probe on all columns. With `drop`, only linearly independent
    coordinates remain.
    """
    n, d = x.shape
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    if d <= n:
        values, vectors = np.linalg.eigh(z.T @ z)
        return np.asarray(z @ (vectors[:, values > _INDEPENDENT * values[-1]] if drop else vectors))
    values, vectors = np.linalg.eigh(z @ z.T)
    positive = values > _INDEPENDENT * values[-1]
    return np.asarray(vectors[:, positive] * np.sqrt(values[positive]))
