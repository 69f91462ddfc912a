"""A mean loss from few labels and many unlabelled answers: prediction-powered, finite-sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import betting_upper_bound
from estimators.record import Record
from theory._validate import check_array, check_fraction

#: Share of delta for the labels alone, and share of the rest for the unlabelled values.
LABELS_ALONE, UNLABELLED = 0.5, 0.1


@dataclass(frozen=True)
class PoweredBound(Record):
    """An upper confidence bound on a mean loss, and the two bounds of which it is the smaller.

    Attributes:
        bound: the smaller of both, in [0, 1].
        delta: maximum probability that it is below the mean loss, in (0, 1).
        labels_alone: bound from the labelled losses at `delta_labels`.
        powered: bound from proxies and their errors at delta - `delta_labels`.
        labels_at_delta: bound from the labelled losses if they had all of delta, for comparison;
            not valid beside `bound`.
        n_labelled: images with a label.
        n_unlabelled: images with a proxy alone.
        delta_labels: part of delta for the labels alone.
    """

    bound: float
    delta: float
    labels_alone: float
    powered: float
    labels_at_delta: float
    n_labelled: int
    n_unlabelled: int
    delta_labels: float


def powered_upper_bound(
    losses: ArrayLike,
    proxies: ArrayLike,
    unlabelled: ArrayLike,
    *,
    delta: float,
    labels_alone: float = LABELS_ALONE,
) -> PoweredBound:
    """Upper confidence bound on E[loss] from labelled losses and unlabelled proxies of it.

    A proxy f costs no label: 1 where the skipped model's answer differs from the full model's, say.
    E[loss] = E[f] + E[loss - f], and each part has its own bound by betting:

        powered = U(f of the unlabelled; [0, 1], d_1) + U(loss - f of the labelled; [-1, 1], d_2)
        bound   = min(powered, U(loss of the labelled; [0, 1], d_0)),   d_0 + d_1 + d_2 = delta.

    The split is fixed in advance: d_0 = labels_alone delta and d_1 = (delta - d_0) / 10, since the
    unlabelled images are many. By the union bound the minimum fails with probability at most delta.
    **It is never worse than the labels alone at level d_0**, whatever the proxy. Where no label
    loses, the labels with all of delta reach the same bound with log(1/delta) / log(1/d_0) of the
    images, 0.81 of them for delta = 5 % and one half: so much a worthless proxy can cost.

    The published interval is asymptotic: it takes the normal distribution for the mean of few
    labels, and where losses are rare, 100 labels show none and its width from labels is 0. These
    bounds hold for every number of images and every distribution.

    Args:
        losses: array of shape (n,) in [0, 1], one per labelled image.
        proxies: array of shape (n,) in [0, 1], of the same images.
        unlabelled: array of shape (m,) in [0, 1], proxies of other images drawn alike.
        delta: maximum probability that the bound is below E[loss], in (0, 1).
        labels_alone: share of delta for the labels alone, in (0, 1), chosen in advance.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: lengths that differ, no values, values outside [0, 1], delta or labels_alone
            outside (0, 1).

    Source:
        Angelopoulos, Bates, Fannjiang, Jordan & Zrnic 2023, arXiv 2301.09633, equation 1 and
        Algorithm 1 (mean); Waudby-Smith & Ramdas 2024, arXiv 2010.09686, for both bounds.

    Example:
        >>> labelled, many = [0.0] * 100, [0.0] * 5000
        >>> made = powered_upper_bound(labelled, labelled, many, delta=0.05)
        >>> round(made.labels_at_delta, 3), round(made.labels_alone, 3), round(made.powered, 3)
        (0.039, 0.048, 0.052)
    """
    y, f = _unit(losses, "losses"), _unit(proxies, "proxies")
    many = _unit(unlabelled, "unlabelled")
    check_fraction(delta, "delta")
    check_fraction(labels_alone, "labels_alone")
    if y.size != f.size:
        raise ValueError(f"losses and proxies must have one length, got {y.size} and {f.size}")
    first = labels_alone * delta
    second = UNLABELLED * (delta - first)
    alone = betting_upper_bound(y, delta=first)
    error = betting_upper_bound(y - f, delta=delta - first - second, lower=-1.0, upper=1.0)
    powered = min(1.0, betting_upper_bound(many, delta=second) + error)
    return PoweredBound(
        bound=max(0.0, min(alone, powered)),
        delta=delta,
        labels_alone=alone,
        powered=powered,
        labels_at_delta=betting_upper_bound(y, delta=delta),
        n_labelled=y.size,
        n_unlabelled=many.size,
        delta_labels=first,
    )


def _unit(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Values in [0, 1], at least one."""
    x = check_array(values, name).ravel()
    if not x.size or not ((x >= 0.0) & (x <= 1.0)).all():
        raise ValueError(f"{name} must be numbers in [0, 1], at least one, got {x[:3].tolist()}")
    return x
