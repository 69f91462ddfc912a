"""Canonical correlations of two sets of rows, with the design effect of clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma, psi

from estimators._arrays import Rows

#: Sines of canonical angles below this multiple of their rounding error count as 0.
_ROUNDING = 64.0 * float(np.finfo(np.float64).eps)
#: Differences of fewer ranks than this say nothing about the size of a difference.
RANKS = 10.0
#: Above this squared correlation, 1 - r^2 is computed from sines, which do not cancel.
_NEAR = 0.5


@dataclass(frozen=True)
class Canonical:
    """White coordinates of two sets of rows, with their canonical correlations.

    Attributes:
        x: (n, p) orthonormal columns that span the centred rows of x.
        y: (n, q) orthonormal columns that span the centred rows of y.
        squared: (min(p, q),) squared canonical correlations, descending.
        gaps: (min(p, q),) `1 - r^2`, ascending, accurate to rounding also where r^2 is nearly 1;
            0 where the sides determine each other.
        resolution: least gap that rounding of the rows can resolve.
        codes: (n,) cluster number of every row, or None: each row is its own cluster.
        design_effect: variance of the cross-products of the rows, divided by the variance for
            independent rows; at least 1.
        columns: the rows of x and y as given.
        exact: a gap of 0 is one of rounding; False if it is one of ranks.
        lost: dimensions projected out before, which cost degrees of freedom.
    """

    x: Rows
    y: Rows
    squared: NDArray[np.float64]
    gaps: NDArray[np.float64]
    resolution: float
    codes: NDArray[np.int64] | None
    design_effect: float
    columns: tuple[Rows, Rows]
    lost: int = 0
    exact: bool = True

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

    @property
    def determined(self) -> int:
        """Number of directions in which the sides determine each other, up to rounding."""
        return int((self.gaps == 0.0).sum())

    def by_ranks(self) -> Canonical:
        """The same where the columns are ranks, which hide gaps below `(10 / n)^2`."""
        resolution = max(self.resolution, min(0.5, (RANKS / self.rows) ** 2))
        gaps = np.where(self.gaps < resolution, 0.0, self.gaps)
        return replace(self, gaps=gaps, resolution=resolution, exact=False)

    def resolved(self) -> Canonical:
        """The same with the gaps that are 0 set to the resolution: a bound from below."""
        gaps = np.maximum(self.gaps, self.resolution)
        return replace(self, gaps=gaps, squared=1.0 - gaps)


def canonical(
    x: Rows, y: Rows, codes: NDArray[np.int64] | None = None, *, lost: int = 0
) -> Canonical:
    """White coordinates and squared canonical correlations `svd(Qx' Qy)^2`.

    Near 1, `1 - r^2` is the squared sine of the canonical angle, from `svd(Qx - Qy Qy' Qx)`.

    Args:
        x: (n, p) checked rows.
        y: (n, q) checked rows.
        codes: (n,) cluster numbers, or None.
        lost: dimensions projected out of x and y before.

    Raises:
        ValueError: too few rows (`n - 1 < p + q`), or columns that are linear combinations of
            others.

    Source:
        Björck and Golub 1973, Numerical methods for computing angles between linear subspaces,
        theorem 1 and section 3 (sines).
    """
    n, p, q = len(x), x.shape[1], y.shape[1]
    if n - 1 - lost < p + q:
        raise ValueError(
            f"{n} rows are too few for {p} + {q} columns: with n - 1 < d_x + d_y some directions "
            "of x and y correlate perfectly in any sample, so the information is not identified; "
            "reduce the dimension (method='auto' does) or use more rows"
        )
    (qx, least_x), (qy, least_y) = _white(x, "x"), _white(y, "y")
    cross = qx.T @ qy
    cosines = np.minimum(singular_values(cross), 1.0)
    rounding = _ROUNDING / min(least_x, least_y)
    gaps = _gaps(qx, qy, cross, cosines, rounding)
    effect = 1.0 if codes is None else _design_effect(qx, qy, codes)
    if n / effect - 1.0 - lost < p + q:
        raise ValueError(
            f"{n} rows in {int(codes.max()) + 1 if codes is not None else n} clusters are worth "
            f"{n / effect:.0f} independent rows, too few for {p} + {q} columns; reduce the "
            "dimension or use more clusters"
        )
    return Canonical(qx, qy, 1.0 - gaps, gaps, rounding**2, codes, effect, (x, y), lost)


def _gaps(
    qx: Rows, qy: Rows, cross: Rows, cosines: NDArray[np.float64], rounding: float
) -> NDArray[np.float64]:
    """`1 - r^2`, ascending: squared sines of the angles where r^2 is large."""
    gaps = (1.0 - cosines) * (1.0 + cosines)
    if cosines[0] ** 2 <= _NEAR:
        return np.asarray(gaps)
    few, rest = (qx, qx - qy @ cross.T) if len(cross) <= len(cross.T) else (qy, qy - qx @ cross)
    sines = singular_values(np.linalg.qr(rest)[1])[::-1][: few.shape[1]]
    sines = np.where(sines < rounding, 0.0, sines)
    return np.asarray(np.where(cosines**2 > _NEAR, np.minimum(sines**2, 1.0), gaps))


def singular_values(matrix: Rows) -> NDArray[np.float64]:
    """Singular values, descending, also where LAPACK's divide and conquer does not converge."""
    return svd(matrix)[1]


def svd(matrix: Rows) -> tuple[Rows, NDArray[np.float64], Rows]:
    """Thin singular value decomposition, by QR iterations if divide and conquer fails."""
    try:
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError:
        from scipy.linalg import svd as by_driver

        left, values, right = by_driver(matrix, full_matrices=False, lapack_driver="gesvd")
    return left, values, right


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

    Its logit has a Tracy-Widom law, centred and scaled as in Johnstone 2008, eq. (5) to (6). It is
    1 where v is at most p + q: then even perfect correlations say nothing.
    """
    if v <= p + q:
        return 1.0
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
    return _white(rows, name)[0]


def _white(rows: Rows, name: str) -> tuple[Rows, float]:
    """Orthonormal columns, and the least share of a column that those before do not explain."""
    centred = rows / np.abs(rows).max(axis=0)  # so that no square overflows
    centred = centred - centred.mean(axis=0)
    centred /= np.sqrt((centred**2).mean(axis=0))
    q, r = np.linalg.qr(centred)
    pivots = np.abs(np.diagonal(r)) / np.sqrt(len(rows))
    if pivots.min() < 1e-7:
        raise ValueError(
            f"column {int(pivots.argmin())} of {name} is a linear combination of the columns "
            "before it; drop it, or reduce the dimension"
        )
    return q, float(pivots.min())


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
