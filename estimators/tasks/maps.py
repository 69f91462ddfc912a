"""Invertible maps of samples, which preserve mutual information.

Maps take rows of shape (n, d) and act row by row; all but `spiral` and `swiss_roll` act
elementwise.

Source:
    Czyz et al. 2023, arXiv 2306.11078, section 3 and appendix B.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]


def normal_cdf(x: Floats) -> Floats:
    """Phi(x): maps standard normal entries to uniform ones on (0, 1).

    Example:
        >>> normal_cdf(np.zeros((1, 2))).tolist()
        [[0.5, 0.5]]
    """
    return np.asarray(ndtr(x))


def half_cube(x: Floats) -> Floats:
    """sign(x) |x|^(3/2): heavier tails.

    Example:
        >>> half_cube(np.array([[-4.0, 4.0]])).tolist()
        [[-8.0, 8.0]]
    """
    return x * np.sqrt(np.abs(x))


def asinh(x: Floats) -> Floats:
    """Inverse hyperbolic sine: lighter tails.

    Example:
        >>> asinh(np.sinh([[2.0]])).tolist()
        [[2.0]]
    """
    return np.arcsinh(x)


def wiggly_x(x: Floats) -> Floats:
    """Increasing map x + .4 sin x + .2 sin(1.7 x + 1) + .03 sin(3.3 x - 2.5)."""
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1) + 0.03 * np.sin(3.3 * x - 2.5)


def wiggly_y(y: Floats) -> Floats:
    """Increasing map y - .4 sin(.4 y) + .17 sin(1.3 y + 3.5) + .02 sin(4.3 y - 2.5)."""
    waves = 0.17 * np.sin(1.3 * y + 3.5) + 0.02 * np.sin(4.3 * y - 2.5)
    return y - 0.4 * np.sin(0.4 * y) + waves


def bimodal_x(u: Floats) -> Floats:
    """Quantile of .3 N(0, 1) + .7 N(5, 1): maps uniform entries to a bimodal distribution."""
    return _mixture_quantile(u, 0.3, (0.0, 5.0))


def bimodal_y(u: Floats) -> Floats:
    """Quantile of .5 N(-1, 1) + .5 N(3, 1)."""
    return _mixture_quantile(u, 0.5, (-1.0, 3.0))


def swiss_roll(u: Floats) -> Floats:
    """(t cos t, t sin t) / 21 with t = 3 pi/2 (1 + 2 u): maps [0, 1] into the plane.

    Example:
        >>> swiss_roll(np.array([[0.5]])).round(6).tolist()  # t = 3 pi
        [[-0.448799, 0.0]]
    """
    t = 1.5 * np.pi * (1.0 + 2.0 * u[:, 0])
    return np.column_stack((t * np.cos(t), t * np.sin(t))) / 21.0


def spiral(x: Floats, plane: tuple[int, int]) -> Floats:
    """Rotate every row in a coordinate plane by the angle |x|^2 / d.

    Example:
        >>> x = np.array([[np.sqrt(np.pi), 0.0]])  # |x|^2 / 2 is a quarter of a turn
        >>> spiral(x, (0, 1)).round(6).tolist()
        [[0.0, 1.772454]]
    """
    i, j = plane
    angle = (x**2).sum(axis=1) / x.shape[1]
    out = x.copy()
    out[:, i] = np.cos(angle) * x[:, i] - np.sin(angle) * x[:, j]
    out[:, j] = np.sin(angle) * x[:, i] + np.cos(angle) * x[:, j]
    return out


def spiral_x(x: Floats) -> Floats:
    """`spiral` in the plane of the first two coordinates; d >= 2."""
    return spiral(x, (0, 1))


def spiral_y(y: Floats) -> Floats:
    """`spiral` in the plane of the second and third coordinate; d >= 3."""
    return spiral(y, (1, 2))


def _mixture_quantile(u: Floats, weight: float, centres: tuple[float, float]) -> Floats:
    """Inverse of weight Phi(t - first) + (1 - weight) Phi(t - second), by bisection."""
    low, high = np.full_like(u, -10.0), np.full_like(u, 15.0)
    for _ in range(60):  # 25 / 2^60 is below the spacing of float64
        middle = 0.5 * (low + high)
        below = weight * ndtr(middle - centres[0]) + (1.0 - weight) * ndtr(middle - centres[1]) < u
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)
