"""Mutual information under a Gaussian copula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._canonical import Canonical, canonical
from estimators.information._checks import unit
from estimators.information._request import Request
from estimators.information.gaussian import unbiased
from estimators.information.spiked import of_pair

Codes = NDArray[np.int64]


def copula(x: Rows, y: Rows, ask: Request) -> Estimate:
    """Mutual information of variables with a Gaussian copula and any marginals.

    Each column is replaced by its normal scores `Phi^-1(rank / (n + 1))`, which preserves mutual
    information; then `gaussian_pair`. Consistent if the joint copula is Gaussian, otherwise a
    lower bound in the limit.

    Ranks differ from the scores of the true marginals by `n^(-1/2)`, which counts where x and y
    nearly determine each other. The bias is of order 1/n and hence the change `I_half - I` between
    half of the rows and all; it is subtracted, and is one of the standard errors of the interval.
    Nearer copies than 10 ranks are not resolved: the interval then has no upper end.

    Raises:
        ValueError: n - 1 < d_x + d_y.

    Source:
        Ince et al. 2017, A statistical framework for neuroimaging data analysis based on mutual
        information estimated via a Gaussian copula, Hum. Brain Mapp. 38.
    """

    def of_scores(some: Rows, other: Rows, codes: Codes | None) -> Canonical:
        return canonical(normal_scores(some), normal_scores(other), codes)

    pair = of_scores(x, y, ask.codes)
    front = front_of_ranks(pair, of_scores, (x, y), ask)
    return of_pair(pair.by_ranks(), ask, method="copula", **front)


def front_of_ranks(
    pair: Canonical, of_scores: Callable[..., Canonical], sides: tuple[Rows, ...], ask: Request
) -> dict[str, Any]:
    """Bias and diagnostics of an estimate from ranks, for `of_pair`."""
    bias = 0.0
    if not pair.by_ranks().determined:
        try:
            of_halves = [
                unbiased(of_scores(*(side[half] for side in sides), _codes_of(ask, half)))[0]
                for half in ask.halves(len(sides[0]))
            ]
        except ValueError:  # too few rows in half of them: then intervals are wide
            of_halves = []
        if of_halves:
            bias = sum(of_halves) / len(of_halves) - unbiased(pair)[0]
    return {"bias": bias, "front": {"bias_of_ranks": bias}}


def _codes_of(ask: Request, half: Codes) -> Codes | None:
    """Cluster numbers of some rows, counted from 0."""
    if ask.codes is None:
        return None
    return np.unique(ask.codes[half], return_inverse=True)[1].astype(np.int64)


def look_gaussian(rows: Rows, draw: Codes) -> bool:
    """Whether every column passes Shapiro and Francia's test of a normal law.

    `n (1 - W) <= 4 + ln d` with W the squared correlation of the ordered column with its normal
    scores (simulated: the 99 % point of n (1 - W) is 4.0 to 4.7 for n = 100 to 10,000).

    Source:
        Shapiro and Francia 1972, An approximate analysis of variance test for normality, J. Am.
        Stat. Assoc. 67.
    """
    n, d = len(draw), rows.shape[1]
    scores = ndtri(np.arange(1, n + 1) / (n + 1))
    ordered = np.sort(unit(rows[draw]), axis=0)
    w = (scores @ ordered) ** 2 / (n * float(scores @ scores))
    return bool((n * (1.0 - w) <= 4.0 + np.log(d)).all())


def normal_scores(rows: Rows) -> Rows:
    """(n, d) `Phi^-1(rank / (n + 1))` by column; ties share their mean rank.

    Example:
        >>> normal_scores(np.array([[3.0], [1.0], [2.0]])).round(3).ravel().tolist()
        [0.674, -0.674, 0.0]
    """
    from scipy.stats import rankdata  # half a second to import

    return np.asarray(ndtri(rankdata(rows, axis=0) / (len(rows) + 1)))
