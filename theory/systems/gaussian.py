"""Gaussian systems with closed-form information and PID, and their images under bijections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._validate import check_count, check_counts, check_number, shown
from theory.systems.gates import ATOMS, UNITS

Floats = NDArray[np.float64]

#: Bijections of the real line, applied to every coordinate; information is invariant under them.
BIJECTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "identity": lambda x: x,
    "cube": lambda x: x**3,
    "exp": np.exp,
    "sinh": np.sinh,
    "half-cube": lambda x: x + np.sign(x) * x**2,
}


@dataclass(frozen=True, eq=False)
class GaussianSystem:
    """A jointly Gaussian target Y and sources V and T of mean zero, in this order.

    Attributes:
        covariance: array of shape (y + v + t, y + v + t), positive definite.
        dims: dimensions (y, v, t), each at least 1.
        bijection: key of `BIJECTIONS`, applied to every coordinate of a sample.

    Raises:
        ValueError: the covariance does not match `dims` or is not symmetric positive definite,
            or unknown bijection.

    Example:
        >>> system = gaussian_system((1, 2, 3), seed=0)
        >>> system.image("exp").information("V") == system.information("V")
        True
    """

    covariance: Floats
    dims: tuple[int, int, int]
    bijection: str = "identity"

    def __post_init__(self) -> None:
        c = np.asarray(self.covariance, dtype=np.float64)
        if min(self.dims) < 1 or c.shape != (sum(self.dims),) * 2:
            raise ValueError(f"covariance of shape {c.shape} does not match dimensions {self.dims}")
        if not np.allclose(c, c.T, atol=1e-10) or float(np.linalg.eigvalsh(c).min()) <= 0.0:
            raise ValueError("covariance must be symmetric and positive definite")
        if self.bijection not in BIJECTIONS:
            raise ValueError(
                f"unknown bijection '{self.bijection}'; choose from {', '.join(BIJECTIONS)}"
            )
        object.__setattr__(self, "covariance", c)

    def information(self, sources: str = "VT", *, unit: str = "nats") -> float:
        """I(Y; X) = (log det S_Y + log det S_X - log det S_YX) / 2 for X = V, T or (V, T).

        Args:
            sources: "V", "T" or "VT".
            unit: "nats" or "bits".

        Raises:
            ValueError: unknown sources or unit.
        """
        y, v, t = self.dims
        axes_of = {"V": range(y, y + v), "T": range(y + v, y + v + t), "VT": range(y, y + v + t)}
        if sources not in axes_of:
            raise ValueError(f"unknown sources '{sources}'; choose from V, T, VT")
        if unit not in UNITS:
            raise ValueError(f"unknown unit '{unit}'; choose from {', '.join(UNITS)}")
        target, source = list(range(y)), list(axes_of[sources])
        logs = [self._logdet(axes) for axes in (target, source, target + source)]
        return 0.5 * (logs[0] + logs[1] - logs[2]) * UNITS[unit]

    def atoms(self, *, unit: str = "nats") -> dict[str, float]:
        """MMI atoms, equal to the BROJA atoms for a scalar target (Barrett 2015).

        Raises:
            ValueError: the target is not scalar, or unknown unit.
        """
        if self.dims[0] != 1:
            raise ValueError(
                f"the closed form needs a scalar target, this target has {self.dims[0]} dimensions"
            )
        first, second, total = (self.information(s, unit=unit) for s in ("V", "T", "VT"))
        shared = min(first, second)
        values = (shared, first - shared, second - shared, total - first - second + shared)
        return dict(zip(ATOMS, values, strict=True))

    def image(self, bijection: str) -> GaussianSystem:
        """Image of the system under a bijection of every coordinate; same informations and PID.

        Raises:
            ValueError: unknown bijection.
        """
        return replace(self, bijection=bijection)

    def sample(self, n: int, *, seed: int) -> tuple[Floats, Floats, Floats]:
        """Draw n samples of Y, V and T: arrays of shape (n, y), (n, v) and (n, t).

        Raises:
            ValueError: n is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        rng = np.random.default_rng(seed)
        draws = rng.standard_normal((n, sum(self.dims))) @ np.linalg.cholesky(self.covariance).T
        images = BIJECTIONS[self.bijection](draws)
        y, v, _ = self.dims
        return images[:, :y], images[:, y : y + v], images[:, y + v :]

    def _logdet(self, axes: list[int]) -> float:
        """Log-determinant of the marginal covariance on `axes`."""
        return float(np.linalg.slogdet(self.covariance[np.ix_(axes, axes)])[1])


def gaussian_system(dims: tuple[int, int, int], *, seed: int) -> GaussianSystem:
    """Random system of dimensions (y, v, t) with unit variances.

    Raises:
        ValueError: a dimension is below 1.

    Example:
        >>> gaussian_system((1, 4, 2), seed=1).covariance.shape
        (7, 7)
    """
    check_count(seed, "seed", least=0)
    if len(check_counts(dims, "dims")) != 3:
        raise ValueError(f"dims must be three dimensions, got {shown(dims)}")
    if min(dims) < 1:
        raise ValueError(f"every dimension must be at least 1, got {dims}")
    size = sum(dims)
    factors = np.random.default_rng(seed).standard_normal((size, size + 2))
    c = factors @ factors.T
    scale = 1.0 / np.sqrt(np.diag(c))
    return GaussianSystem(c * scale[:, None] * scale, dims)


def scalar_gaussian(yv: float, yt: float, vt: float) -> GaussianSystem:
    """Jointly Gaussian scalars Y, V and T of unit variance with the given correlations.

    Raises:
        ValueError: a correlation is not between -1 and 1, or their matrix is not positive
            definite.

    Source:
        Barrett 2015, arXiv 1411.2832, section III.

    Example:
        >>> round(scalar_gaussian(0.5, 0.5, 0.0).atoms()["synergistic"], 4)
        0.2027
    """
    for name, number in (("yv", yv), ("yt", yt), ("vt", vt)):
        if not -1.0 < check_number(number, name) < 1.0:
            raise ValueError(f"{name} must lie strictly between -1 and 1, got {number}")
    c: ArrayLike = [[1.0, yv, yt], [yv, 1.0, vt], [yt, vt, 1.0]]
    return GaussianSystem(np.array(c), (1, 1, 1))
