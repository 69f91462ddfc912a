"""Systems whose PID is known, because their pmf is: what the sampling benchmark draws from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Pmf = NDArray[np.float64]

# Points per bin at which the Gaussian density is summed. The sum defines the system; that it is
# close to the integral over the bin is of no consequence for the truth.
_POINTS = 12


def gaussian(bins: int) -> Pmf:
    """Y = 0.9 X1 + 0.5 X2 + 0.7 E with correlated sources (0.4), each in equal-frequency bins."""
    a, b, noise, rho = 0.9, 0.5, 0.7, 0.4
    sd = np.sqrt(a * a + b * b + 2.0 * a * b * rho + noise * noise)
    first, second = (a + b * rho) / sd, (b + a * rho) / sd
    return binned_gaussian([[1.0, rho, first], [rho, 1.0, second], [first, second, 1.0]], bins)


def tie(bins: int) -> Pmf:
    """Y = X1 + X2 + 0.8 E with exchangeable sources (0.2): both unique atoms are zero."""
    rho, noise = 0.2, 0.8
    sd = np.sqrt(2.0 + 2.0 * rho + noise * noise)
    c = (1.0 + rho) / sd
    return binned_gaussian([[1.0, rho, c], [rho, 1.0, c], [c, c, 1.0]], bins)


def categorical(bins: int) -> Pmf:
    """No order and no smoothness: Dirichlet sources, Y by a mixture of one-source channels.

    p(y | x1, x2) = 0.45 k1(y | x1) + 0.3 k2(y | x2) + 0.25 [y = x1 + x2 mod bins], with k1 and
    k2 drawn from Dirichlet(0.3).
    """
    rng = np.random.default_rng([2025, bins])
    sources = rng.dirichlet(np.full(bins * bins, 2.0)).reshape(bins, bins)
    first, second = (rng.dirichlet(np.full(bins, 0.3), size=bins) for _ in range(2))
    code = np.arange(bins)
    modular = np.eye(bins)[(code[:, None] + code) % bins]
    channel = 0.45 * first[:, None] + 0.3 * second[None] + 0.25 * modular
    p: Pmf = sources[..., None] * channel
    return p


def binned_gaussian(correlation: list[list[float]], bins: int) -> Pmf:
    """A trivariate normal distribution in equal-frequency bins, axes (x1, x2, y)."""
    precision = np.linalg.inv(np.array(correlation)) - np.eye(3)
    z = ndtri((np.arange(bins * _POINTS) + 0.5) / (bins * _POINTS))
    grid = np.stack(np.meshgrid(z, z, z, indexing="ij"))
    exponent = -0.5 * np.einsum("i...,ij,j...->...", grid, precision, grid)
    density = np.exp(exponent - exponent.max())
    cells = density.reshape(bins, _POINTS, bins, _POINTS, bins, _POINTS).sum(axis=(1, 3, 5))
    p: Pmf = cells / cells.sum()
    return p


SYSTEMS: dict[str, Callable[[int], Pmf]] = {
    "gaussian": gaussian,
    "categorical": categorical,
    "tie": tie,
}
