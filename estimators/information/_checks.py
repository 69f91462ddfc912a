"""Do the rows look jointly Gaussian, as far as Gaussian information depends on it?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import gammaincc

from estimators._arrays import Rows
from estimators.information._canonical import Canonical, largest_at_null, wilks_moments

#: What a statistic may differ by beyond four standard errors.
TOLERANCE = 0.1
#: How many of the strongest canonical pairs are looked at one by one.
PAIRS = 5
#: Chance of a false alarm, for each of the six tests of linearity.
ALARM = 3e-4
#: Beyond this many columns on a side only its strongest canonical variates are tested.
MOST_FEATURES = 200


def gaussian_checks(pair: Canonical) -> Iterator[str]:
    """What speaks against jointly Gaussian rows, a line each.

    1. Tails: Mardia's kurtosis of either side over its Gaussian value `d (d + 2)`.
    2. Row norms: the correlation of the squared norms of x and y over its Gaussian value
       `sum_i rho_i^2 / sqrt(p q)`. A scale that both sides of a row share (the norm of a token) is
       information that the Gaussian formula misreads by nats.
    3. Strongest pairs: the correlation of the squares of two canonical variates is `r^2`.
    4. Linearity: what is left of y after its regression on x does not depend on x, neither on the
       squares of x nor on x times its squared norm; and the other way round. Wilks' test, exact
       where y is Gaussian given x; once for the canonical pairs that stand out, once for all.
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
    found = float(np.corrcoef(*squares)[0, 1])
    if found - expected > TOLERANCE + 4.0 * _error(pair, 1.0):
        yield (
            f"the rows of x and y share a scale: their norms correlate by {found:.2f} "
            f"(Gaussian: {expected:.2f}); estimate norms and directions apart"
        )
    for number, (u, v) in enumerate(_strongest(pair)):
        r2 = float(pair.squared[number])
        found = float(np.corrcoef(u**2, v**2)[0, 1])
        if abs(found - r2) > TOLERANCE + 4.0 * _error(pair, 1.0):
            yield (
                f"canonical pair {number} is not Gaussian: its squares correlate by {found:.2f}, "
                f"r^2 is {r2:.2f}"
            )
            break
    yield from _linearity(pair)


def _linearity(pair: Canonical) -> Iterator[str]:
    """Do the residuals of one side depend on the other?"""
    kept = int((pair.squared > largest_at_null(*pair.dims, pair.freedom)).sum())
    strong = _strongest(pair)[:kept]
    for name, other, x, y, side in (("y", "x", pair.x, pair.y, 0), ("x", "y", pair.y, pair.x, 1)):
        tests: list[tuple[Rows, Rows]] = []
        if strong:
            columns = [np.stack([one[i] for one in strong], axis=1) for i in (side, 1 - side)]
            tests += [(columns[0], columns[1])]
        if max(pair.dims) <= MOST_FEATURES:
            tests += [(x, y)]
        norm = pair.rows * (x**2).sum(axis=1)
        norm -= norm.mean()
        for a, b in tests:
            for what, features in (
                (f"{other} times its squared norm", a * norm[:, None]),
                (f"the squares of {other}", a**2),
            ):
                if _dependent(pair, x, features, b) < ALARM:
                    yield (
                        f"the dependence is not Gaussian: beyond its regression on {other}, "
                        f"{name} depends on {what}"
                    )
                    return


def _dependent(pair: Canonical, x: Rows, features: Rows, y: Rows) -> float:
    """p-value of the independence of y and features of x, both less their regression on x."""
    p, q, v = features.shape[1], y.shape[1], pair.freedom - x.shape[1]
    if v < p + q:
        return 1.0
    sides = []
    for rows in (features - features.mean(axis=0), y):
        rest = rows - x @ (x.T @ rows)
        sides.append(np.linalg.qr(rest / np.linalg.norm(rest, axis=0))[0])
    singular = np.linalg.svd(sides[0].T @ sides[1], compute_uv=False)
    found = -0.5 * float(np.log1p(-np.minimum(singular**2, 1.0 - 1e-12)).sum())
    mean, variance = wilks_moments(p, q, v)
    # A gamma variable with these moments: Wilks' statistic is nearly one.
    return float(gammaincc(mean**2 / variance, found * mean / variance))


def _error(pair: Canonical, variance: float) -> float:
    """Standard error of a mean over the independent rows' worth."""
    return float((variance * pair.design_effect / pair.rows) ** 0.5)


def _strongest(pair: Canonical) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The canonical variates of the strongest pairs, each (n,) of unit norm."""
    flip = pair.x.shape[1] > pair.y.shape[1]
    a, b = (pair.y, pair.x) if flip else (pair.x, pair.y)
    cross = a.T @ b
    p = len(cross)
    vectors = eigh(cross @ cross.T, subset_by_index=[max(0, p - PAIRS), p - 1])[1][:, ::-1]
    variates: list[tuple[Rows, Rows]] = []
    for column in vectors.T:
        other = cross.T @ column
        length = float(np.linalg.norm(other))
        if length > 1e-8:
            found = (a @ column, b @ (other / length))
            variates.append(found[::-1] if flip else found)
    return variates
