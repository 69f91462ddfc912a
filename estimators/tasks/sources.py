"""Joint distributions of (x, y) whose mutual information is known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln

Floats = NDArray[np.float64]


class Source(Protocol):
    """A joint distribution of x in R^p and y in R^q."""

    @property
    def dims(self) -> tuple[int, int]:
        """(p, q)."""

    @property
    def mutual_information(self) -> float:
        """I(X; Y) in nats."""

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw n independent rows: arrays of shape (n, p) and (n, q)."""


@dataclass(frozen=True)
class Normal:
    """Jointly normal, with unit variances.

    I = -1/2 ln( det C / (det C_xx det C_yy) ).

    Attributes:
        correlation: C, rows as tuples, shape (p + q, p + q), positive definite.
        dim_x: p.

    Source:
        Cover & Thomas 2006, example 8.5.1.

    Example:
        >>> round(Normal(((1.0, 0.6), (0.6, 1.0)), 1).mutual_information, 6)
        0.223144
    """

    correlation: tuple[tuple[float, ...], ...]
    dim_x: int

    @property
    def dims(self) -> tuple[int, int]:
        """(p, q)."""
        return self.dim_x, len(self.correlation) - self.dim_x

    @property
    def mutual_information(self) -> float:
        """I(X; Y) in nats."""
        c, p = np.array(self.correlation), self.dim_x
        joint, x, y = (np.linalg.slogdet(m)[1] for m in (c, c[:p, :p], c[p:, p:]))
        return float(0.5 * (x + y - joint))

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw n independent rows: arrays of shape (n, p) and (n, q)."""
        factor = np.linalg.cholesky(np.array(self.correlation))
        rows = rng.standard_normal((n, len(factor))) @ factor.T
        return rows[:, : self.dim_x], rows[:, self.dim_x :]

    @classmethod
    def dense(cls, p: int, q: int, *, correlation: float = 0.5) -> Normal:
        """All pairs of variables have the same correlation."""
        c = np.full((p + q, p + q), correlation)
        np.fill_diagonal(c, 1.0)
        return cls(_rows(c), p)

    @classmethod
    def pairs(cls, p: int, q: int, *, count: int = 2, correlation: float = 0.8) -> Normal:
        """x_i and y_i are correlated for i < count; all other pairs are independent."""
        c = np.eye(p + q)
        for i in range(count):
            c[i, p + i] = c[p + i, i] = correlation
        return cls(_rows(c), p)


@dataclass(frozen=True)
class StudentT:
    """Multivariate Student t with identity dispersion: uncorrelated but dependent.

    All variables of a row share a random scale. With h(k) the differential entropy of the
    k-dimensional distribution, I = h(p) + h(q) - h(p + q), where up to terms linear in k

        h(k) = (v + k)/2 [psi((v + k)/2) - psi(v/2)] - ln Gamma((v + k)/2) + ln Gamma(v/2).

    Attributes:
        p: dimension of x.
        q: dimension of y.
        df: degrees of freedom v. Without variance for v <= 2, without mean for v <= 1.

    Source:
        Arellano-Valle, Contreras-Reyes & Genton 2013, equation 7.

    Example:
        >>> round(StudentT(1, 1, 1).mutual_information, 6)  # ln(8 pi) - 3
        0.224171
    """

    p: int
    q: int
    df: int

    @property
    def dims(self) -> tuple[int, int]:
        """(p, q)."""
        return self.p, self.q

    @property
    def mutual_information(self) -> float:
        """I(X; Y) in nats."""
        return self._entropy(self.p) + self._entropy(self.q) - self._entropy(self.p + self.q)

    def _entropy(self, k: int) -> float:
        """Differential entropy, without (k/2) ln(v pi), which cancels in the information."""
        half, joint = 0.5 * self.df, 0.5 * (self.df + k)
        scale = gammaln(half) - gammaln(joint)
        return float(scale + joint * (digamma(joint) - digamma(half)))

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw n independent rows: arrays of shape (n, p) and (n, q)."""
        scale = np.sqrt(self.df / rng.chisquare(self.df, size=(n, 1)))
        rows = rng.standard_normal((n, self.p + self.q)) * scale
        return rows[:, : self.p], rows[:, self.p :]


@dataclass(frozen=True)
class AdditiveUniform:
    """y = x + noise, x uniform on [0, 1], noise uniform on [-width, width].

    I = width - ln(2 width) for width <= 1/2, else 1/(4 width).

    Attributes:
        width: half the range of the noise, > 0.

    Source:
        Czyz et al. 2023, arXiv 2306.11078, appendix A.3.

    Example:
        >>> round(AdditiveUniform(0.75).mutual_information, 6)
        0.333333
    """

    width: float

    @property
    def dims(self) -> tuple[int, int]:
        """(1, 1)."""
        return 1, 1

    @property
    def mutual_information(self) -> float:
        """I(X; Y) in nats."""
        if self.width <= 0.5:
            return self.width - math.log(2.0 * self.width)
        return 0.25 / self.width

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw n independent rows: two arrays of shape (n, 1)."""
        x = rng.random((n, 1))
        return x, x + rng.uniform(-self.width, self.width, (n, 1))


def _rows(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in matrix)
