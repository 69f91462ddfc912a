"""Closed forms for jointly Gaussian variables: S12g, S13, S15."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from theory._validate import check_number
from theory.conditions.bound import Bound, count, numbers, within

_GAUSSIAN = "the variables are jointly Gaussian"


def gaussian_information_from_correlation(correlation: float, *, d: int) -> Bound:
    """I(X; X') = -(d/2) log(1 - rho^2), for a cross-correlation of rho times the identity.

    Args:
        correlation: rho, in (-1, 1). One minus the mean cosine distance tends to rho only as d
            grows: at d = 1 and rho = .5 it gives .059 nats instead of .144.
        d: dimension, at least 1.

    Returns:
        Exact value in nats.

    Raises:
        ValueError: |rho| >= 1 (infinite information, as for an invertible map), or d below 1.

    Source:
        Statement S12g.

    Example:
        >>> round(gaussian_information_from_correlation(0.5, d=1).value, 3)
        0.144
    """
    if not -1.0 < check_number(correlation, "correlation") < 1.0:
        raise ValueError(
            f"correlation must lie strictly between -1 and 1, got {correlation}; the "
            "information is infinite at -1 and 1"
        )
    count(d, 1, "d")
    return Bound(
        quantity="I(X; X')",
        kind="exactly",
        value=-0.5 * d * math.log1p(-(correlation**2)),
        unit="nats",
        statement="S12g",
        checked=("|rho| < 1",),
        assumed=(_GAUSSIAN, "the covariances of X and X' are proportional to the identity"),
    )


def gaussian_information_floor(cross_covariance: ArrayLike) -> Bound:
    """I(X; X') >= -(d/2) log(1 - (tr C / d)^2), with C the cross-covariance of whitened states.

    Args:
        cross_covariance: C, array of shape (d, d), spectral norm below 1.

    Returns:
        Lower bound in nats.

    Raises:
        ValueError: C is not square or not finite, or has a singular value of 1 or more.

    Source:
        Statement S12g.

    Example:
        >>> round(gaussian_information_floor(0.5 * np.eye(3)).value, 3)
        0.432
    """
    c = numbers(cross_covariance, "cross_covariance", ndim=2)
    if c.shape[0] != c.shape[1]:
        raise ValueError(f"cross_covariance must be square, got {c.shape}")
    largest = float(np.linalg.norm(c, 2))
    if largest >= 1.0:
        raise ValueError(f"the largest singular value must be below 1, got {largest:g}")
    d = len(c)
    return Bound(
        quantity="I(X; X')",
        kind="at least",
        value=-0.5 * d * math.log1p(-((float(np.trace(c)) / d) ** 2)),
        unit="nats",
        statement="S12g",
        checked=(f"largest singular value {largest:.4g} is below 1",),
        assumed=(_GAUSSIAN, "the covariances of X and X' are the identity"),
    )


def gaussian_exit_loss(covariance: ArrayLike, *, n_vision: int) -> Bound:
    """I(Y; V|T) for a scalar Gaussian target: zero iff the partial covariance is zero.

    Args:
        covariance: array of shape (1 + v + t, 1 + v + t), covariance of (Y, V, T), positive
            definite.
        n_vision: v, the dimension of V, at least 1; t, the dimension of T, is at least 1 too.

    Returns:
        Exact value in nats.

    Raises:
        ValueError: the covariance is not symmetric positive definite, or too small for v.

    Source:
        Statement S13 (Barrett 2015, arXiv 1411.2832).

    Example:
        >>> c = np.array([[1.0, 0.6, 0.3], [0.6, 1.0, 0.5], [0.3, 0.5, 1.0]])
        >>> round(gaussian_exit_loss(c, n_vision=1).value, 4)
        0.176
    """
    c = numbers(covariance, "covariance", ndim=2)
    count(n_vision, 1, "n_vision")
    if c.shape[0] != c.shape[1] or not np.allclose(c, c.T, atol=1e-12):
        raise ValueError(f"covariance must be square and symmetric, got shape {c.shape}")
    if len(c) < n_vision + 2:
        raise ValueError(
            f"covariance of size {len(c)} has no text variables beside {n_vision} of vision"
        )
    if float(np.linalg.eigvalsh(c).min()) <= 0.0:
        raise ValueError("covariance must be positive definite")
    text = list(range(1 + n_vision, len(c)))
    given_text = _residual(c, text)
    given_both = _residual(c, list(range(1, len(c))))
    return Bound(
        quantity="I(Y; V|T)",
        kind="exactly",
        value=max(0.0, 0.5 * math.log(given_text / given_both)),
        unit="nats",
        statement="S13",
        checked=("covariance is symmetric and positive definite",),
        assumed=(_GAUSSIAN,),
    )


def refit_cost(noise_variance: float, *, n: int, d_text: int, d_vision: int) -> Bound:
    """sigma^2 d_V (n - 1) / ((n - d_T - 1)(n - d_T - d_V - 1)): excess risk of useless regressors.

    Increase of the expected squared error of ordinary least squares without intercept by d_V
    regressors that are useless given the other d_T. Removing them and refitting saves it.

    Args:
        noise_variance: sigma^2 >= 0.
        n: number of training points, above d_T + d_V + 1.
        d_text: d_T, at least 0.
        d_vision: d_V, at least 0.

    Returns:
        Exact value in the unit of the squared target ("loss").

    Raises:
        ValueError: a negative number, or too few points.

    Source:
        Statement S15a.

    Example:
        >>> round(refit_cost(1.0, n=40, d_text=10, d_vision=10).value, 3)
        0.708
    """
    within(noise_variance, 0.0, math.inf, "noise_variance")
    count(d_text, 0, "d_text")
    count(d_vision, 0, "d_vision")
    count(n, d_text + d_vision + 2, "n")
    rest = n - d_text - 1
    return Bound(
        quantity="extra squared error",
        kind="exactly",
        value=noise_variance * d_vision * (n - 1) / (rest * (rest - d_vision)),
        unit="loss",
        statement="S15a",
        checked=("n > d_T + d_V + 1",),
        assumed=(_GAUSSIAN, "regressors are isotropic and vision is useless given text"),
    )


def _residual(covariance: np.ndarray, given: list[int]) -> float:
    """Conditional variance of the first variable given the variables `given`."""
    cross = covariance[0, given]
    block = covariance[np.ix_(given, given)]
    return float(covariance[0, 0] - cross @ np.linalg.solve(block, cross))
