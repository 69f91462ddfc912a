"""Certificates from one value per question, with the image as the independent unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import cluster_means
from estimators.clustered import Labels, cluster_codes
from theory._validate import (
    check_array,
    check_choice,
    check_count,
    check_instance,
    check_text,
    reread,
)
from theory.certificates.anytime import anytime_p_value, anytime_upper_bound
from theory.certificates.bentkus import bentkus_p_value, bentkus_upper_bound
from theory.certificates.bernstein import bernstein_p_value, bernstein_upper_bound
from theory.certificates.betting import betting_p_value, betting_upper_bound
from theory.certificates.certificate import (
    METHODS,
    RANGES,
    Certificate,
    check_request,
    counted,
    unused,
)
from theory.certificates.clopper_pearson import (
    clopper_pearson_p_value,
    clopper_pearson_upper_bound,
)
from theory.certificates.hoeffding import hoeffding_p_value, hoeffding_upper_bound
from theory.conditions import drop_bound_from_disagreement

#: Methods that use one value drawn from each image instead of the mean over the image.
ONE_PER_IMAGE = ("clopper-pearson", "harm")

#: Conditions of every certificate that the data cannot show.
ASSUMED = (
    "the {units} are independent draws from the distribution the claim is about",
    "the plan was chosen without these {units}",
)

Floats = NDArray[np.float64]

_BOUNDS: dict[str, Callable[..., float]] = {
    "anytime": anytime_upper_bound,
    "betting": betting_upper_bound,
    "empirical-bernstein": bernstein_upper_bound,
    "hoeffding": hoeffding_upper_bound,
    "hoeffding-bentkus": bentkus_upper_bound,
}
_P_VALUES: dict[str, Callable[..., Floats]] = {
    "anytime": anytime_p_value,
    "betting": betting_p_value,
    "empirical-bernstein": bernstein_p_value,
    "hoeffding": hoeffding_p_value,
    "hoeffding-bentkus": bentkus_p_value,
}


@dataclass(frozen=True, eq=False)
class Sample:
    """One number per image, independent across images, prepared for a bound.

    Attributes:
        values: array of shape (n_images,): mean of each image, or a 0/1 draw from it.
        low: smallest possible value.
        high: largest possible value.
        method: bound the values were prepared for.
        checked: conditions verified on the data.
    """

    values: Floats
    low: float
    high: float
    method: str
    checked: tuple[str, ...]

    def upper_bound(self, delta: float) -> float:
        """Upper confidence bound on the mean, at level 1 - delta."""
        if self.method in ONE_PER_IMAGE:
            failures = int(self.values.sum())
            return clopper_pearson_upper_bound(failures, self.values.size, delta)
        return _BOUNDS[self.method](self.values, delta, low=self.low, high=self.high)

    def p_value(self, limit: float) -> float:
        """P-value of "the mean is at least `limit`"."""
        if self.method in ONE_PER_IMAGE:
            return float(clopper_pearson_p_value(self.values, limit))
        return float(_P_VALUES[self.method](self.values, limit, low=self.low, high=self.high))


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
    unit_word: str = "image",
) -> Certificate:
    """Certify that the mean over images of the per-image means is at most epsilon.

    Questions about the same image can be dependent; images are independent draws. With m_j the
    mean of the values of image j, n images and values in [a, b], the bounds are:

        anytime              anytime_upper_bound(m, delta): holds at every number of images at
                             once, so that images may be added until it is small enough
        betting              betting_upper_bound(m, delta), a mean over random orders of the images
        hoeffding            mean(m) + (b - a) sqrt(log(1/delta) / (2 n))
        empirical-bernstein  mean(m) + sqrt(2 V log(2/delta) / n)
                             + 7 (b - a) log(2/delta) / (3 (n - 1))
        hoeffding-bentkus    largest mean rejected by neither the Chernoff nor the binomial tail
        clopper-pearson      (1 - delta) quantile of Beta(k + 1, n - k), k the number of ones
                             among one value per image, drawn uniformly with `seed`
        harm                 the same, with k the number of answers that change from right to
                             wrong; it bounds the drop, which is harm minus help

    For any distribution on [a, b], each bound is below the true mean with probability at most
    delta (betting: over the draw of its orders too, see `estimators.betting_upper_bound`).

    Args:
        values: array of shape (n_values,). "disagreement": 1 where the answer changed, else 0
            (or a probability, except for Clopper-Pearson). "accuracy_drop": score of the full
            model minus score of the skipped model, in [-1, 1]. "length_change": in [0, 1].
        clusters: the image of each value, n_values hashable labels.
        quantity: "disagreement", "accuracy_drop" or "length_change".
        epsilon: tolerance, in (0, 1).
        delta: maximum error probability of the certificate, in (0, 1). For several plans on the
            same images use `learn_then_test`, or pass delta / plans.
        method: one of the above ("clopper-pearson" only for a disagreement, "harm" only for a
            drop), or "auto": Clopper-Pearson for a disagreement with one question per image,
            where it is tighter, otherwise betting. "auto" depends on the number of questions per
            image, never on the answers.
        seed: fixes the value drawn from each image (Clopper-Pearson, harm), in any order of the
            values. Choose it before inspecting them.
        data_hash: stored in the certificate.
        plan_hash: stored in the certificate.
        unit_word: what a cluster is, in the singular, for the sentences of the certificate.

    Returns:
        Certificate. Its estimate is the mean of m, or k / n for Clopper-Pearson and harm.

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
    check_array(values, "values")
    clusters = reread(clusters)
    check_count(seed, "seed", least=0)
    for name, text in (("data_hash", data_hash), ("plan_hash", plan_hash)):
        check_text(text, name, '"3f2a"')
    check_text(unit_word, "unit_word", '"image"')
    if method != "auto":
        check_choice(method, "method", METHODS)
    check_choice(quantity, "quantity", RANGES)
    if method == "auto":
        once = quantity == "disagreement" and bool((cluster_means(values, clusters)[1] == 1).all())
        method = "clopper-pearson" if once else "betting"
    check_request(quantity, epsilon, delta, method)
    of: Any = {"quantity": quantity, "seed": seed, "unit_word": unit_word}
    sample = as_sample(values, clusters, method=method, **of)
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
        assumed=assumed(sample.values.size, unit_word, method),
        data_hash=data_hash,
        plan_hash=plan_hash,
        unit_word=unit_word,
    )


