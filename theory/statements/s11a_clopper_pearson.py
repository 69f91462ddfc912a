"""The Clopper-Pearson bound with one question per image has error probability at most delta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import sympy as sp
from scipy import stats

from theory.certificates.clopper_pearson import clopper_pearson_upper_bound
from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement
from theory.statements._proofs import about

#: Relative tolerance for rounding of a bound.
_ROUNDING = Fraction(1, 10**9)
_LARGEST = 40
_DELTAS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Trials:
    """A sampling scheme for failures.

    Attributes:
        images: number of independent images.
        rate: true rate of failures.
        delta: nominal error probability.
        questions: number of questions per image, all counted as trials.
        correlation: intra-image correlation of the questions (beta-binomial).
        plans: number of plans of which the smallest bound is reported.
    """

    images: int
    rate: float
    delta: float
    questions: int = 1
    correlation: float = 0.0
    plans: int = 1


def generate(rng: np.random.Generator) -> Trials:
    """One question per image, one plan."""
    return Trials(
        images=int(rng.integers(1, 400)),
        rate=float(rng.beta(0.5, 3.0) * 0.98 + 0.01),
        delta=float(rng.choice([0.01, 0.05, 0.1, 0.3])),
    )


def slack(case: Trials) -> float:
    """Nominal minus exact probability that the reported bound is below the true rate."""
    n = case.images * case.questions
    # The bound of k failures is below the rate iff P(Binomial(n, rate) <= k) < delta.
    cdf = stats.binom.cdf(np.arange(n + 1), n, case.rate)
    misses = int(np.searchsorted(cdf, case.delta * (1.0 - 1e-12), side="left"))
    error = float(_failures(case)[:misses].sum())
    return case.delta - (1.0 - (1.0 - error) ** case.plans)


def _failures(case: Trials) -> np.ndarray:
    """Pmf of the number of failures, a convolution of beta-binomial pmfs."""
    if case.questions == 1 or case.correlation == 0.0:
        n = case.images * case.questions
        return np.asarray(stats.binom.pmf(np.arange(n + 1), n, case.rate))
    weight = 1.0 / case.correlation - 1.0
    shape = case.rate * weight, (1.0 - case.rate) * weight
    per_image = stats.betabinom.pmf(np.arange(case.questions + 1), case.questions, *shape)
    size = case.images * case.questions + 1
    spectrum = np.fft.rfft(per_image, 1 << math.ceil(math.log2(2 * size)))
    return np.maximum(np.fft.irfft(spectrum**case.images)[:size], 0.0)


def witness() -> Trials:
    """A rate just above the bound for zero failures: the error probability is almost delta."""
    return Trials(images=149, rate=1.0 - 0.05 ** (1.0 / 149) + 1e-9, delta=0.05)


FORMULAS: Formulas = {
    "P(K <= k) at the rate U(k)": Formula(sp.Symbol("tail"), "<=", sp.Symbol("delta")),
}


@about({"P(K <= k) at the rate U(k)": Formula(None, "<=", None)})
def prove(claim: Formulas) -> ProofCheck:
    """For all n <= 40 and k < n: U(k) increases in k, and P(K <= k) <= delta at rate U(k), exactly.

    P(K <= k) decreases in the rate, so P(K <= k) <= delta for every rate p > U(k). For the largest
    k with U(k) < p this is the error probability. Binomial sums are exact rational numbers.
    """
    (formula,) = claim.values()
    cases = 0
    for delta in _DELTAS:
        for n in range(1, _LARGEST + 1):
            last = Fraction(0)
            for k in range(n):
                bound = Fraction(clopper_pearson_upper_bound(k, n, delta)) * (1 + _ROUNDING)
                tail = _tail(k, n, bound)
                if not formula.at(tail=tail, delta=Fraction(delta)) or bound <= last:
                    return ProofCheck(False, f"fails at k={k}, n={n}, delta={delta}")
                last = bound
                cases += 1
    return ProofCheck(True, f"{cases} bounds checked in exact rational arithmetic")


@cache
def _tail(k: int, n: int, rate: Fraction) -> Fraction:
    """P(K <= k) for K ~ Binomial(n, rate), with one common denominator."""
    p, whole = rate.numerator, rate.denominator
    terms = (math.comb(n, i) * p**i * (whole - p) ** (n - i) for i in range(k + 1))
    return Fraction(sum(terms), whole**n)


def decode(vector: np.ndarray) -> Trials:
    """Number of images, rate and delta from three real parameters."""
    share = 1.0 / (1.0 + np.exp(-np.clip(vector, -30.0, 30.0)))
    return Trials(
        images=1 + int(300 * share[0]),
        rate=float(np.clip(share[1], 1e-6, 1.0 - 1e-6)),
        delta=float(np.clip(0.5 * share[2], 1e-3, 0.5)),
    )


def pooled_questions() -> Counterexample:
    """100 images with 10 questions each of correlation .3, all counted as trials."""
    case = Trials(images=100, rate=0.02, delta=0.05, questions=10, correlation=0.3)
    return Counterexample(
        case,
        "10 questions on each of 100 images with intra-image correlation .3, counted as 1,000 "
        f"independent trials: a 5 % bound has error probability {case.delta - slack(case):.0%}",
    )


def chosen_on_the_data() -> Counterexample:
    """The best of 32 plans, selected on the images that certify it."""
    case = Trials(images=500, rate=0.02, delta=0.05, plans=32)
    return Counterexample(
        case,
        "the best of 32 plans, certified on the images on which it was selected: a 5 % bound has "
        f"error probability {case.delta - slack(case):.0%}",
    )


STATEMENT = Statement(
    id="S11a",
    title="the Clopper-Pearson bound with one question per image is valid",
    setting="n independent images with one binary outcome each, of rate p; delta in (0, 1)",
    claim="P(U(K) < p) <= delta, U(k) = the (1 - delta) quantile of Beta(k + 1, n - k)",
    source="Clopper & Pearson 1934",
    evidence="exhaustive",
    domain=f"all k < n <= {_LARGEST} and delta in {_DELTAS}; for larger n, sampled parameters with "
    "exact error probabilities",
    formulas=FORMULAS,
    argument="P(K <= k) falls in the rate, so it is at most delta at every rate above U(k); "
    "U(k) rises in k, so the bound is below the rate p iff K <= k for the largest k with U(k) < "
    "p.",
    generate=generate,
    slack=slack,
    witness=witness,
    witness_slack=1e-6,
    hypotheses=(
        Hypothesis(
            name="independent clusters",
            text="the trials are independent: one question per image",
            holds=lambda case: case.questions == 1 or case.correlation == 0.0,
            counterexample=pooled_questions,
        ),
        Hypothesis(
            name="plan chosen without the data",
            text="the plan does not depend on the certification images",
            holds=lambda case: case.plans == 1,
            counterexample=chosen_on_the_data,
        ),
    ),
    notes=(
        "Zero failures certify a rate of 1 / 2 / 5 % at delta = 5 % for n = 299 / 149 / 59, and "
        "for n = 643 / 320 / 126 with a Bonferroni correction for 32 plans.",
        "The power at n = 1,000, epsilon = 2 % and a disagreement of 1 % is .79 (.98 at n = "
        "2,000); for harmed answers alone, at half that rate, it is .998.",
    ),
    proof=prove,
    search=Search(3, decode),
)
