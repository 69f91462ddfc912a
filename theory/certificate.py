"""`Certificate`: an upper bound on what a plan costs, that holds with known probability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from estimators import betting_upper_bound, cluster_means, serial
from estimators.clustered import Labels, cluster_codes
from theory._validate import check_fraction

SCHEMA_VERSION = 1
RANGES = {"disagreement": (0.0, 1.0), "accuracy_drop": (-1.0, 1.0)}
METHODS = ("betting", "clopper-pearson", "hoeffding")

_ASSUMED = (
    "the images are independent draws from the distribution the claim is about",
    "the plan was chosen without these images",
    "epsilon, delta, method and seed were fixed before the answers were seen",
)


@dataclass(frozen=True)
class Certificate:
    """An upper confidence bound on a mean over images, held against a promised epsilon.

    Attributes:
        quantity: "disagreement" (share of answers that change, in [0, 1], label-free) or
            "accuracy_drop" (accuracy of the full model minus that of the skipped one).
        epsilon: what was promised, in (0, 1).
        delta: probability that `bound` may lie below the true mean, in (0, 1).
        n_images: number of independent images.
        bound: the upper confidence bound, in the unit of the quantity (a pure number).
        holds: whether bound <= epsilon.
        estimate: mean over the images seen of what the bound is about.
        method: "betting", "clopper-pearson" or "hoeffding".
        checked: what was verified on the data.
        assumed: what was not, and cannot be.
        data_hash: hash of the data, for the record.
        plan_hash: hash of the plan, for the record.

    Raises:
        ValueError: unknown quantity or method, epsilon or delta outside (0, 1), no image, a
            `holds` that contradicts `bound`.

    Example:
        >>> values = [0.0] * 298 + [1.0] + [0.0]
        >>> cert = certify_mean(
        ...     values, range(300), quantity="disagreement", epsilon=0.02, delta=0.05
        ... )
        >>> print(cert)
        disagreement <= 0.0158 with probability 95 % (300 images, clopper-pearson):
        holds at epsilon 0.02
    """

    quantity: str
    epsilon: float
    delta: float
    n_images: int
    bound: float
    holds: bool
    estimate: float
    method: str
    checked: tuple[str, ...]
    assumed: tuple[str, ...]
    data_hash: str = ""
    plan_hash: str = ""

    def __post_init__(self) -> None:
        _check_request(self.quantity, self.epsilon, self.delta, self.method)
        if self.n_images < 1:
            raise ValueError(f"a certificate needs at least one image, got {self.n_images}")
        if self.holds != (self.bound <= self.epsilon):
            raise ValueError(
                f"holds={self.holds} contradicts bound {self.bound} and epsilon {self.epsilon}"
            )

    def sentence(self) -> str:
        """One plain line; the bound is rounded up."""
        bound = math.ceil(self.bound * 1e4 - 1e-9) / 1e4
        verdict = "holds" if self.holds else "does NOT hold"
        return (
            f"{self.quantity.replace('_', ' ')} <= {bound:.4f} with probability "
            f"{100.0 * (1.0 - self.delta):g} % ({self.n_images} images, {self.method}): "
            f"{verdict} at epsilon {self.epsilon:g}"
        )

    def __str__(self) -> str:
        return self.sentence()

    def to_json(self) -> dict[str, Any]:
        """The certificate as strict JSON data, with its schema version."""
        fields = asdict(self) | {"checked": list(self.checked), "assumed": list(self.assumed)}
        return {**serial.header("Certificate", SCHEMA_VERSION), **fields}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The certificate back from `to_json`.

        Raises:
            ValueError: not a certificate, another schema version, fields missing or unknown,
                or contents that contradict each other.
        """
        fields = serial.body(data, "Certificate", SCHEMA_VERSION, set(cls.__dataclass_fields__))
        for name in ("checked", "assumed"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


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

        betting          betting_upper_bound(m, delta), images in an order shuffled by `seed`
        hoeffding        mean(m) + (b - a) sqrt(log(1/delta) / (2 n))
        clopper-pearson  the (1 - delta) quantile of Beta(k + 1, n - k), k the number of ones
                         among one value per image, drawn by `seed` without looking at values

    Each bound fails with probability at most delta, for any distribution within the range.

    Args:
        values: array of shape (n_values,). "disagreement": 1 where the answer changed, else 0
            (or a probability in between, not for Clopper-Pearson). "accuracy_drop": score of
            the full model minus score of the skipped model, in [-1, 1].
        clusters: the image of each value, n_values hashable labels.
        quantity: "disagreement" or "accuracy_drop".
        epsilon: what is to be promised, in (0, 1).
        delta: probability that the promise may be wrong, in (0, 1). For several plans on the
            same images pass delta / plans.
        method: "betting", "clopper-pearson" (disagreement only), "hoeffding", or "auto":
            Clopper-Pearson for a disagreement asked once per image, where it is the sharper
            one, else betting. "auto" looks at how often images were asked, never at answers.
        seed: fixes the order of images (betting) or the value drawn from each image
            (Clopper-Pearson). Choose it before looking at values.
        data_hash: kept in the certificate.
        plan_hash: kept in the certificate.

    Returns:
        Certificate. Its estimate is the mean of m; for Clopper-Pearson k / n.

    Raises:
        ValueError: unknown quantity or method, Clopper-Pearson with an accuracy drop or with
            values other than 0 and 1, epsilon or delta outside (0, 1), values empty, not
            finite or out of range, lengths that differ.

    Source:
        Waudby-Smith & Ramdas 2024, arXiv 2010.09686; Clopper & Pearson 1934; Hoeffding 1963,
        Theorem 2.

    Example:
        >>> certify_mean(
        ...     [0, 0, 1, 0], ["a", "a", "b", "b"], quantity="disagreement", epsilon=0.5, delta=0.05
        ... ).holds
        False
    """
    means, sizes = cluster_means(values, clusters)
    if method == "auto":
        once = quantity == "disagreement" and bool((sizes == 1).all())
        method = "clopper-pearson" if once else "betting"
    _check_request(quantity, epsilon, delta, method)
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
    if method == "clopper-pearson":
        bad = np.flatnonzero((x != 0.0) & (x != 1.0))
        if bad.size:
            raise ValueError(f"values[{bad[0]}] is {x[bad[0]]:g}; clopper-pearson needs 0 or 1")
        means = x[_one_per_cluster(cluster_codes(clusters), rng)]
        failures = int(means.sum())
        bound = 1.0 if failures == n else float(betaincinv(failures + 1, n - failures, 1.0 - delta))
        checked.append(f"one value drawn from each of {n} images with seed {seed}")
    elif method == "hoeffding":
        bound = min(high, float(means.mean()) + _hoeffding_width(n, delta, high - low))
        checked.append(f"{x.size} values averaged within each of {n} images")
    else:
        order = rng.permutation(n)
        ordered = np.clip(means, low, high)[order]
        bound = betting_upper_bound(ordered, delta=delta, lower=low, upper=high)
        checked.append(f"{x.size} values averaged within each of {n} images")
        checked.append(f"images in an order drawn with seed {seed}")
    return Certificate(
        quantity=quantity,
        epsilon=epsilon,
        delta=delta,
        n_images=n,
        bound=bound,
        holds=bound <= epsilon,
        estimate=float(means.mean()),
        method=method,
        checked=tuple(checked),
        assumed=_ASSUMED,
        data_hash=data_hash,
        plan_hash=plan_hash,
    )


def _check_request(quantity: str, epsilon: float, delta: float, method: str) -> None:
    for name, given, known in (("quantity", quantity, RANGES), ("method", method, METHODS)):
        if given not in known:
            raise ValueError(f"unknown {name} '{given}'; choose from {', '.join(known)}")
    if method == "clopper-pearson" and quantity != "disagreement":
        raise ValueError(
            f"clopper-pearson counts failures and cannot bound a {quantity}; "
            "use betting or hoeffding"
        )
    check_fraction(epsilon, "epsilon")
    check_fraction(delta, "delta")


def _hoeffding_width(n: int, delta: float, width: float) -> float:
    return width * math.sqrt(-math.log(delta) / (2.0 * n))


def _one_per_cluster(codes: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Position of one row of each cluster, uniformly drawn, clusters in order of their code."""
    shuffled = rng.permutation(codes.size)
    _, first = np.unique(codes[shuffled], return_index=True)
    return shuffled[first]
