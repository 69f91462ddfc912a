"""Tests of independence of regression residuals, for dependence that regression does not see.

For jointly Gaussian x and y the residuals of y on x are independent of x. Products of columns,
parities, and scales that rows share are dependence that no correlation of columns shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, ndtr

from estimators._arrays import Rows

#: Significance level of each test.
ALARM = 1e-4
#: Most features of the matrices of second moments; beyond, matrices of rows are used.
MOST_FEATURES = 250
#: Rows used by matrices of rows, and by products of signs.
MOST_ROWS = 2000
#: Most products of columns, of x and of the residuals.
MOST_PRODUCTS = (1500, 300)
#: Largest number of columns in a product of signs.
DEGREE = 8
#: Most half waves of the ranks of a column, and most waves of all columns of a side.
WAVES, MOST_WAVES = 8, 600
_NAMES = (
    "products of its columns",
    "its columns: their scale or their products change",
    "products of its columns: their scale or their products change",
)


def dependences(x: Rows, residuals: Rows, columns: tuple[Rows, Rows]) -> Iterator[str]:
    """Names of the features of x on which features of the residuals depend.

    1. All products of two columns: `T = n |cov(f(x), g(e))|^2` summed over all pairs of features,
       with f and g the columns or their products, does not change under rotations. Under
       independence its mean is `tr S_f tr S_g` and its variance `2 |S_f|^2 |S_g|^2`, with S the
       covariances of the features; its law is taken as the gamma law with these moments.
    2. Products of the signs of up to eight columns, ranks, and products of two ranks: the
       largest correlation, with Bonferroni's correction.
    3. Waves of the columns (`waves_p_value`).

    Args:
        x: (n, p) independent rows, uncorrelated columns of unit variance.
        residuals: (n, q) residuals of regression on x, likewise.
        columns: the columns of both for tests 2 and 3, which depend on the axes.

    Source:
        Gretton et al. 2008, A kernel statistical test of independence, NIPS 20, section 3.
    """
    for name, p_value in zip(_NAMES, _moments_p_values(x, residuals), strict=True):
        if p_value < ALARM:
            yield name
    if _largest_p_value(*columns) < ALARM:
        yield "products of ranks or signs of its columns"
    if waves_p_value(*columns) < ALARM:
        yield "waves of its columns"


def waves_p_value(x: Rows, e: Rows, *, apart: bool = False) -> float:
    """p-value of independence of the columns of x and e, from waves `cos(pi k rank)` of both.

    A function of one column that rises and falls is a wave of it, the square of a column nearly
    the second wave. For waves k of x and l of e, each up to `WAVES`:

    1. the largest correlation of two columns;
    2. the sum of the squared correlations of all pairs of columns, for dependence that is weak in
       every column; its moments under independence are those of test 1 of `dependences`.

    Args:
        x: (n, p) independent rows.
        e: (n, q) rows.
        apart: leave out the pairs of column i of x and column i of e.
    """
    step = -(-len(x) // MOST_ROWS)
    f, g = _waves(x[::step]), _waves(e[::step])
    n, (p, q) = f.shape[2], (f.shape[1], g.shape[1])
    squares = n * (f.reshape(-1, n) @ g.reshape(-1, n).T).reshape(len(f), p, len(g), q) ** 2
    own = np.arange(min(p, q) if apart else 0)
    squares[:, own, :, own] = 0.0
    largest = 2.0 * squares.size * float(ndtr(-(float(squares.max()) ** 0.5)))
    sums, mean = squares.sum(axis=(1, 3)), float(p * q - len(own))
    if not mean:
        return 1.0
    spread_f, spread_g = (((w @ w.transpose(0, 2, 1)) ** 2).sum(axis=(1, 2)) for w in (f, g))
    variance = 2.0 * spread_f[:, None] * spread_g
    pooled = gammaincc(mean**2 / variance, sums * mean / variance)
    return float(min(1.0, 2.0 * min(largest, float(pooled.min()) * pooled.size)))


def _waves(rows: Rows) -> NDArray[np.float32]:
    """(k, p, n) waves of the ranks of the first columns, centred and of unit norm."""
    columns = rows.T[: MOST_WAVES // 2]
    numbers = np.arange(1, min(WAVES, MOST_WAVES // len(columns)) + 1)
    ranks = np.empty(columns.shape, dtype=np.int64)
    np.put_along_axis(ranks, columns.argsort(axis=1), np.arange(len(rows))[None], axis=1)
    waves = np.cos(np.pi * numbers[:, None] * (np.arange(len(rows)) + 0.5) / len(rows))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    return np.asarray(waves.astype(np.float32)[:, ranks])


def _moments_p_values(x: Rows, e: Rows) -> Iterator[float]:
    """p-values of test 1 for the degrees (2, 1), (1, 2) and (2, 2) of the features."""
    small = all(_count(rows.shape[1]) <= MOST_FEATURES for rows in (x, e))
    used = slice(None) if small else slice(None, None, -(-len(x) // MOST_ROWS))
    of_x, of_e = (
        [_powers(rows[used], degree) if small else _gram(rows[used], degree) for degree in (1, 2)]
        for rows in (x, e)
    )
    for i, j in ((1, 0), (0, 1), (1, 1)):
        yield (_from_features if small else _from_grams)(of_x[i], of_e[j])


def _from_features(f: Rows, g: Rows) -> float:
    n = len(f)
    return _gamma_p_value(
        float(((f.T @ g) ** 2).sum()) / n,
        (f**2).sum(axis=1),
        (g**2).sum(axis=1),
        float(((f.T @ f) ** 2).sum()) * float(((g.T @ g) ** 2).sum()),
    )


def _from_grams(k: Rows, m: Rows) -> float:
    squares = float((k**2).sum()) * float((m**2).sum())
    return _gamma_p_value(
        float((k * m).sum()) / len(k), np.diagonal(k).copy(), np.diagonal(m).copy(), squares
    )


def _gamma_p_value(statistic: float, of_f: Rows, of_g: Rows, squares: float) -> float:
    """p-value of `n |cov|^2`, from the squared norms of the features of each row.

    The terms of a row with itself are replaced by their mean: they vary with outlying rows, and
    say nothing about covariance.
    """
    n = len(of_f)
    mean, variance = float(of_f.mean() * of_g.mean()), 2.0 * squares / n**4
    if not variance > 0.0:
        return 1.0
    statistic += mean - float((of_f * of_g).mean())
    return float(gammaincc(mean**2 / variance, max(statistic, 0.0) * mean / variance))


def _count(columns: int) -> int:
    """Number of products of two columns."""
    return columns * (columns + 1) // 2


def _powers(rows: Rows, degree: int) -> Rows:
    """Centred columns, or their products of two, weighted as in `(x . x')^2`."""
    if degree == 2:
        i, j = np.triu_indices(rows.shape[1])
        rows = rows[:, i] * rows[:, j] * np.where(i == j, 1.0, 2.0**0.5)
    return np.asarray(rows - rows.mean(axis=0))


def _gram(rows: Rows, degree: int) -> Rows:
    """`H (X X')^degree H`, powers by element, with H the projection that removes the mean."""
    matrix = rows @ rows.T
    if degree == 2:
        matrix *= matrix
    means = matrix.mean(axis=0)
    matrix -= means
    matrix -= means[:, None]
    matrix += means.mean()
    return np.asarray(matrix)


def _largest_p_value(x: Rows, e: Rows) -> float:
    """p-value of test 2."""
    used = slice(None, None, -(-len(x) // MOST_ROWS))
    f, g = (_products(rows[used], most) for rows, most in zip((x, e), MOST_PRODUCTS, strict=True))
    if not (f.shape[1] and g.shape[1]):
        return 1.0
    z = float(np.abs(f.T @ g).max()) * len(f) ** 0.5
    return float(min(1.0, 2.0 * ndtr(-z) * f.shape[1] * g.shape[1]))


def _products(rows: Rows, most: int) -> Rows:
    """Unit columns: ranks and their squares, products of two ranks, products of 3 to 8 signs."""
    from scipy.stats import rankdata  # half a second to import

    p = min(rows.shape[1], most // 2)
    rows = rows[:, :p]
    ranks = 2.0 * rankdata(rows, axis=0) / (len(rows) + 1) - 1.0
    signs = np.sign(rows - np.median(rows, axis=0))
    parts: list[NDArray[np.float64]] = [ranks, ranks**2]
    count = 2 * p
    for degree in range(2, min(DEGREE, p) + 1):
        chosen = list(combinations(range(p), degree)) if comb(p, degree) <= most else []
        if not chosen or count + len(chosen) > most:
            break
        count += len(chosen)
        of = ranks if degree == 2 else signs
        parts.append(np.stack([of[:, list(columns)].prod(axis=1) for columns in chosen], axis=1))
    features = np.concatenate(parts, axis=1)
    features -= features.mean(axis=0)
    norms = np.linalg.norm(features, axis=0)
    wide = norms > 1e-6 * len(rows) ** 0.5
    return np.asarray(features[:, wide] / norms[wide])
