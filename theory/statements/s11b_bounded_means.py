"""Hoeffding, empirical Bernstein, Hoeffding-Bentkus and betting bounds on means over images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from theory.certificates.bentkus import bentkus_p_value
from theory.certificates.bernstein import bernstein_p_value
from theory.certificates.betting import betting_p_value
from theory.certificates.hoeffding import hoeffding_p_value
from theory.statement import Counterexample, Hypothesis, Search, Statement

METHODS = {
    "betting": betting_p_value,
    "empirical-bernstein": bernstein_p_value,
    "hoeffding": hoeffding_p_value,
    "hoeffding-bentkus": bentkus_p_value,
}


@dataclass(frozen=True)
class Means:
    """A discrete distribution of the means of n images, and a sampling scheme.

    Attributes:
        method: one of `METHODS`.
        n: number of images.
        support: possible means of one image.
        weights: probabilities of these means.
        delta: nominal error probability.
        copies: whether all images are copies of the first.
        plans: number of independent plans of which the smallest p-value is reported.
    """

    method: str
    n: int
    support: tuple[float, ...]
    weights: tuple[float, ...]
    delta: float
    copies: bool = False
    plans: int = 1


def generate(rng: np.random.Generator) -> Means:
    """Up to 3 support points in [0, 1] and up to 6 images."""
    points = int(rng.integers(2, 4))
    support = np.sort(rng.random(points))
    if rng.random() < 0.6:
        support[0], support[-1] = 0.0, 1.0
    return _means(
        str(rng.choice(list(METHODS))),
        int(rng.integers(1, 7)),
        support,
        rng.dirichlet(np.full(points, 0.7)),
        float(rng.uniform(0.02, 0.6)),
    )


def _means(
    method: str, n: int, support: NDArray[np.float64], weights: NDArray[np.float64], delta: float
) -> Means:
    """Case with positive normalised weights."""
    positive = weights + 1e-9
    positive = positive / positive.sum()
    return Means(method, n, tuple(support.tolist()), tuple(positive.tolist()), delta)


def slack(case: Means) -> float:
    """Nominal minus exact probability that the true mean is rejected, over all sequences."""
    support, weights = np.array(case.support), np.array(case.weights)
    mean = float(support @ weights)
    if case.copies:
        rows = np.repeat(support[:, None], case.n, axis=1)
        chance = weights
    else:
        indices = np.array(list(product(range(support.size), repeat=case.n)))
        rows, chance = support[indices], weights[indices].prod(axis=1)
    options = {"delta": case.delta} if case.method == "betting" else {}
    # The bound is below the true mean iff the p-value of the true mean is below delta.
    rejected = METHODS[case.method](rows, mean, **options) < case.delta * (1.0 - 1e-9)
    error = float(chance[rejected].sum())
    return case.delta - (1.0 - (1.0 - error) ** case.plans)


def witness() -> Means:
    """Six tosses of rate 1/2 + 1e-6: Hoeffding-Bentkus errs with probability almost delta."""
    rate = 0.5 + 1e-6
    delta = (1.0 - rate) ** 6 * (1.0 + 1e-6)
    return Means("hoeffding-bentkus", 6, (0.0, 1.0), (1.0 - rate, rate), delta)


def decode(vector: NDArray[np.float64]) -> Means:
    """Method, delta, middle support point and weights from real parameters."""
    share = 1.0 / (1.0 + np.exp(-np.clip(vector, -30.0, 30.0)))
    method = list(METHODS)[min(3, int(4 * share[0]))]
    weights = np.exp(np.clip(vector[3:6], -20.0, 20.0))
    support = np.array([0.0, share[2], 1.0])
    return _means(method, 5, support, weights / weights.sum(), 0.01 + 0.6 * float(share[1]))


def copies() -> Counterexample:
    """Six copies of one image."""
    case = Means("hoeffding", 6, (0.0, 1.0), (0.3, 0.7), 0.05, copies=True)
    return Counterexample(
        case,
        "six copies of one image counted as six images: a 5 % bound has error probability "
        f"{case.delta - slack(case):.0%}",
    )


def too_wide() -> Counterexample:
    """Values in [0, 2] with a bound for [0, 1]."""
    case = Means("hoeffding", 6, (0.0, 2.0), (0.5, 0.5), 0.05)
    return Counterexample(
        case,
        "values in [0, 2] (a shifted paired difference) with the bound for [0, 1]: a 5 % bound has "
        f"error probability {case.delta - slack(case):.1%}",
    )


def best_plan() -> Counterexample:
    """The best of 32 plans on the same images."""
    case = Means("hoeffding-bentkus", 6, (0.0, 1.0), (0.4, 0.6), 0.05, plans=32)
    return Counterexample(
        case,
        "the best of 32 plans, certified on the images on which it was selected: a 5 % bound has "
        f"error probability {case.delta - slack(case):.0%}",
    )


STATEMENT = Statement(
    id="S11b",
    title="confidence bounds on a mean over images are valid",
    setting="n images; m_j the mean over the questions on image j; delta in (0, 1)",
    claim=(
        "P(bound < E m) <= delta for the Hoeffding, empirical Bernstein, Hoeffding-Bentkus and "
        "betting bounds on m_1, ..., m_n"
    ),
    source=(
        "Hoeffding 1963; Maurer & Pontil 2009, Theorem 4; Bates et al. 2021, arXiv 2101.02703; "
        "Waudby-Smith & Ramdas 2024, arXiv 2010.09686"
    ),
    evidence="searched",
    domain="random distributions on up to 3 support points, up to 6 images, exact error "
    "probabilities over all sequences; beyond 6 images betting uses 32 of all orders, drawn once",
    generate=generate,
    slack=slack,
    witness=witness,
    witness_slack=1e-6,
    hypotheses=(
        Hypothesis(
            name="independent clusters",
            text="the images are independent; questions on one image may be dependent",
            holds=lambda case: not case.copies,
            counterexample=copies,
        ),
        Hypothesis(
            name="range",
            text="the values lie in the range passed to the bound",
            holds=lambda case: 0.0 <= min(case.support) and max(case.support) <= 1.0,
            counterexample=too_wide,
        ),
        Hypothesis(
            name="plan chosen without the data",
            text="the plan does not depend on the certification images",
            holds=lambda case: case.plans == 1,
            counterexample=best_plan,
        ),
    ),
    notes=(
        "The paired Hoeffding bound needs 14,979 images for epsilon = 2 %; its power at n = 1,000 "
        "is 0.",
        "For 500 images with 1.8 % disagreement the bounds are .031 (Clopper-Pearson), .035 "
        "(Hoeffding-Bentkus), .051 (empirical Bernstein; the value .045 requires log(1/delta) "
        "instead of log(2/delta)) and .039 for betting, in any order of the images.",
    ),
    search=Search(6, decode),
)
