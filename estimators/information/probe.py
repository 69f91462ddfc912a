"""Lower bound of the mutual information with a label, from a cross-fitted probe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._request import Request
from estimators.information.mixed import most_of_labels
from estimators.usable.crossfit import held_out_losses, probes_of


def probe(
    x: Rows, labels: NDArray[np.int64], ask: Request, *, probes: str = "auto", folds: int = 5
) -> Estimate:
    """`I(X;Y) >= H(Y) - E[-log q(y | x)]`, with q a probe trained on other clusters.

    A lower bound in expectation, in any dimension, whose distance from the truth is unknown. The
    information lies between the bound and the entropy of the label, and so does the interval: it
    is reliable only where the probe explains nearly all of the label.

    Args:
        x: (n, p) rows.
        labels: (n,) codes.
        ask: level and clusters of the estimate.
        probes: "linear", "mlp" (needs torch) or "auto".
        folds: number of cross-fitting folds of clusters.

    Raises:
        ValueError: unknown probes, or fewer clusters than folds.

    Source:
        Barber and Agakov 2003, The IM algorithm, NIPS, eq. (3).
    """
    codes = np.arange(len(x)) if ask.codes is None else ask.codes
    family = probes_of(probes, len(x))
    without = held_out_losses(None, labels, codes, family, folds, ask.seed)
    terms = without - held_out_losses(x, labels, codes, family, folds, ask.seed)
    bound, half = float(terms.mean()), ask.z * ask.variance_of_mean(terms) ** 0.5
    most = most_of_labels(labels, ask)
    estimate = ask.information(
        bound,
        (bound - half, most),
        most=most,
        n=len(x),
        d=x.shape[1] + 1,
        method=f"lower bound by a {'/'.join(member.name for member in family)} probe",
        doubts=[],
        diagnostics={"folds": folds, "bound": bound, "bound_half_width": half},
    )
    if estimate.reliable:
        return estimate
    reason = f"a probe only bounds the information from below: {estimate.reason}"
    return replace(estimate, reason=reason)
