"""Streaming second moments of a pair of arrays, in memory O(d^2).

They give means, covariances, and biased or debiased HSIC and CKA with a linear kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import as_rows, paired
from estimators._cluster_sums import part_of

Floats = NDArray[np.float64]
#: Entries per block of rows that is converted to float64.
_BLOCK = 1 << 20


@dataclass(eq=False)
class _Sums:
    """Sums over rows a of x and b of y, taken about the origins."""

    n: int
    a: Floats  # sum a, (p,)
    b: Floats  # sum b, (q,)
    ab: Floats  # sum a b^T, (p, q)
    aa: float  # sum |a|^2
    bb: float  # sum |b|^2
    a_bb: Floats  # sum a |b|^2, (p,)
    b_aa: Floats  # sum b |a|^2, (q,)
    aa_bb: float  # sum |a|^2 |b|^2

    @classmethod
    def of(cls, a: Floats, b: Floats) -> Self:
        squares, others = (np.einsum("ij,ij->i", side, side) for side in (a, b))
        return cls(
            len(a),
            a.sum(axis=0),
            b.sum(axis=0),
            a.T @ b,  # half the work where b is a
            float(squares.sum()),
            float(others.sum()),
            others @ a,
            squares @ b,
            float(squares @ others),
        )

    def plus(self, other: _Sums) -> _Sums:
        """Sum of two with the same origins."""
        return _Sums(*(getattr(self, k) + getattr(other, k) for k in self.__dataclass_fields__))

    def moved(self, s: Floats, t: Floats) -> _Sums:
        """The sums of a + s and b + t."""
        ss, tt = float(s @ s), float(t @ t)
        bb = self.bb + 2.0 * float(t @ self.b) + self.n * tt
        aa = self.aa + 2.0 * float(s @ self.a) + self.n * ss
        crossed = self.ab @ t
        return _Sums(
            self.n,
            self.a + self.n * s,
            self.b + self.n * t,
            self.ab + np.outer(s, self.b) + np.outer(self.a + self.n * s, t),
            aa,
            bb,
            self.a_bb + 2.0 * crossed + tt * self.a + s * bb,
            self.b_aa + 2.0 * (s @ self.ab) + ss * self.b + t * aa,
            self.aa_bb
            + 2.0 * float(t @ self.b_aa)
            + tt * self.aa
            + 2.0 * float(s @ self.a_bb)
            + 4.0 * float(s @ crossed)
            + 2.0 * tt * float(s @ self.a)
            + ss * bb,
        )


class CrossMoments:
    """Streaming, mergeable second moments of rows x and y.

    Sums are centred at the mean of the first rows, so that a spread much smaller than the mean
    is not lost to rounding; `merge` shifts the other accumulator to that origin.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 3))
        >>> first, second = CrossMoments(), CrossMoments()
        >>> first.update(x[:200])
        >>> second.update(x[200:])
        >>> np.allclose(first.merge(second).covariance(), np.cov(x.T), atol=1e-12)
        True
    """

    def __init__(self) -> None:
        self._sums: _Sums | None = None
        self._origins: tuple[Floats, Floats] = (np.empty(0), np.empty(0))

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return 0 if self._sums is None else self._sums.n

    def update(self, x: Any, y: Any = None) -> None:
        """Add rows.

        Args:
            x: array or tensor of shape (n, p), n >= 1.
            y: array or tensor of shape (n, q); default x.

        Raises:
            ValueError: as `as_rows`; lengths differ; widths that changed.
        """
        a = as_rows(x, "x", constant="keep")
        b = a if y is None else as_rows(y, "y", constant="keep")
        paired(x=a, y=b)
        if self._sums is None:
            self._origins = (a.mean(axis=0), b.mean(axis=0))
        width = (a.shape[1], b.shape[1])
        if width != self.dims:
            raise ValueError(f"rows of widths {width} cannot join rows of widths {self.dims}")
        step = max(1, _BLOCK // max(width))
        for start in range(0, len(a), step):
            rows = a[start : start + step] - self._origins[0]
            others = rows if b is a else b[start : start + step] - self._origins[1]
            part = _Sums.of(rows, others)
            self._sums = part if self._sums is None else self._sums.plus(part)

    @property
    def dims(self) -> tuple[int, int]:
        """Widths (p, q) of the two sides; (0, 0) before the first rows."""
        return self._origins[0].size, self._origins[1].size

    def merge(self, other: CrossMoments) -> CrossMoments:
        """Merge two accumulators, as if filled in one pass; neither is changed.

        Raises:
            ValueError: the widths differ.
        """
        out = CrossMoments()
        first, second = (self, other) if self._sums is not None else (other, self)
        out._origins, out._sums = first._origins, first._sums
        if first._sums is not None and second._sums is not None:
            if first.dims != second.dims:
                raise ValueError(f"cannot merge widths {first.dims} with widths {second.dims}")
            shifts = (o - m for o, m in zip(second._origins, first._origins, strict=True))
            out._sums = first._sums.plus(second._sums.moved(*shifts))
        return out

    def means(self) -> tuple[Floats, Floats]:
        """Mean of x, shape (p,), and of y, shape (q,).

        Raises:
            ValueError: no rows.
        """
        sums = self._seen(1)
        return self._origins[0] + sums.a / sums.n, self._origins[1] + sums.b / sums.n

    def covariance(self) -> Floats:
        """Sample covariance of x with y, divided by n - 1; array of shape (p, q).

        Raises:
            ValueError: fewer than two rows.
        """
        sums = self._seen(2)
        return (sums.ab - np.outer(sums.a, sums.b) / sums.n) / (sums.n - 1)

    def products_about(self, x: Floats, y: Floats) -> Floats:
        """(p, q) `sum_i (x_i - x) (y_i - y)^T`."""
        products: Floats = self._seen(1).moved(self._origins[0] - x, self._origins[1] - y).ab
        return products

    def carriers(self) -> float:
        """Number of rows that would carry the second moments if all carried equal parts.

        `(sum |x|^2) (sum |y|^2) / sum |x|^2 |y|^2` about the means; n for rows of equal norms,
        infinite without spread.

        Raises:
            ValueError: no rows.
        """
        s = self._seen(1)
        s = s.moved(-s.a / s.n, -s.b / s.n)
        return s.aa * s.bb / s.aa_bb if s.aa_bb > 0.0 else math.inf

    def hsic(self, *, debiased: bool = True) -> float:
        """Hilbert-Schmidt independence criterion with a linear kernel.

        The biased form is |C|_F^2 with C the covariance of x with y, about
        tr(C_xx) tr(C_yy) / n for n rows of independent x and y. The debiased form, with K and L
        the kernel matrices without their diagonals, is

            [tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)] / (n (n-3)),

        whose expectation does not depend on n.

        Raises:
            ValueError: fewer than four rows.

        Source:
            Gretton et al. 2005; debiased: Song et al. 2012 (JMLR 13), equation 5.
        """
        sums = self._seen(4)
        n = sums.n
        if not debiased:
            return float((self.covariance() ** 2).sum())
        trace = float((sums.ab**2).sum()) - sums.aa_bb
        total = (float(sums.a @ sums.a) - sums.aa) * (float(sums.b @ sums.b) - sums.bb)
        crossed = float(sums.a @ sums.ab @ sums.b) + sums.aa_bb
        crossed -= float(sums.a @ sums.a_bb) + float(sums.b @ sums.b_aa)
        inner = trace + total / ((n - 1) * (n - 2)) - 2.0 * crossed / (n - 2)
        return inner / (n * (n - 3))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, to store or send.

        Raises:
            ValueError: no rows.
        """
        sums = self._seen(1)
        return {
            "n_rows": np.array([sums.n], dtype=np.int64),
            "origin_x": self._origins[0].copy(),
            "origin_y": self._origins[1].copy(),
            "sum_x": sums.a.copy(),
            "sum_y": sums.b.copy(),
            "cross": sums.ab.copy(),
            "weighted_x": sums.a_bb.copy(),
            "weighted_y": sums.b_aa.copy(),
            "squares": np.array([sums.aa, sums.bb, sums.aa_bb]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> CrossMoments:
        """Restore the moments from `to_arrays`, exactly.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        out = cls()
        p, q = part_of(arrays, "cross", (None, None)).shape
        shapes: dict[str, tuple[int | None, ...]] = {
            **dict.fromkeys(("origin_x", "sum_x", "weighted_x"), (p,)),
            **dict.fromkeys(("origin_y", "sum_y", "weighted_y"), (q,)),
            "cross": (p, q),
            "squares": (3,),
        }
        stored = {
            name: part_of(arrays, name, shape).astype(np.float64) for name, shape in shapes.items()
        }
        out._origins = (stored["origin_x"], stored["origin_y"])
        aa, bb, aa_bb = map(float, stored["squares"])
        out._sums = _Sums(
            int(part_of(arrays, "n_rows", (1,))[0]),
            stored["sum_x"],
            stored["sum_y"],
            stored["cross"],
            aa,
            bb,
            stored["weighted_x"],
            stored["weighted_y"],
            aa_bb,
        )
        return out

    def _seen(self, least: int) -> _Sums:
        if self._sums is None or self._sums.n < least:
            raise ValueError(f"at least {least} rows are needed, {self.n_rows} were accumulated")
        return self._sums


def moments_cka(
    x: CrossMoments, cross: CrossMoments, y: CrossMoments, *, debiased: bool = True
) -> float:
    """Linear CKA from streamed moments: HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)).

    Args:
        x: moments of x with itself.
        cross: moments of x with y, over the same rows.
        y: moments of y with itself.
        debiased: use the debiased HSIC; the biased CKA tends to 1 for any wide x and y. Debiased
            values may lie slightly outside [0, 1].

    Returns:
        A pure number; NaN if a side has no spread.

    Raises:
        ValueError: fewer than four rows.

    Source:
        Kornblith et al. 2019, arXiv 1905.00414, equation 4; debiased: Nguyen, Raghu & Kornblith
        2021, arXiv 2010.15327, equation 3.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b = rng.normal(size=(2, 40, 60))  # independent, more columns than rows
        >>> of_a, cross, of_b = CrossMoments(), CrossMoments(), CrossMoments()
        >>> of_a.update(a)
        >>> cross.update(a, b)
        >>> of_b.update(b)
        >>> round(moments_cka(of_a, cross, of_b, debiased=False), 1)
        0.6
        >>> abs(moments_cka(of_a, cross, of_b)) < 0.1
        True
    """
    scale = x.hsic(debiased=debiased) * y.hsic(debiased=debiased)
    return cross.hsic(debiased=debiased) / math.sqrt(scale) if scale > 0.0 else math.nan
