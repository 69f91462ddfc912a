"""Conditional mutual information of Gaussian variables: partial correlations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._canonical import RANKS, Canonical, canonical
from estimators.information._checks import rows_used, unit
from estimators.information._dependence import dependences
from estimators.information._draws import draws, repeats
from estimators.information._request import Request
from estimators.information.copula import front_of_ranks, normal_scores
from estimators.information.spiked import of_pair

Codes = NDArray[np.int64]


def gaussian_conditional(x: Rows, y: Rows, z: Rows, ask: Request) -> Estimate:
    """I(X;Y|Z) of jointly Gaussian variables: `gaussian_pair` of the residuals on z.

    The canonical correlations of the residuals are the partial ones; regression on z costs d_z
    degrees of freedom. Reliable only if the residuals are independent of z, as far as products of
    columns and of signs show.

    Raises:
        ValueError: n - 1 < d_x + d_y + d_z.
    """
    pair = partial(x, y, z, ask.codes)
    return of_pair(
        pair,
        ask,
        method="gaussian (unbiased and spiked)",
        front={},
        doubts=[*repeats((x, y, z), draws(ask, len(x))[0]), *depends_on(z, pair)],
    )


def copula_conditional(x: Rows, y: Rows, z: Rows, ask: Request) -> Estimate:
    """`gaussian_conditional` of the normal scores of every column, with `copula`'s bias."""

    def of_scores(x: Rows, y: Rows, z: Rows, codes: Codes | None) -> Canonical:
        return partial(normal_scores(x), normal_scores(y), normal_scores(z), codes)

    pair = of_scores(x, y, z, ask.codes)
    front = front_of_ranks(pair, of_scores, (x, y, z), ask)
    doubts = list(repeats((x, y, z), draws(ask, len(x))[0]))
    left = min(float(side.std(axis=0).min()) for side in pair.columns)
    if left < RANKS / len(x):
        doubts.append(
            f"z determines a column of x or y to within {left:.1g} of its scale, which {len(x)} "
            "ranks do not resolve"
        )
    doubts += depends_on(normal_scores(z), pair)
    return of_pair(pair.by_ranks(), ask, method="copula", doubts=doubts, **front)


def partial(x: Rows, y: Rows, z: Rows, codes: Codes | None) -> Canonical:
    """Canonical correlations of the residuals of x and y after regression on z."""
    left_x, left_y = _residuals(z, unit(x), unit(y))
    return canonical(left_x, left_y, codes, lost=z.shape[1])


def depends_on(z: Rows, pair: Canonical) -> Iterator[str]:
    """Message if the residuals of x and y depend on z, as Gaussian ones do not."""
    used = rows_used(pair)
    basis = np.linalg.qr(unit(z))[0][used]
    columns = np.concatenate([unit(side[used]) for side in pair.columns], axis=1)
    white = np.concatenate([unit(side[used]) for side in (pair.x, pair.y)], axis=1)
    for features in dependences(unit(basis), white, (z[used], columns)):
        yield (
            f"the dependence on z is not linear: beyond their regression on z, x and y depend on "
            f"{features}"
        )
        return


def _residuals(z: Rows, *sides: Rows) -> list[Rows]:
    """Residuals of every side after least-squares regression on z and a constant."""
    design = np.c_[np.ones(len(z)), unit(z)]
    basis = np.linalg.qr(design)[0]
    left = [side - basis @ (basis.T @ side) for side in sides]
    for side, rest in zip(sides, left, strict=True):
        if (rest.std(axis=0) < 1e-7 * side.std(axis=0)).any():
            raise ValueError("a column of x or y is a linear function of z; drop it")
    return left
