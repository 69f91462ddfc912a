"""Tests of the noise of a Gaussian PID: what is left of the target after regression on sources."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from estimators._arrays import Rows

#: Tolerated deviation of a kurtosis from the Gaussian one, as a share, beyond 4 standard errors.
_TOLERANCE = 0.1
#: Significance level of the test of products, over all products together.
_ALARM = 3e-4
#: Columns of the target whose noise is tested, and of the sources whose products are.
_MOST_TARGETS, _MOST_SOURCES = 50, 200


def noise_doubts(x: Rows, y: Rows, v: float) -> Iterator[str]:
    """Messages of the tests that reject Gaussian noise.

    1. The kurtosis of the residual of each column of y given x is 3. With little noise, as in a
       near copy, the kurtosis of y itself does not show the noise, on which the information
       depends.
    2. The residuals do not correlate with products of two columns of x, which carry synergy that
       no covariance shows (a parity). For Gaussian noise the correlation is Student's.

    Args:
        x: (n, p) orthonormal columns that span the centred sources.
        y: (n, q) orthonormal columns that span the centred target.
        v: degrees of freedom: effective number of rows - 1.
    """
    n = len(x)
    left = y[:, :_MOST_TARGETS] - x @ (x.T @ y[:, :_MOST_TARGETS])
    left = left / np.sqrt((left**2).mean(axis=0))
    kurtosis = (left**4).mean(axis=0) / 3.0
    error = (24.0 / v) ** 0.5 / 3.0
    worst = int(np.abs(kurtosis - 1.0).argmax())
    if abs(kurtosis[worst] - 1.0) > _TOLERANCE + 4.0 * error:
        yield (
            f"the noise is not Gaussian: the kurtosis of y[:, {worst}] given the sources is "
            f"{kurtosis[worst]:.2f} times the Gaussian one"
        )
    sides = x[:, :_MOST_SOURCES] * n**0.5
    freedom = v - x.shape[1] - 1.0
    if freedom < 2.0:
        return
    correlations = np.array([_correlation_with_products(sides, column) for column in left.T])
    count = correlations.size
    strongest = min(float(np.abs(correlations).max()), 1.0 - 1e-12)
    t = strongest * (freedom / (1.0 - strongest**2)) ** 0.5
    if 2.0 * count * float(stdtr(freedom, -t)) < _ALARM:
        yield (
            f"y depends on a product of two columns of the sources (correlation {strongest:.2f}), "
            "which a Gaussian PID does not see"
        )


def _correlation_with_products(x: Rows, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """(p, p) correlations of the noise with the products of standard columns of x."""
    n = len(x)
    means = x.T @ x / n
    squares = (x**2).T @ (x**2) / n - means**2
    products = (x * noise[:, None]).T @ x / n - means * noise.mean()
    return np.asarray(products / np.sqrt(np.maximum(squares, 1e-12)))
