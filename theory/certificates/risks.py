"""Several risks of one plan at once: changed answers, accuracy, length of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import cluster_means
from estimators.clustered import Labels
from estimators.record import Record
from theory._validate import (
    check_array,
    check_choice,
    check_count,
    check_fraction,
    check_number,
    check_text,
    reread,
    shown,
)
from theory.certificates.certificate import METHODS, RANGES, check_method, confidence, counted
from theory.certificates.certify import as_sample, assumed
from theory.certificates.families import CONTROLS, rejected

#: How the joint error of the decisions is controlled.
RISK_CONTROLS = ("all", *CONTROLS)


@dataclass(frozen=True)
class RiskCertificates(Record):
    """Which of several risks are certified to be within their limits.

    Attributes:
        delta: maximum probability that any decision "within its limit" is wrong, in (0, 1).
        control: one of `RISK_CONTROLS`.
        n_images: number of independent units.
        limits: limit of each risk, by quantity.
        estimates: sample mean of each risk.
        methods: bound from which each p-value comes.
        p_values: of "the risk is at least its limit".
        certified: the risks that are within their limits.
        assumed: conditions that cannot be verified on the data.
        unit_word: what a unit is, in the singular.

    Raises:
        ValueError: a certified risk that has no limit.
    """

    delta: float
    control: str
    n_images: int
    limits: Mapping[str, float]
    estimates: Mapping[str, float]
    methods: Mapping[str, str]
    p_values: Mapping[str, float]
    certified: tuple[str, ...]
    assumed: tuple[str, ...]
    unit_word: str = "image"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.certified) - set(self.limits)):
            raise ValueError(f"certified {unknown[0]}, which has no limit")

    @property
    def holds(self) -> bool:
        """Whether every risk is certified."""
        return set(self.certified) == set(self.limits)

    def sentence(self) -> str:
        """Every risk with its limit and whether it is certified, in one sentence."""
        each = ", ".join(
            f"{name.replace('_', ' ')} <= {limit:g} "
            f"{'holds' if name in self.certified else 'does NOT hold'}"
            for name, limit in self.limits.items()
        )
        return (
            f"{each}; jointly with probability {confidence(self.delta)} "
            f"({counted(self.n_images, self.unit_word)}, {self.control})"
        )


def certify_risks(
    risks: Mapping[str, ArrayLike],
    clusters: Labels,
    *,
    limits: Mapping[str, float],
    delta: float,
    control: str = "holm",
    method: str = "auto",
    seed: int = 0,
    unit_word: str = "image",
) -> RiskCertificates:
    """Certify that several risks are within their limits, with one joint error probability.

    Each risk has a p-value of "the mean is at least its limit", by `method`. Then:

        holm            (default) certifies risk by risk: any of the certified risks is beyond its
                        limit with probability at most delta, under any dependence. It certifies all
                        that Bonferroni does and sometimes more, and asks for no order
        fixed-sequence  each risk at the full delta, in the order of `risks`, up to the first that
                        fails: for a risk that matters most, if the order is fixed in advance
        bonferroni      each risk at delta / their number
        all             all risks or none: all if every p-value is at most delta. No correction is
                        needed, since the sole claim "all are within" is wrong only if some risk is
                        beyond its limit, and that risk passes with probability at most delta
                        (intersection-union test); it says nothing if one fails

    Args:
        risks: quantity -> array of shape (n_values,), as in `certify_mean`; in the order of a fixed
            sequence.
        clusters: the image of each value, n_values hashable labels.
        limits: quantity -> limit, inside the range of the quantity.
        delta: joint error probability, in (0, 1).
        control: one of the above, chosen before the answers were seen.
        method: a method of `certify_mean` for every risk, or "auto": Clopper-Pearson for a
            disagreement and harm for an accuracy drop with a limit above 0, if each image has one
            question, otherwise betting. These two count, so that losses between 0 and 1, such as
            shares of wrong words, are refused: pass "betting" for them. "auto" does not look at the
            losses, since a method that was chosen by them could be wrong more often than delta.
        seed: as in `certify_mean`.
        unit_word: what a cluster is, in the singular.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no risks, an unknown quantity or control, limits for other risks or out of
            range, values or method as in `certify_mean`, or delta outside (0, 1).

    Source:
        Holm 1979; Berger 1982, Technometrics 24, 295-300, Theorem 1 (intersection-union);
        Angelopoulos et al. 2021, arXiv 2110.01052, section 2.2 (several risks).

    Example:
        >>> changed, lost = [0.0] * 395 + [1.0] * 5, [0.0] * 399 + [1.0]
        >>> made = certify_risks(
        ...     {"disagreement": changed, "accuracy_drop": lost}, range(400),
        ...     limits={"disagreement": 0.02, "accuracy_drop": 0.02}, delta=0.05,
        ... )
        >>> print(made.sentence())
        disagreement <= 0.02 does NOT hold, accuracy drop <= 0.02 holds; jointly with probability
        95 % (400 images, holm)
    """
    check_fraction(delta, "delta")
    check_count(seed, "seed", least=0)
    check_choice(control, "control", RISK_CONTROLS)
    check_text(unit_word, "unit_word", '"image"')
    if method != "auto":
        check_choice(method, "method", METHODS)
    clusters = reread(clusters)
    _check_mapping(risks, "risks")
    _check_mapping(limits, "limits")
    if set(risks) != set(limits):
        raise ValueError(
            f"limits must be of the risks {', '.join(risks)}; they are of {', '.join(limits)}"
        )
    samples = {}
    for name, values in risks.items():
        low, high = RANGES[check_choice(name, "risks", RANGES)]
        if not low < check_number(limits[name], f"limits of {name}") < high:
            raise ValueError(
                f"limits: {name} lies in [{low:g}, {high:g}], the limit {limits[name]} does not"
            )
        x = check_array(values, f"risks of {name}")
        try:
            chosen = _counting(name, x, clusters, limits[name]) if method == "auto" else method
            check_method(name, chosen)
            samples[name] = as_sample(
                x, clusters, quantity=name, method=chosen, seed=seed, unit_word=unit_word
            )
        except ValueError as error:
            raise ValueError(f"risks of {name}: {error}") from None
    p_values = {name: sample.p_value(limits[name]) for name, sample in samples.items()}
    if control == "all":
        certified = tuple(p_values) if max(p_values.values()) <= delta else ()
    else:
        places = rejected(tuple(p_values.values()), delta, control=control)
        certified = tuple(list(p_values)[place] for place in places)
    n = next(iter(samples.values())).values.size
    return RiskCertificates(
        delta=delta,
        control=control,
        n_images=n,
        limits=dict(limits),
        estimates={name: float(sample.values.mean()) for name, sample in samples.items()},
        methods={name: sample.method for name, sample in samples.items()},
        p_values=p_values,
        certified=certified,
        assumed=assumed(n, unit_word),
        unit_word=unit_word,
    )


def _counting(name: str, x: NDArray[np.float64], clusters: Labels, limit: float) -> str:
    """The method of "auto": it counts where each cluster has one value."""
    once = bool((cluster_means(x, clusters)[1] == 1).all())
    counting = {"disagreement": "clopper-pearson"}
    if limit > 0.0:
        counting["accuracy_drop"] = "harm"
    return counting.get(name, "betting") if once else "betting"


def _check_mapping(given: Any, name: str) -> None:
    """Raise a `TypeError` unless quantities are mapped to something."""
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"{name} must map quantities such as 'disagreement', got {shown(given)}")
