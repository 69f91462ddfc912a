"""Do the rows look jointly Gaussian, as far as Gaussian information depends on it?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from estimators._arrays import Rows
from estimators.information._canonical import Canonical

#: What a statistic may differ by beyond four standard errors.
TOLERANCE = 0.1
#: How many of the strongest canonical pairs are looked at one by one.
PAIRS = 5
#: Standard errors at which the cross-covariance is said to change with the norm.
Z_INTERACTION = 6.0


def gaussian_checks(pair: Canonical) -> Iterator[str]:
    """What speaks against jointly Gaussian rows, a line each.

    1. Tails: Mardia's kurtosis of either side over its Gaussian value `d (d + 2)`.
    2. Row norms: the correlation of the squared norms of x and y over its Gaussian value
       `sum_i rho_i^2 / sqrt(p q)`. A scale that both sides of a row share (the norm of a token) is
       information that the Gaussian formula misreads by nats.
    3. Strongest pairs: the correlation of the squares of two canonical variates is `r^2`.
    4. Interaction: the cross-covariance of rows does not change with their norm,
       `E[x y' (|x|^2 - p)] = 2 E[x y']`, over all columns and between the strongest pairs.
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
    yield from _interaction(pair)


def _interaction(pair: Canonical) -> Iterator[str]:
    """Does the cross-covariance change with the norm of x, or of y?"""
    n = pair.rows
    x, y = pair.x * n**0.5, pair.y * n**0.5
    pairs = _strongest(pair)
    strong = [np.stack(side, axis=1) * n**0.5 for side in zip(*pairs, strict=True)]
    for name, side in (("x", x), ("y", y)):
        d = side.shape[1]
        weight = ((side**2).sum(axis=1) - d) / (2.0 * d) ** 0.5
        for a, b in ((x, y), *([(strong[0], strong[1])] if strong else [])):
            found = (a * weight[:, None]).T @ b / n
            change = found - 2.0 * (a.T @ b / n) / (2.0 * d) ** 0.5
            squares = (a**2 * weight[:, None] ** 2).T @ b**2 / n - found**2
            noise = float(squares.sum()) * pair.design_effect / n
            excess = float((change**2).sum()) - noise
            if excess > Z_INTERACTION * noise * (2.0 / found.size) ** 0.5:
                yield (
                    f"what x and y share changes with the norm of {name} "
                    f"({excess / noise:.1f} times the noise): the dependence is not Gaussian"
                )
                return


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
            variates.append((a @ column, b @ (other / length)))
    return variates
