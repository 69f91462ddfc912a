"""Clopper-Pearson on one question per image fails at most delta of the time, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import stats

from theory.certificates.clopper_pearson import clopper_pearson_upper_bound
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement

#: Rounding of a bound that is forgiven, relative to it.
_ROUNDING = Fraction(1, 10**9)
_LARGEST = 40
_DELTAS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Trials:
    """How failures come about, and how they are counted.

    Attributes:
        images: number of independent images.
        rate: true rate of failures.
        delta: promised probability of a wrong bound.
        questions: questions counted of each image.
        correlation: intra-image correlation of these (beta-binomial).
        plans: plans tried, of which the one with the smallest bound is reported.
    """

    images: int
    rate: float
    delta: float
    questions: int = 1
    correlation: float = 0.0
    plans: int = 1


def generate(rng: np.random.Generator) -> Trials:
    """One question of each image, one plan."""
    return Trials(
        images=int(rng.integers(1, 400)),
        rate=float(rng.beta(0.5, 3.0) * 0.98 + 0.01),
        delta=float(rng.choice([0.01, 0.05, 0.1, 0.3])),
    )


def slack(case: Trials) -> float:
    """Delta minus the exact probability that the reported bound is below the true rate."""
    n = case.images * case.questions
    # The bound of k failures is below the rate iff P(Binomial(n, rate) <= k) < delta.
    cdf = stats.binom.cdf(np.arange(n + 1), n, case.rate)
    misses = int(np.searchsorted(cdf, case.delta * (1.0 - 1e-12), side="left"))
    error = float(_failures(case)[:misses].sum())
    return case.delta - (1.0 - (1.0 - error) ** case.plans)


def _failures(case: Trials) -> np.ndarray:
    """Pmf of the number of failures: a convolution of one beta-binomial per image."""
    if case.questions == 1 or case.correlation == 0.0:
        n = case.images * case.questions
        return np.asarray(stats.binom.pmf(np.arange(n + 1), n, case.rate))
    weight = 1.0 / case.correlation - 1.0
    shape = case.rate * weight, (1.0 - case.rate) * weight
    one = stats.betabinom.pmf(np.arange(case.questions + 1), case.questions, *shape)
    size = case.images * case.questions + 1
    spectrum = np.fft.rfft(one, 1 << math.ceil(math.log2(2 * size)))
    return np.maximum(np.fft.irfft(spectrum**case.images)[:size], 0.0)


def witness() -> Trials:
    """A rate just above the bound of no failures: the bound misses with almost delta."""
    return Trials(images=149, rate=1.0 - 0.05 ** (1.0 / 149) + 1e-9, delta=0.05)


def prove() -> ProofCheck:
    """Every count k of n <= 40 trials: rates from the bound on have P(K <= k) <= delta, exactly.

    So a bound below the true rate means a k with P(K <= k) <= delta at that rate; the largest
    such k bounds the probability. Binomial sums are rational numbers, computed as such.
    """
    cases = 0
    for delta in _DELTAS:
        for n in range(1, _LARGEST + 1):
            last = Fraction(0)
            for k in range(n):
                bound = Fraction(clopper_pearson_upper_bound(k, n, delta)) * (1 + _ROUNDING)
                tail = sum(
                    math.comb(n, i) * bound**i * (1 - bound) ** (n - i) for i in range(k + 1)
                )
                if tail > Fraction(delta) or bound <= last:
                    return ProofCheck(False, f"fails at k={k}, n={n}, delta={delta}")
                last = bound
                cases += 1
    return ProofCheck(True, f"{cases} bounds checked in exact rational arithmetic")


def decode(vector: np.ndarray) -> Trials:
    """Images, rate and delta from three reals."""
    share = 1.0 / (1.0 + np.exp(-np.clip(vector, -30.0, 30.0)))
    return Trials(
        images=1 + int(300 * share[0]),
        rate=float(np.clip(share[1], 1e-6, 1.0 - 1e-6)),
        delta=float(np.clip(0.5 * share[2], 1e-3, 0.5)),
    )


def pooled_questions() -> Counterexample:
    """100 images, 10 questions each, correlation .3, all questions counted as trials."""
    case = Trials(images=100, rate=0.02, delta=0.05, questions=10, correlation=0.3)
    return Counterexample(
        case,
        "10 questions of each of 100 images at intra-image correlation .3, all counted as "
        f"independent: a nominal 5 % bound fails {case.delta - slack(case):.0%} of the time",
    )


def chosen_on_the_data() -> Counterexample:
    """The best of 32 plans, by the images that certify it."""
    case = Trials(images=500, rate=0.02, delta=0.05, plans=32)
    return Counterexample(
        case,
        "the plan with the fewest changes among 32, certified on the images that chose it: a "
        f"nominal 5 % bound fails {case.delta - slack(case):.0%} of the time",
    )


STATEMENT = Statement(
    id="S11a",
    title="Clopper-Pearson on one question per image",
    setting="n independent images, one yes-or-no outcome each, rate p; delta in (0, 1)",
    claim="P(U(K) < p) <= delta, U(k) = the (1 - delta) quantile of Beta(k + 1, n - k)",
    source="Clopper & Pearson 1934",
    evidence="exhaustive",
    domain=f"every k of n <= {_LARGEST} trials at delta in {_DELTAS}; beyond, sampled exactly",
    generate=generate,
    slack=slack,
    witness=witness,
    witness_slack=1e-6,
    hypotheses=(
        Hypothesis(
            name="independent clusters",
            text="the outcomes counted are independent: one question of each image",
            holds=lambda case: case.questions == 1 or case.correlation == 0.0,
            counterexample=pooled_questions,
        ),
        Hypothesis(
            name="plan chosen without the data",
            text="the plan does not depend on the images that certify it",
            holds=lambda case: case.plans == 1,
            counterexample=chosen_on_the_data,
        ),
    ),
    notes=(
        "No failure certifies 1 / 2 / 5 % with n = 299 / 149 / 59, and with 32 plans under "
        "Bonferroni 643 / 320 / 126.",
        "Power at n = 1,000, epsilon 2 %, disagreement 1 %: .79 (.98 at n = 2,000); on harmed "
        "answers alone, at half that rate, .998.",
    ),
    proof=prove,
    search=Search(3, decode),
)
