"""Matrix-based Renyi entropy and mutual information, from Gram matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._neighbours import standardised
from estimators.information._null import p_value
from estimators.information._request import Request
from estimators.spectrum import spectral_entropy

#: Largest number of rows of a Gram matrix.
MOST_ROWS = 5_000
_BLOCKS = 10


def renyi(
    x: Rows, y: Rows, ask: Request, *, alpha: float = 2.0, width: float | None = None
) -> Estimate:
    """`I_alpha(X;Y) = S_alpha(A) + S_alpha(B) - S_alpha(A o B / tr(A o B))` of Gram matrices.

    A and B are Gaussian-kernel Gram matrices with trace one, o is the entry-wise product. It is
    a measure of dependence other than Shannon's mutual information, and grows with n up to
    ln n; so it is never reliable as an estimate of the latter. With alpha = 2 no eigenvalues are
    needed: `S_2(A) = -ln |A|_F^2`. The interval is a jackknife over ten blocks of clusters.

    Args:
        x: (n, p) rows.
        y: (n, q) rows.
        ask: level, clusters, permutations and seed.
        alpha: order, > 0; 1 is the von Neumann entropy.
        width: kernel width on standardised columns; None for `sqrt(d) n^(-1/(4+d))`.

    Raises:
        ValueError: alpha or width not positive, more than 5,000 rows, fewer than ten clusters.

    Source:
        Sanchez Giraldo, Rao and Principe 2015, Measures of entropy from data using infinitely
        divisible kernels, IEEE Trans. Inf. Theory 61, definitions 1 and 3.
    """
    n = len(x)
    if n > MOST_ROWS:
        raise ValueError(
            f"Gram matrices take at most {MOST_ROWS:,} rows, got {n:,}; subsample the rows"
        )
    clusters = ask.cluster_count(n)
    if clusters < _BLOCKS:
        raise ValueError(
            f"the jackknife needs at least {_BLOCKS} independent clusters, got {clusters}"
        )
    a, b = gram(x, width=width), gram(y, width=width)
    codes = np.arange(n) if ask.codes is None else ask.codes
    block = np.random.default_rng(ask.seed).permutation(clusters)[codes] % _BLOCKS

    def on(rows: NDArray[np.bool_]) -> float:
        return information(a[np.ix_(rows, rows)], b[np.ix_(rows, rows)], alpha)

    value = information(a, b, alpha)
    left = np.array([on(block != number) for number in range(_BLOCKS)])
    variance = (_BLOCKS - 1) * float(((left - left.mean()) ** 2).mean())

    def shuffled(order: NDArray[np.int64]) -> float:
        return information(a, b[np.ix_(order, order)], alpha)

    return ask.estimate(
        value,
        variance,
        n=n,
        d=x.shape[1] + y.shape[1],
        method=f"renyi (matrix-based, alpha = {alpha:g})",
        doubts=["a matrix-based dependence, which is not Shannon's mutual information"],
        diagnostics={"alpha": alpha, **p_value(value, shuffled, ask, n)},
    )


def renyi_entropy(
    x: Rows, ask: Request, *, alpha: float = 2.0, width: float | None = None
) -> Estimate:
    """`S_alpha(A) = ln tr(A^alpha) / (1 - alpha)` of the Gram matrix of x; see `renyi`.

    Between 0 (all rows equal) and ln n (all far apart): it counts distinct rows and is not a
    differential entropy, so it is never reliable as one.

    Raises:
        ValueError: as `renyi`.
    """
    n = len(x)
    if n > MOST_ROWS:
        raise ValueError(
            f"Gram matrices take at most {MOST_ROWS:,} rows, got {n:,}; subsample the rows"
        )
    a = gram(x, width=width)
    value = gram_entropy(a, alpha)
    return ask.estimate(
        value,
        (0.0, float(np.log(n))),
        n=n,
        d=x.shape[1],
        method=f"renyi (matrix-based, alpha = {alpha:g})",
        doubts=["a matrix-based entropy between 0 and ln n, not a differential entropy"],
        diagnostics={"alpha": alpha},
    )


def gram(rows: Rows, *, width: float | None = None) -> Rows:
    """(n, n) `exp(-|x_i - x_j|^2 / (2 w^2)) / n` on standardised columns.

    Raises:
        ValueError: a width that is not positive.
    """
    n, d = rows.shape
    w = d**0.5 * n ** (-1.0 / (4 + d)) if width is None else width
    if not w > 0:
        raise ValueError(f"the width of a kernel must be positive, got {width}")
    z = standardised(rows)
    squares = (z**2).sum(axis=1)
    gaps = np.maximum(squares[:, None] + squares[None, :] - 2.0 * z @ z.T, 0.0)
    return np.asarray(np.exp(-gaps / (2.0 * w**2)) / n)


def information(a: Rows, b: Rows, alpha: float) -> float:
    """Matrix-based mutual information of two Gram matrices, which are scaled to trace one."""
    a, b = a / np.trace(a), b / np.trace(b)
    product = a * b
    joint = gram_entropy(product / np.trace(product), alpha)
    return gram_entropy(a, alpha) + gram_entropy(b, alpha) - joint


def gram_entropy(a: Rows, alpha: float) -> float:
    """`ln tr(A^alpha) / (1 - alpha)` of a positive semidefinite matrix with trace one, in nats.

    Raises:
        ValueError: alpha is not positive.

    Example:
        >>> bool(abs(gram_entropy(np.eye(4) / 4, 2.0) - np.log(4)) < 1e-9)
        True
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    if alpha == 2.0:
        return -float(np.log((a**2).sum()))
    return spectral_entropy(np.maximum(eigvalsh(a), 0.0), alpha=alpha)
