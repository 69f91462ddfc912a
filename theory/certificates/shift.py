"""A certificate for other inputs than those at hand, by importance weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from estimators import betting_interval, betting_upper_bound, cluster_means
from estimators.clustered import Labels
from theory._validate import check_array, check_number, check_text
from theory.certificates.certificate import RANGES, Certificate, check_request, counted
from theory.certificates.certify import assumed

#: Level of the interval that checks whether the weights have mean 1.
_LEVEL = 0.999


def certify_shifted(
    values: ArrayLike,
    weights: ArrayLike,
    clusters: Labels,
    *,
    largest_weight: float,
    epsilon: float,
    delta: float,
    data_hash: str = "",
    plan_hash: str = "",
    unit_word: str = "image",
) -> Certificate:
    """Certify the disagreement on deployment inputs, from certification inputs drawn otherwise.

    With w(x) = p_deployment(x) / p_certification(x), E_deployment[loss] = E_certification[w loss].
    The products w_j m_j, with m_j the mean loss of image j, lie in [0, B] for B = largest_weight,
    and `betting_upper_bound` bounds their mean. The bound holds for every number of images; that
    the weights are right it cannot know, except that their mean must be 1: weights whose mean
    clearly is another (99.9 % interval) are refused.

    Args:
        values: array of shape (n_values,) in [0, 1]: 1 where the answer changed, else 0.
        weights: array of shape (n_values,), w of the image of each value, in [0, B].
        clusters: the image of each value, n_values hashable labels; its weight is one number.
        largest_weight: B, at least 1, known before the data: the larger, the wider the bound.
        epsilon: tolerance on deployment inputs, in (0, 1).
        delta: error probability, in (0, 1).
        data_hash: stored in the certificate.
        plan_hash: stored in the certificate.
        unit_word: what a cluster is, in the singular.

    Returns:
        Certificate of a disagreement, by betting, with a caveat that names the weights.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: values outside [0, 1], weights outside [0, B], of another length, of different
            values within an image or of another mean than 1, B below 1 or infinite, epsilon or
            delta outside (0, 1).

    Source:
        Tibshirani, Barber, Candes & Ramdas 2019, arXiv 1904.06019, section 2 (weights);
        Waudby-Smith & Ramdas 2024, arXiv 2010.09686 (bound).

    Example:
        >>> weights = [0.5] * 300 + [2.0] * 150  # deployment asks the rare kind twice as often
        >>> made = certify_shifted(
        ...     [0.0] * 450, weights, range(450), largest_weight=2.0, epsilon=0.05, delta=0.05
        ... )
        >>> made.holds, round(made.bound, 3)
        (True, 0.018)
    """
    check_request("disagreement", epsilon, delta, "betting")
    for name, text in (
        ("data_hash", data_hash),
        ("plan_hash", plan_hash),
        ("unit_word", unit_word),
    ):
        check_text(text, name, '"image"')
    x, w = check_array(values, "values"), check_array(weights, "weights")
    most = check_number(largest_weight, "largest_weight")
    if not 1.0 <= most < math.inf:
        raise ValueError(f"largest_weight must be a number of at least 1, got {largest_weight}")
    if x.shape != w.shape:
        raise ValueError(f"values and weights must have one length, got {x.size} and {w.size}")
    low, high = RANGES["disagreement"]
    for name, array, top in (("values", x, high), ("weights", w, most)):
        bad = np.flatnonzero(~((array >= low) & (array <= top)))
        if bad.size:
            raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]:g}; it must lie in [0, {top:g}]")
    means, _ = cluster_means(x, clusters)
    of_image, _ = cluster_means(w, clusters)
    squares, _ = cluster_means(w * w, clusters)
    if (squares - of_image**2 > 1e-9 * most**2).any():
        raise ValueError("weights must be one number for each image, not one for each question")
    least, largest = betting_interval(of_image, level=_LEVEL, lower=0.0, upper=most)
    if not least <= 1.0 <= largest:
        raise ValueError(
            f"weights must have mean 1 over certification inputs; theirs is {of_image.mean():.3g} "
            f"({least:.3g} to {largest:.3g})"
        )
    weighted = means * np.minimum(of_image, most)
    bound = min(1.0, betting_upper_bound(weighted, delta=delta, lower=0.0, upper=most))
    n = means.size
    made = Certificate(
        quantity="disagreement",
        epsilon=epsilon,
        delta=delta,
        n_images=n,
        bound=bound,
        holds=bound <= epsilon,
        estimate=float(weighted.mean()),
        method="betting",
        checked=(
            "every value lies in [0, 1]",
            f"{x.size} values averaged within each of {counted(n, unit_word)}",
            f"every weight lies in [0, {most:g}], and their mean may be 1",
        ),
        assumed=assumed(n, unit_word),
        data_hash=data_hash,
        plan_hash=plan_hash,
        unit_word=unit_word,
    )
    said = f"on inputs that the given weights, at most {most:g}, describe rightly"
    return replace(made, caveats=(said,), assumed=(*made.assumed, "the weights are right"))
