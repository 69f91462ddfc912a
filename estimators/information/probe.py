"""Mutual information with a label, from below: what a cross-fitted probe gets out of x."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._request import Request
from estimators.usable.crossfit import held_out_losses, probes_of


def probe(
    x: Rows, labels: NDArray[np.int64], ask: Request, *, probes: str = "auto", folds: int = 5
) -> Estimate:
    """`I(X;Y) >= H(Y) - E[-log q(y | x)]`, with q a probe that never saw the row's cluster.

    A lower bound in expectation, whatever the dimension; how far below, no sample can tell. So
    its interval is that of the bound, and it is called reliable as a bound only, as the
    method's name says.

    Args:
        x: (n, p) rows.
        labels: (n,) codes.
        ask: level and clusters.
        probes: "linear", "mlp" (needs torch) or "auto".
        folds: of the cross-fitting, by cluster.

    Raises:
        ValueError: unknown probes, or fewer clusters than folds.

    Source:
        Barber and Agakov 2003, The IM algorithm, NIPS, eq. (3).
    """
    codes = np.arange(len(x)) if ask.codes is None else ask.codes
    family = probes_of(probes, len(x))
    without = held_out_losses(None, labels, codes, family, folds, ask.seed)
    terms = without - held_out_losses(x, labels, codes, family, folds, ask.seed)
    return ask.estimate(
        float(terms.mean()),
        ask.variance_of_mean(terms),
        n=len(x),
        d=x.shape[1] + 1,
        method=f"lower bound by a {'/'.join(one.name for one in family)} probe",
        doubts=[],
        diagnostics={"folds": folds},
    )
