"""From values of questions to a certificate: images as units, one of the bounds, one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import cluster_means
from estimators.clustered import Labels, cluster_codes
from theory.certificates.bentkus import bentkus_p_value, bentkus_upper_bound
from theory.certificates.bernstein import bernstein_p_value, bernstein_upper_bound
from theory.certificates.betting import betting_bound, betting_p_value
from theory.certificates.certificate import RANGES, Certificate, check_request
from theory.certificates.clopper_pearson import (
    clopper_pearson_p_value,
    clopper_pearson_upper_bound,
)
from theory.certificates.hoeffding import hoeffding_p_value, hoeffding_upper_bound
from theory.conditions import drop_bound_from_disagreement

#: Methods that look at one value drawn from each image, and not at means over an image.
ONE_PER_IMAGE = ("clopper-pearson", "harm")

ASSUMED = (
    "the images are independent draws from the distribution the claim is about",
    "the plan was chosen without these images",
    "epsilon, delta, method and seed were fixed before the answers were seen",
)

Floats = NDArray[np.float64]

_BOUNDS: dict[str, Callable[[Floats, float, float, float], float]] = {
    "betting": betting_bound,
    "empirical-bernstein": bernstein_upper_bound,
    "hoeffding": hoeffding_upper_bound,
    "hoeffding-bentkus": bentkus_upper_bound,
}
_P_VALUES: dict[str, Callable[[Floats, float, float, float], Floats]] = {
    "betting": betting_p_value,
    "empirical-bernstein": bernstein_p_value,
    "hoeffding": hoeffding_p_value,
    "hoeffding-bentkus": bentkus_p_value,
}


@dataclass(frozen=True, eq=False)
class Sample:
    """One number per image, independent across images, ready for a bound.

    Attributes:
        values: array of shape (n_images,): means of the images, or 0/1 draws.
        low: smallest possible value.
        high: largest possible value.
        method: the bound it was made for.
        checked: what was verified on the way.
    """

    values: Floats
    low: float
    high: float
    method: str
    checked: tuple[str, ...]

    def upper_bound(self, delta: float) -> float:
        """Upper confidence bound on the mean; fails with probability at most delta."""
        if self.method in ONE_PER_IMAGE:
            failures = int(self.values.sum())
            return clopper_pearson_upper_bound(failures, self.values.size, delta)
        return _BOUNDS[self.method](self.values, delta, self.low, self.high)

    def p_value(self, limit: float) -> float:
        """p-value of "the mean is at least `limit`"."""
        if self.method in ONE_PER_IMAGE:
            return float(clopper_pearson_p_value(self.values, limit))
        return float(_P_VALUES[self.method](self.values, limit, self.low, self.high))


def certify_mean(
    values: ArrayLike,
    clusters: Labels,
    *,
    quantity: str,
    epsilon: float,
    delta: float,
    method: str = "auto",
    seed: int = 0,
    data_hash: str = "",
    plan_hash: str = "",
) -> Certificate:
    """Certify that the mean over images of the per-image means is at most epsilon.

    Questions of one image depend on each other, images do not: bounds treat each image as one
    draw. With m_j the mean of the values of image j, n images and a range [a, b]:

        betting              betting_upper_bound(m, delta), images in an order shuffled by `seed`
        hoeffding            mean(m) + (b - a) sqrt(log(1/delta) / (2 n))
        empirical-bernstein  mean(m) + sqrt(2 V log(2/delta) / n)
                             + 7 (b - a) log(2/delta) / (3 (n - 1))
        hoeffding-bentkus    the mean that neither a Chernoff nor a binomial tail refutes
        clopper-pearson      the (1 - delta) quantile of Beta(k + 1, n - k), k the number of ones
                             among one value per image, drawn by `seed` without looking at values
        harm                 the same with k the number of answers that went from right to
                             wrong: a drop is harm minus help, so harm bounds it

    Each bound fails with probability at most delta, for any distribution within the range.

    Args:
        values: array of shape (n_values,). "disagreement": 1 where the answer changed, else 0
            (or a probability in between, not for Clopper-Pearson). "accuracy_drop": score of
            the full model minus score of the skipped model, in [-1, 1].
        clusters: the image of each value, n_values hashable labels.
        quantity: "disagreement" or "accuracy_drop".
        epsilon: what is to be promised, in (0, 1).
        delta: probability that the promise may be wrong, in (0, 1). For several plans on the
            same images see `learn_then_test`, or pass delta / plans.
        method: one of the above ("clopper-pearson" for a disagreement and "harm" for a drop
            only), or "auto": Clopper-Pearson for a disagreement asked once per image, where it
            is the sharper one, else betting. "auto" looks at how often images were asked,
            never at answers.
        seed: fixes the order of images (betting) or the value drawn from each image
            (Clopper-Pearson, harm). Choose it before looking at values.
        data_hash: kept in the certificate.
        plan_hash: kept in the certificate.

    Returns:
        Certificate. Its estimate is the mean of m; for Clopper-Pearson and harm k / n.

    Raises:
        ValueError: unknown quantity or method, a method that cannot bound the quantity, values
            other than 0 and 1 (clopper-pearson) or -1, 0 and 1 (harm), epsilon or delta outside
            (0, 1), values empty, not finite or out of range, lengths that differ.

    Source:
        Waudby-Smith & Ramdas 2024, arXiv 2010.09686; Clopper & Pearson 1934; Hoeffding 1963,
        Theorem 2; Maurer & Pontil 2009, arXiv 0907.3740; Bates et al. 2021, arXiv 2101.02703.

    Example:
        >>> certify_mean(
        ...     [0, 0, 1, 0], ["a", "a", "b", "b"], quantity="disagreement", epsilon=0.5, delta=0.05
        ... ).holds
        False
    """
    if method == "auto":
        once = quantity == "disagreement" and bool((cluster_means(values, clusters)[1] == 1).all())
        method = "clopper-pearson" if once else "betting"
    check_request(quantity, epsilon, delta, method)
    sample = as_sample(values, clusters, quantity=quantity, method=method, seed=seed)
    bound = sample.upper_bound(delta)
    return Certificate(
        quantity=quantity,
        epsilon=epsilon,
        delta=delta,
        n_images=sample.values.size,
        bound=bound,
        holds=bound <= epsilon,
        estimate=float(sample.values.mean()),
        method=method,
        checked=sample.checked,
        assumed=ASSUMED,
        data_hash=data_hash,
        plan_hash=plan_hash,
    )


def label_free_drop(certificate: Certificate) -> Certificate:
    """A certificate of the accuracy drop from one of the disagreement; no label is read.

    drop <= P(answers differ): accuracy can only fall where an answer changed. The decision is
    `theory.conditions.drop_bound_from_disagreement`.

    Raises:
        ValueError: the certificate is not about a disagreement.

    Source:
        Statement S11d.

    Example:
        >>> first = certify_mean(
        ...     [0.0] * 149, range(149), quantity="disagreement", epsilon=0.02, delta=0.05
        ... )
        >>> print(label_free_drop(first))
        accuracy drop <= 0.0200 with probability 95 %
        (149 images, clopper-pearson, label-free): holds at epsilon 0.02
    """
    if certificate.quantity != "disagreement":
        raise ValueError(
            f"a label-free drop needs a certificate of disagreement, got {certificate.quantity}"
        )
    drop = drop_bound_from_disagreement(certificate.bound)
    return replace(
        certificate,
        quantity="accuracy_drop",
        label_free=True,
        bound=drop.value,
        holds=drop.value <= certificate.epsilon,
        checked=(*certificate.checked, *drop.checked),
        assumed=(*certificate.assumed, *drop.assumed),
    )


def as_sample(
    values: ArrayLike, clusters: Labels, *, quantity: str, method: str, seed: int
) -> Sample:
    """Values of questions as one number per image, in the form `method` needs.

    Raises:
        ValueError: as `certify_mean`.
    """
    means, _ = cluster_means(values, clusters)
    low, high = RANGES[quantity]
    x = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero((x < low) | (x > high))
    if bad.size:
        raise ValueError(
            f"values[{bad[0]}] is {x[bad[0]]:g}; a {quantity} lies in [{low:g}, {high:g}]"
        )
    n = means.size
    rng = np.random.default_rng(seed)
    checked = [f"every value lies in [{low:g}, {high:g}]"]
    if method in ONE_PER_IMAGE:
        allowed = (0.0, 1.0) if method == "clopper-pearson" else (-1.0, 0.0, 1.0)
        bad = np.flatnonzero(~np.isin(x, allowed))
        if bad.size:
            words = "0 or 1" if method == "clopper-pearson" else "-1, 0 or 1"
            raise ValueError(f"values[{bad[0]}] is {x[bad[0]]:g}; {method} needs {words}")
        drawn = x[_one_per_cluster(cluster_codes(clusters), rng)]
        checked.append(f"one value drawn from each of {n} images with seed {seed}")
        if method == "harm":
            checked.append("a drop is harm minus help, so at most harm")
        return Sample((drawn == 1.0).astype(np.float64), 0.0, 1.0, method, tuple(checked))
    checked.append(f"{x.size} values averaged within each of {n} images")
    means = np.clip(means, low, high)
    if method == "betting":
        means = means[rng.permutation(n)]
        checked.append(f"images in an order drawn with seed {seed}")
    return Sample(means, low, high, method, tuple(checked))


def _one_per_cluster(codes: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Position of one row of each cluster, uniformly drawn, clusters in order of their code."""
    shuffled = rng.permutation(codes.size)
    _, first = np.unique(codes[shuffled], return_index=True)
    return shuffled[first]
