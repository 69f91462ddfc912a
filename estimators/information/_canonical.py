"""Canonical correlations of two sets of rows, with the design effect of clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma, psi

from estimators._arrays import Rows

#: Squared correlations are clipped here; nearer to 1, the variables determine each other.
_ONE = 1.0 - 1e-12


@dataclass(frozen=True)
class Canonical:
    """White coordinates of two sets of rows, with their canonical correlations.

    Attributes:
        x: (n, p) orthonormal columns that span the centred rows of x.
        y: (n, q) orthonormal columns that span the centred rows of y.
        squared: (min(p, q),) squared canonical correlations, descending.
        codes: (n,) cluster number of every row, or None: each row is its own cluster.
        design_effect: variance of the cross-products of the rows, divided by the variance for
            independent rows; at least 1.
        lost: dimensions projected out before, which cost degrees of freedom.
    """

    x: Rows
    y: Rows
    squared: NDArray[np.float64]
    codes: NDArray[np.int64] | None
    design_effect: float
    lost: int = 0

    @property
    def rows(self) -> int:
        """Number n of rows."""
        return len(self.x)

    @property
    def freedom(self) -> float:
        """Degrees of freedom v of the covariances: effective number of rows - 1 - lost."""
        return self.rows / self.design_effect - 1.0 - self.lost

    @property
    def dims(self) -> tuple[int, int]:
        """Dimensions (p, q), the smaller first; canonical correlations are symmetric."""
        p, q = self.x.shape[1], self.y.shape[1]
        return (p, q) if p <= q else (q, p)


def canonical(
    x: Rows, y: Rows, codes: NDArray[np.int64] | None = None, *, lost: int = 0
) -> Canonical:
    """White coordinates and squared canonical correlations `svd(Qx' Qy)^2`.

    Args:
        x: (n, p) checked rows.
        y: (n, q) checked rows.
        codes: (n,) cluster numbers, or None.
        lost: dimensions projected out of x and y before.

    Raises:
        ValueError: too few rows (`n - 1 < p + q`), or columns that are linear combinations of
            others.

    Source:
        Björck and Golub 1973, Numerical methods for computing angles between linear subspaces.
    """
    n, p, q = len(x), x.shape[1], y.shape[1]
    if n - 1 - lost < p + q:
        raise ValueError(
            f"{n} rows are too few for {p} + {q} columns: with n - 1 < d_x + d_y some directions "
            "of x and y correlate perfectly in any sample, so the information is not identified; "
            "reduce the dimension (method='auto' does) or use more rows"
        )
    qx, qy = whiten(x, "x"), whiten(y, "y")
    singular = np.linalg.svd(qx.T @ qy, compute_uv=False)
    effect = 1.0 if codes is None else _design_effect(qx, qy, codes)
    if n / effect - 1.0 - lost < p + q:
        raise ValueError(
            f"{n} rows in {int(codes.max()) + 1 if codes is not None else n} clusters are worth "
            f"{n / effect:.0f} independent rows, too few for {p} + {q} columns; reduce the "
            "dimension or use more clusters"
        )
    return Canonical(qx, qy, np.minimum(singular**2, _ONE), codes, effect, lost)


def wilks_moments(p: int, q: int, v: float) -> tuple[float, float]:
    """Mean and variance of `-1/2 sum_i ln(1 - r_i^2)` for independent Gaussian x and y.

    `sum_{i<=p} [psi((v-i+1)/2) - psi((v-q-i+1)/2)] / 2` and
    `sum_{i<=p} [psi1((v-q-i+1)/2) - psi1((v-i+1)/2)] / 4`, with p <= q: the statistic is a sum of
    logs of independent beta variables. Only one side must be Gaussian.

    Args:
        p: columns of one side.
        q: columns of the other.
        v: degrees of freedom, at least p + q.

    Source:
        Muirhead 1982, Aspects of Multivariate Statistical Theory, theorem 10.5.3.
    """
    few, many = min(p, q), max(p, q)
    i = np.arange(few)
    high, low = (v - i) / 2, (v - many - i) / 2
    mean = 0.5 * float(np.sum(psi(high) - psi(low)))
    return mean, 0.25 * float(np.sum(polygamma(1, low) - polygamma(1, high)))


def largest_at_null(p: int, q: int, v: float) -> float:
    """99 % point of the largest squared canonical correlation of independent variables.

    Its logit has a Tracy-Widom law, centred and scaled as in Johnstone 2008, eq. (5) to (6).
    """
    size = v - 1.0
    low, high = min(p, q) - 0.5, max(p, q) - 0.5
    gamma, phi = (2.0 * np.arcsin(np.sqrt(d / size)) for d in (low, high))
    centre = 2.0 * np.log(np.tan((phi + gamma) / 2.0))
    cube = 16.0 / (size**2 * np.sin(phi + gamma) ** 2 * np.sin(phi) * np.sin(gamma))
    return float(1.0 / (1.0 + np.exp(-(centre + 2.0234 * cube ** (1.0 / 3.0)))))


def whiten(rows: Rows, name: str) -> Rows:
    """Orthonormal columns (n, d) that span the centred columns.

    Raises:
        ValueError: a column is a linear combination of the others.
    """
    centred = rows - rows.mean(axis=0)
    centred /= np.sqrt((centred**2).mean(axis=0))
    q, r = np.linalg.qr(centred)
    pivots = np.abs(np.diagonal(r)) / np.sqrt(len(rows))
    if pivots.min() < 1e-7:
        raise ValueError(
            f"column {int(pivots.argmin())} of {name} is a linear combination of the columns "
            "before it; drop it, or reduce the dimension"
        )
    return q


def _design_effect(qx: Rows, qy: Rows, codes: NDArray[np.int64]) -> float:
    """`sum_g |X_g' Y_g|^2 / sum_i |x_i|^2 |y_i|^2` over clusters g and rows i, at least 1.

    The numerator is the expected squared norm of `X'Y` for x independent of y with dependent
    rows within clusters; the denominator is that for independent rows.
    """
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sorted_x, sorted_y = qx[order], qy[order]
    ends = [*starts[1:].tolist(), len(codes)]
    together = sum(
        float(((sorted_x[a:b].T @ sorted_y[a:b]) ** 2).sum())
        for a, b in zip(starts.tolist(), ends, strict=True)
    )
    apart = float(((qx**2).sum(axis=1) * (qy**2).sum(axis=1)).sum())
    return max(1.0, together / apart)
