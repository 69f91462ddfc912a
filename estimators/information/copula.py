"""Mutual information under a Gaussian copula."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._canonical import canonical
from estimators.information._request import Request
from estimators.information.spiked import of_pair


def copula(x: Rows, y: Rows, ask: Request) -> Estimate:
    """Mutual information of variables with a Gaussian copula and any marginals.

    Each column is replaced by its normal scores `Phi^-1(rank / (n + 1))`, which preserves mutual
    information; then `gaussian_pair`. Consistent if the joint copula is Gaussian, otherwise a
    lower bound in the limit.

    Raises:
        ValueError: n - 1 < d_x + d_y.

    Source:
        Ince et al. 2017, A statistical framework for neuroimaging data analysis based on mutual
        information estimated via a Gaussian copula, Hum. Brain Mapp. 38.
    """
    pair = canonical(normal_scores(x), normal_scores(y), ask.codes)
    return of_pair(pair, ask, method="copula", front={})


def normal_scores(rows: Rows) -> Rows:
    """(n, d) `Phi^-1(rank / (n + 1))` by column; ties share their mean rank.

    Example:
        >>> normal_scores(np.array([[3.0], [1.0], [2.0]])).round(3).ravel().tolist()
        [0.674, -0.674, 0.0]
    """
    from scipy.stats import rankdata  # half a second to import

    return np.asarray(ndtri(rankdata(rows, axis=0) / (len(rows) + 1)))
