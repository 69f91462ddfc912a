"""Tests of joint Gaussianity, in the respects that matter to Gaussian information."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

from estimators._arrays import Rows
from estimators.information._canonical import (
    Canonical,
    largest_at_null,
    singular_values,
    svd,
    wilks_moments,
)
from estimators.information._dependence import dependences
from estimators.information._draws import repeats
from estimators.information._near import differences, excess_at_zero

#: Tolerated deviation of a statistic from its Gaussian value, beyond four standard errors.
TOLERANCE = 0.1
#: Least information, in nats, of scales that columns share before it is told.
LEAST_NATS = 0.01
#: Number of strongest canonical pairs that are tested one by one.
PAIRS = 5
#: Significance level of each of the six tests of linearity.
ALARM = 3e-4
#: Beyond this many columns on a side only its strongest canonical variates are tested.
MOST_FEATURES = 200


def gaussian_checks(pair: Canonical) -> Iterator[str]:
    """Messages of the tests that reject jointly Gaussian rows.

    1. Tails: Mardia's kurtosis of either side over its Gaussian value `d (d + 2)`.
    2. Row norms: the correlation of the squared norms of x and y over its Gaussian value
       `sum_i rho_i^2 / sqrt(p q)`. A scale shared by both sides of a row (the norm of a token) is
       information on which the Gaussian formula errs by nats.
    3. Strongest pairs: the correlation of the squares of two canonical variates is `r^2`. The
       squares of column i of x, and of what it leaves unexplained of column i of y, do not
       correlate, on the mean over the columns: each may share a scale too weak to be seen alone.
    4. Linearity: residuals of y after regression on x are independent of the squares of x, of x
       times its squared norm, and of all products of two and three significant canonical variates
       of x, and vice versa. Wilks' test, exact where y is Gaussian given x, for the significant
       canonical pairs and for all columns.
    5. Residuals: those of y after regression on x have Gaussian kurtosis, and their columns,
       products, signs and waves are independent of those of x (`_dependence`), and vice versa.
       No more rows than Gaussian ones lie near 0, nor do differences of x and y (`_near`).
    6. Repeated values: few rows are equal on both sides, few values in a column.
    """
    n = pair.rows
    squares = [n * (side**2).sum(axis=1) for side in (pair.x, pair.y)]
    for name, side, norm in zip("xy", (pair.x, pair.y), squares, strict=True):
        d = side.shape[1]
        ratio = float((norm**2).mean()) / (d * (d + 2))
        if abs(ratio - 1.0) > TOLERANCE + 4.0 * _error(pair, 8.0 / (d * (d + 2))):
            yield f"{name} is not Gaussian: its kurtosis is {ratio:.2f} times the Gaussian one"
    p, q = pair.dims
    expected = float(pair.squared.sum()) / (p * q) ** 0.5
    correlation = _correlation(*squares)
    if correlation - expected > TOLERANCE + 4.0 * _error(pair, 1.0):
        yield (
            f"the rows of x and y share a scale: their norms correlate by {correlation:.2f} "
            f"(Gaussian: {expected:.2f}); estimate norms and directions separately"
        )
    for number, (u, v) in enumerate(_strongest(pair)):
        r2 = float(pair.squared[number])
        correlation = _correlation(u**2, v**2)
        if abs(correlation - r2) > TOLERANCE + 4.0 * _error(pair, 1.0):
            yield (
                f"canonical pair {number} is not Gaussian: its squares correlate by "
                f"{correlation:.2f}, r^2 is {r2:.2f}"
            )
            break
    yield from _shared_scales(pair)
    yield from repeats(pair.columns, rows_used(pair))
    if pair.determined:
        return
    yield from _linearity(pair)
    yield from _residuals(pair)


def _shared_scales(pair: Canonical) -> Iterator[str]:
    """Test whether columns of the same number share scales, pooled over the columns."""
    x, y = (unit(side[rows_used(pair)]) for side in pair.columns)
    if x.shape != y.shape:
        return
    rest = y - x * (x * y).mean(axis=0)
    rest /= np.maximum(np.sqrt((rest**2).mean(axis=0)), 1e-12)
    terms = ((x**2 - 1.0) * (rest**2 - 1.0)).mean(axis=1) / 2.0
    mean, error = float(terms.mean()), float(terms.std()) / len(terms) ** 0.5
    # A correlation c of the squares of a pair is about c^2 / 2 nats.
    if mean > 5.0 * error and x.shape[1] * mean**2 / 2.0 > LEAST_NATS:
        yield (
            "the dependence is not Gaussian: the squares of the columns of x and of what they "
            f"leave unexplained of y correlate by {mean:.2f} on the mean"
        )


def _residuals(pair: Canonical) -> Iterator[str]:
    """Tests of the residuals of either side: their kurtosis, their independence of the other."""
    used = rows_used(pair)
    few = max(pair.dims) <= MOST_FEATURES
    x, y = (side[used] for side in pair.columns)
    for squares, count in differences(x, y, whole=few):
        if share := excess_at_zero(squares, count, len(used)):
            yield (
                f"the dependence is not Gaussian: in {share:.1%} more of the rows than if it were "
                "x - y is nearly 0"
            )
            return
    cross = pair.x.T @ pair.y
    for name, other, x, y, slopes, columns in (
        ("y", "x", pair.x, pair.y, cross, pair.columns),
        ("x", "y", pair.y, pair.x, cross.T, pair.columns[::-1]),
    ):
        taken = slice(None) if few else used
        rest = y[taken] - x[taken] @ slopes
        if few:
            rest = np.linalg.qr(rest)[0][used]
        of_columns = unit(columns[1])
        of_columns = of_columns[used] - x[used] @ (x.T @ of_columns)
        leverage = 1.0 / pair.rows + (x[used] ** 2).sum(axis=1, keepdims=True)
        near = _near(rest if few else None, of_columns, leverage, x.shape[1])
        of_columns, rest = unit(of_columns), unit(rest)
        ratio = float((of_columns**4).mean()) / 3.0
        error = (24.0 / (9.0 * of_columns.size)) ** 0.5
        if abs(ratio - 1.0) > TOLERANCE + 5.0 * error:
            yield (
                f"what {other} leaves unexplained of {name} is not Gaussian: its kurtosis is "
                f"{ratio:.2f} times the Gaussian one"
            )
            return
        if near:
            yield (
                f"the dependence is not Gaussian: {near:.1%} of the rows of {name} lie nearer to "
                f"their regression on {other} than Gaussian ones"
            )
            return
        for features in dependences(unit(x[used]), rest, (columns[0][used], of_columns)):
            yield (
                f"the dependence is not Gaussian: beyond its regression on {other}, {name} "
                f"depends on {features}"
            )
            return


def _near(whole: Rows | None, columns: Rows, leverage: Rows, lost: int) -> float:
    """Share of rows whose residuals, whitened or by column, are nearer to 0 than Gaussian ones."""
    n = len(columns)
    left = np.maximum(1.0 - leverage, 1.0 / n)
    norms = 0.0
    if whole is not None:
        squares = (whole**2).sum(axis=1, keepdims=True) / left
        norms = excess_at_zero(squares, whole.shape[1], n - 1 - lost)
    return norms or excess_at_zero(unit(columns) ** 2 / (n * left), 1, n - 1 - lost)


def rows_used(pair: Canonical) -> NDArray[np.int64]:
    """Numbers of independent rows: one, at random, of every cluster."""
    if pair.codes is None:
        return np.arange(pair.rows)
    order = np.random.default_rng(0).permutation(pair.rows)
    return np.sort(order[np.unique(pair.codes[order], return_index=True)[1]])


def unit(rows: Rows) -> Rows:
    """Centred columns of unit variance; columns of no variance stay 0."""
    largest = np.abs(rows).max(axis=0)
    centred = rows / np.where(largest > 0.0, largest, 1.0)  # so that no square overflows
    centred = centred - centred.mean(axis=0)
    scale = np.sqrt((centred**2).mean(axis=0))
    return np.asarray(centred / np.where(scale > 0.0, scale, 1.0))


def _linearity(pair: Canonical) -> Iterator[str]:
    """Tests whether the residuals of one side depend on the other side."""
    significant = int((pair.squared > largest_at_null(*pair.dims, pair.freedom)).sum())
    strong = _strongest(pair)[:significant]
    for name, other, x, y, side in (("y", "x", pair.x, pair.y, 0), ("x", "y", pair.y, pair.x, 1)):
        norm = pair.rows * (x**2).sum(axis=1)
        norm -= norm.mean()
        tests: list[tuple[str, Rows, Rows]] = []
        if strong:
            a, b = (
                np.stack([variates[k] for variates in strong], axis=1) for k in (side, 1 - side)
            )
            tests.append((f"{other} times its squared norm", a * norm[:, None], b))
            tests.append((f"products of the strongest directions of {other}", _products(a), b))
        if max(pair.dims) <= MOST_FEATURES:
            tests.append((f"{other} times its squared norm", x * norm[:, None], y))
            tests.append((f"the squares of {other}", x**2, y))
        for what, features, target in tests:
            if _dependent(pair, x, features, target) < ALARM:
                yield (
                    f"the dependence is not Gaussian: beyond its regression on {other}, "
                    f"{name} depends on {what}"
                )
                return


def _products(rows: Rows) -> Rows:
    """All products of two and of three columns of unit variance."""
    columns = unit(rows).T
    chosen = (
        some
        for degree in (2, 3)
        for some in combinations_with_replacement(range(len(columns)), degree)
    )
    return np.stack([columns[list(some)].prod(axis=0) for some in chosen], axis=1)


def _dependent(pair: Canonical, x: Rows, features: Rows, y: Rows) -> float:
    """p-value of independence of y and features of x, after regression of both on x."""
    v = pair.freedom - x.shape[1]
    if v < features.shape[1] + y.shape[1]:
        return 1.0
    sides = []
    for rows in (features - features.mean(axis=0), y):
        rest = rows - x @ (x.T @ rows)
        size = np.linalg.norm(rest, axis=0)
        # Columns that x determines (squares of two values, copies) leave nothing to test.
        left = size > 1e-6 * np.linalg.norm(rows, axis=0)
        if not left.any():
            return 1.0
        sides.append(np.linalg.qr(rest[:, left] / size[left])[0])
    p, q = (side.shape[1] for side in sides)
    singular = singular_values(sides[0].T @ sides[1])
    statistic = -0.5 * float(np.log1p(-np.minimum(singular**2, 1.0 - 1e-12)).sum())
    mean, variance = wilks_moments(p, q, v)
    # Wilks' statistic has nearly a gamma distribution with these moments.
    return float(gammaincc(mean**2 / variance, statistic * mean / variance))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Correlation of two samples; 0 where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0.0 else 0.0


def _error(pair: Canonical, variance: float) -> float:
    """Standard error of a mean over the effective number of rows."""
    return float((variance * pair.design_effect / pair.rows) ** 0.5)


def _strongest(pair: Canonical) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The canonical variates of the strongest pairs, each (n,) of unit norm."""
    flip = pair.x.shape[1] > pair.y.shape[1]
    a, b = (pair.y, pair.x) if flip else (pair.x, pair.y)
    cross = a.T @ b
    p = len(cross)
    vectors = svd(cross)[0][:, : min(p, PAIRS)]
    variates: list[tuple[Rows, Rows]] = []
    for column in vectors.T:
        image = cross.T @ column
        length = float(np.linalg.norm(image))
        if length > 1e-8:
            couple = (a @ column, b @ (image / length))
            variates.append(couple[::-1] if flip else couple)
    return variates