def assumed(n: int, unit_word: str = "image", method: str = "") -> tuple[str, ...]:
    """Conditions of a certificate from `n` units that the data cannot show.

    An anytime certificate need not fix their number in advance.

    >>> assumed(300)[-1]
    'these 300 images were not used before'
    """
    fixed = f"epsilon, delta, method, seed and the number of {unit_word}s, {n}, were"
    if method == "anytime":
        fixed = f"delta, method and the order in which {unit_word}s are added were"
    return (
        *(condition.format(units=f"{unit_word}s") for condition in ASSUMED),
        f"{fixed} fixed before the answers were seen",
        unused(n, unit_word),
    )


def label_free_drop(certificate: Certificate) -> Certificate:
    """Turn a certificate of the disagreement into one of the accuracy drop, without labels.

    drop <= P(answers differ), because accuracy can fall only where an answer changes; see
    `theory.conditions.drop_bound_from_disagreement`.

    Raises:
        TypeError: not a certificate.
        ValueError: the certificate does not bound a disagreement.

    Source:
        Statement S11d.

    Example:
        >>> certificate = certify_mean(
        ...     [0.0] * 149, range(149), quantity="disagreement", epsilon=0.02, delta=0.05
        ... )
        >>> print(label_free_drop(certificate))
        accuracy drop <= 0.0200 with probability 95 %
        (149 images, clopper-pearson, label-free): holds at epsilon 0.02;
        assuming these 149 images were not used before
    """
    check_instance(certificate, Certificate, "certificate")
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
    values: ArrayLike,
    clusters: Labels,
    *,
    quantity: str,
    method: str,
    seed: int,
    unit_word: str = "image",
) -> Sample:
    """Reduce values per question to one number per image, as `method` requires.

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
            raise ValueError(
                f"values[{bad[0]}] is {x[bad[0]]:g}; {method} needs {words}; pass "
                'method="betting" for others'
            )
        drawn = _one_per_cluster(x, cluster_codes(clusters), rng)
        checked.append(f"one value drawn from each of {counted(n, unit_word)} with seed {seed}")
        if method == "harm":
            checked.append("a drop is harm minus help, so at most harm")
        return Sample((drawn == 1.0).astype(np.float64), 0.0, 1.0, method, tuple(checked))
    checked.append(f"{x.size} values averaged within each of {counted(n, unit_word)}")
    means = np.clip(means, low, high)
    return Sample(means, low, high, method, tuple(checked))


def _one_per_cluster(x: Floats, codes: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """One uniformly drawn value of each cluster, for values -1, 0 and 1.

    The draw shuffles the rows in an order that their content gives: by the size of the cluster, its
    numbers of ones and of minus ones, then by value. So the order of a file changes no count.
    """
    size, ones, minus = (
        np.bincount(codes, weights=w) for w in (np.ones_like(x), x == 1.0, x == -1.0)
    )
    content = np.lexsort((x, codes, minus[codes], ones[codes], size[codes]))
    shuffled = content[rng.permutation(codes.size)]
    _, first = np.unique(codes[shuffled], return_index=True)
    return x[shuffled[first]]
