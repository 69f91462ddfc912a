"""Whether rows are Gaussian enough for the Gaussian entropy."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
from scipy.special import gammaincc

from estimators._arrays import Rows
from estimators._content import row_hashes
from estimators.information._canonical import whiten

#: Significance level of each test.
ALARM = 1e-3
#: Entropy in nats that a significant deviation may cost before it is reported.
_NATS = 0.02
#: Rows used by the test of the joint distribution, whose cost is their square.
_ROWS = 3000
#: Gaussian samples that show what the test of the joint distribution reads by chance.
_NULLS = 3


def normality_reasons(white: Rows, columns: Rows, effect: float) -> list[str]:
    """Messages of the tests that reject Gaussian rows, each of cumulants of order 3 and 4.

    With k3 and k4 the skewness and the excess kurtosis of a column, its entropy is below the
    Gaussian one by about `k3^2 / 12 + k4^2 / 48` nats; `n (k3^2 / 6 + k4^2 / 24)` is chi-square
    with two degrees of freedom for a Gaussian column. The joint test sums the squares of all
    joint cumulants, which no rotation changes: with g_ij the inner product of whitened rows,

        b3 = mean g_ij^3,    b4 = mean g_ij^4 - 6 mean |y_i|^4 + 3 d (d + 2).

    Args:
        white: (n, d) whitened rows, of unit second moments.
        columns: (n, d) the same rows with their own columns.
        effect: rows per effective row.

    Source:
        Jarque & Bera 1987; Mardia 1970, Biometrika 57; Koziol 1989, Biometrika 76; negentropy:
        Comon 1994, Independent component analysis, equation (3.2).
    """
    n = len(white) / effect
    for name, rows in (("columns", columns), ("whitened columns", white)):
        centred = rows - rows.mean(axis=0)
        z = centred / np.sqrt((centred**2).mean(axis=0))
        third, fourth = (z**3).mean(axis=0) ** 2 / 6.0, ((z**4).mean(axis=0) - 3.0) ** 2 / 24.0
        each = third + fourth
        lost = 0.5 * (float(each.sum()) - 2.0 * len(each) / n)
        # One strong column among many weak ones, or all of them together.
        p = min(
            float(gammaincc(len(each), 0.5 * n * each.sum())),
            len(each) * float(gammaincc(1.0, 0.5 * n * each.max())),
        )
        if p < ALARM and lost > _NATS:
            return [f"x is not Gaussian: its {name} lack about {lost:.2g} nats of entropy"]
    lost, score = _joint(white)
    if score > 4.0 and lost > _NATS:
        return [f"x is not jointly Gaussian: it lacks about {lost:.2g} nats of entropy"]
    return []


def _joint(white: Rows) -> tuple[float, float]:
    """Entropy lost by the joint cumulants, in nats, and the same in standard errors."""
    # A sample that does not depend on the order of the file.
    part = white[np.argsort(row_hashes(white), kind="stable")[:_ROWS]]
    n, d = part.shape
    lost = _lost(part) - _lost_by_chance(n, d)
    # Of Gaussian rows, n times the sums of cumulants are 6 and 24 times chi-squares.
    third, fourth = (2.0 * comb(d + 2, 3)) ** 0.5, (2.0 * comb(d + 3, 4)) ** 0.5
    spread = 0.5 / n * float(np.hypot(third, fourth)) * (1.0 + 1.0 / _NULLS) ** 0.5
    return lost, lost / spread


def _lost(rows: Rows) -> float:
    """`b3 / 12 + b4 / 48` over pairs of different rows, whitened among themselves."""
    n, d = rows.shape
    y = n**0.5 * whiten(rows, "x")
    gram = y @ y.T
    norms = gram.diagonal().copy()
    np.fill_diagonal(gram, 0.0)
    squares = gram * gram
    pairs = n * (n - 1.0)
    cubes = float(np.vdot(squares, gram)) / pairs
    fourths = float(np.vdot(squares, squares)) / pairs
    fourths += 3.0 * d * (d + 2) - 6.0 * float((norms**2).mean())
    return float(cubes / 12.0 + fourths / 48.0)


@lru_cache(maxsize=32)
def _lost_by_chance(n: int, d: int) -> float:
    """Mean of `_lost` over samples of n Gaussian rows: whitening has biased it."""
    rng = np.random.default_rng([n, d])
    return float(np.mean([_lost(rng.normal(size=(n, d))) for _ in range(_NULLS)]))
