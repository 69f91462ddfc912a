"""PID of jointly Gaussian vectors, exact from their covariance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._pmf import check_unit
from estimators.decomposition.gaussian_union import channel, union_information
from estimators.decomposition.result import PID

Floats = NDArray[np.float64]

#: Certified gap, in nats, that counts as converged; the true error is far smaller.
_CONVERGED = 1e-3
#: Least eigenvalue of a correlation matrix that is positive definite beyond rounding.
_SINGULAR = 1e-13


def pid_from_covariance(cov: ArrayLike, dims: tuple[int, int, int], *, unit: str = "nats") -> PID:
    """BROJA PID of jointly Gaussian vectors of any dimensions, from their covariance.

    `I_union = min over covariances with the same (X1, Y) and (X2, Y) blocks of I(X1, X2; Y)`; a
    joint Gaussian attains the BROJA optimum. A scalar target has `I_union = max(I1, I2)`.

    Args:
        cov: (d, d) positive definite covariance of (X1, X2, Y), d the sum of `dims`.
        dims: dimensions of X1, X2 and Y.
        unit: "nats" or "bits".

    Returns:
        PID with a certified gap: the union information lies in `[lower, upper]`.

    Raises:
        ValueError: wrong shape, numbers that are not finite, a matrix that is not symmetric or
            not positive definite, an unknown unit.

    Source:
        Venkatesh et al. 2023, arXiv 2307.10515; arXiv 2510.04417 (a Gaussian is optimal);
        Barrett 2015, arXiv 1411.2832 (scalar target).

    Example:
        >>> cov = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0]])  # Y plus noise each
        >>> result = pid_from_covariance(cov, (1, 1, 1), unit="bits")
        >>> round(result.redundant, 6), round(result.unique_1, 6) == 0.0
        (0.5, True)
    """
    check_unit(unit)
    matrix = _checked(cov, dims)
    first, second, target = _slices(dims)
    i1, i2 = _information(matrix, first, target), _information(matrix, second, target)
    total = _information(matrix, slice(0, second.stop), target)
    union = union_information(channel(matrix, first, target), channel(matrix, second, target))
    # I1 and I2 bound the union information from below, the total bounds it from above.
    upper = min(max(union.value, i1, i2), total)
    lower = max(min(union.lower, upper), i1, i2) if upper > max(i1, i2) else upper
    redundant, unique_1, unique_2, synergistic = atoms_of(i1, i2, total, upper)
    result = PID(
        redundant=redundant,
        unique_1=unique_1,
        unique_2=unique_2,
        synergistic=synergistic,
        unit="nats",
        measure="broja",
        method="gaussian, exact",
        lower=lower,
        upper=upper,
        gap=upper - lower,
        iterations=union.iterations,
        converged=upper - lower <= _CONVERGED,
        diagnostics={"d_1": dims[0], "d_2": dims[1], "d_y": dims[2]},
    )
    return result.to_unit(unit)


def quantities(cov: Floats, dims: tuple[int, int, int], *, change: float = 1e-15) -> Floats:
    """(4,) I(X1;Y), I(X2;Y), I(X1,X2;Y) and the union, in nats; `change` ends the solver."""
    first, second, target = _slices(dims)
    i1, i2 = _information(cov, first, target), _information(cov, second, target)
    total = _information(cov, slice(0, second.stop), target)
    channels = channel(cov, first, target), channel(cov, second, target)
    union = union_information(*channels, change=change).value
    return np.array([i1, i2, total, min(max(union, i1, i2), total)])


def atoms_of(i1: float, i2: float, total: float, union: float) -> tuple[float, float, float, float]:
    """Redundant, unique 1, unique 2 and synergistic information."""
    return i1 + i2 - union, union - i2, union - i1, total - union


def _slices(dims: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    a, b, c = np.cumsum(dims).tolist()
    return slice(0, a), slice(a, b), slice(b, c)


def _information(cov: Floats, source: slice, target: slice) -> float:
    """`1/2 ln det(I + H H')` of the channel from target to source."""
    h = channel(cov, source, target)
    return 0.5 * float(np.log1p((h**2).sum(axis=1)).sum())


def _checked(cov: ArrayLike, dims: tuple[int, int, int]) -> Floats:
    matrix = np.asarray(cov, dtype=np.float64)
    if min(dims) < 1:
        raise ValueError(f"dims are the three dimensions of X1, X2 and Y, got {dims}")
    d = sum(dims)
    if matrix.shape != (d, d):
        raise ValueError(f"dims {dims} need a covariance of shape {(d, d)}, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        where = tuple(np.argwhere(~np.isfinite(matrix))[0].tolist())
        raise ValueError(f"cov{list(where)} is {matrix[where]}; all entries must be finite")
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-12 * float(np.abs(matrix).max())):
        raise ValueError("cov is not symmetric")
    message = "cov is not positive definite: some column is a linear combination of others"
    if (np.diagonal(matrix) <= 0.0).any():
        raise ValueError(message)
    scale = 1.0 / np.sqrt(np.diagonal(matrix))
    scaled = np.asarray(matrix * scale[:, None] * scale[None, :])
    try:
        np.linalg.cholesky(scaled - _SINGULAR * np.eye(d))
    except np.linalg.LinAlgError:
        raise ValueError(message) from None
    return scaled
