"""A quantile of the loss: nearly all images, and not the mean image, lose little."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from estimators import cluster_means
from estimators.clustered import Labels
from estimators.record import Record
from theory._validate import check_array, check_count, check_fraction, check_number, check_text
from theory.certificates.certificate import confidence, counted
from theory.certificates.certify import assumed


@dataclass(frozen=True)
class QuantileCertificate(Record):
    """An upper confidence bound on a quantile of the loss of an image.

    Attributes:
        share: of images whose loss the quantile is not exceeded by, in (0, 1).
        limit: largest quantile that is allowed, in the unit of the loss.
        delta: maximum probability that `bound` is below the quantile, in (0, 1).
        n_images: number of independent units.
        bound: upper confidence bound, in the unit of the loss; infinite for too few units.
        holds: whether bound <= limit.
        share_within: share of these images whose loss is at most `limit`.
        assumed: conditions that cannot be verified on the data.
        unit_word: what a unit is, in the singular.

    Raises:
        ValueError: `holds` contradicts `bound`.
    """

    share: float
    limit: float
    delta: float
    n_images: int
    bound: float
    holds: bool
    share_within: float
    assumed: tuple[str, ...]
    unit_word: str = "image"

    def __post_init__(self) -> None:
        if self.holds != (self.bound <= self.limit):
            raise ValueError(f"holds={self.holds} contradicts bound {self.bound:g}")

    def sentence(self) -> str:
        """The certificate in one sentence."""
        bound = f"{self.bound:.4g}" if math.isfinite(self.bound) else "nothing finite"
        return (
            f"loss of {100 * self.share:g} % of {self.unit_word}s <= {bound} with probability "
            f"{confidence(self.delta)} ({counted(self.n_images, self.unit_word)}, order "
            f"statistic): {'holds' if self.holds else 'does NOT hold'} at {self.limit:g}"
        )


def quantile_upper_bound(values: ArrayLike, share: float, delta: float) -> float:
    """Upper confidence bound on the quantile q = inf {x : P(X <= x) >= share}.

    The bound is the order statistic X_(k) with the smallest k such that P(Binomial(n, share) >= k)
    <= delta: X_(k) < q needs k of the values below q, and each lies there with probability below
    `share`, or equal to it. It is exact for a continuous loss and cautious where values are tied.

    Args:
        values: array of shape (n,), one loss per image, independent.
        share: in (0, 1), such as 0.9 for the 90 % quantile.
        delta: maximum probability that the bound is below q, in (0, 1).

    Returns:
        The bound, in the unit of `values`; infinite if even the largest value is not enough, that
        is if share^n > delta (`images_for_quantile`).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no values, a value that is NaN, share or delta outside (0, 1).

    Source:
        Wilks 1941; David & Nagaraja 2003, Order Statistics, section 7.1.

    Example:
        >>> losses = [i / 100 for i in range(100)]
        >>> quantile_upper_bound(losses, 0.9, 0.05), quantile_upper_bound(losses[:20], 0.9, 0.05)
        (0.95, inf)
    """
    from scipy.stats import binom  # half a second to import

    x = np.sort(check_array(values, "values").ravel())
    check_fraction(share, "share")
    check_fraction(delta, "delta")
    if not x.size or np.isnan(x).any():
        raise ValueError(f"values must be numbers, at least one, got {x[-1:].tolist()}")
    tails = binom.sf(np.arange(x.size), x.size, share)  # P(K >= k) for k = 1..n
    enough = np.flatnonzero(tails <= delta)
    return float(x[enough[0]]) if enough.size else math.inf


def images_for_quantile(share: float, delta: float) -> int:
    """Smallest number of images with which any bound on the quantile is finite: share^n <= delta.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: share or delta outside (0, 1).

    Example:
        >>> images_for_quantile(0.9, 0.05)
        29
    """
    check_fraction(share, "share")
    check_fraction(delta, "delta")
    n = max(1, math.floor(math.log(delta) / math.log(share)))
    return n if share**n <= delta else n + 1


def certify_quantile(
    values: ArrayLike,
    clusters: Labels,
    *,
    share: float,
    limit: float,
    delta: float,
    unit_word: str = "image",
) -> QuantileCertificate:
    """Certify that the loss of a share of all images is at most a limit.

    The loss of an image is the mean of its values. Unlike a mean, a quantile does not let many
    images without loss outweigh a few that lose all. `quantile_upper_bound` gives the bound.

    Args:
        values: array of shape (n_values,), losses of any unit.
        clusters: the image of each value, n_values hashable labels.
        share: of images, in (0, 1).
        limit: largest loss that is allowed for them, in the unit of `values`.
        delta: error probability, in (0, 1).
        unit_word: what a cluster is, in the singular.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: as `quantile_upper_bound`; lengths that differ, or a limit that is NaN.

    Example:
        >>> values = [0.0] * 95 + [1.0] * 5
        >>> print(certify_quantile(values, range(100), share=0.9, limit=0.0, delta=0.05).sentence())
        loss of 90 % of images <= 1 with probability 95 % (100 images, order statistic): does NOT
        hold at 0
    """
    x = check_array(values, "values")
    check_text(unit_word, "unit_word", '"image"')
    if math.isnan(check_number(limit, "limit")):
        raise ValueError("limit must be a number, got nan")
    means, _ = cluster_means(x, clusters)
    bound = quantile_upper_bound(means, share, delta)
    return QuantileCertificate(
        share=share,
        limit=float(limit),
        delta=delta,
        n_images=check_count(means.size, "clusters"),
        bound=bound,
        holds=bound <= limit,
        share_within=float((means <= limit).mean()),
        assumed=assumed(means.size, unit_word),
        unit_word=unit_word,
    )
