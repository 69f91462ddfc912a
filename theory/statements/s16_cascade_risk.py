"""A cascade that falls back on unsure inputs: its risk, and how the threshold changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement
from theory.statements._proofs import about, collect, is_nonnegative

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cascade:
    """A skipped model that answers where it is sure, and a fallback that answers elsewhere.

    Attributes:
        weight: probability of each input, shape (n,).
        sure: how sure the skipped model is of its answer, shape (n,).
        loss: loss of the skipped model's answer, shape (n,).
        fallback: loss of the fallback's answer, shape (n,); 0 for the full model, if the loss
            compares with its answers.
        low: threshold; the skipped model answers where `sure` is at least that.
        high: a second threshold, at least `low`.
    """

    weight: Array
    sure: Array
    loss: Array
    fallback: Array
    low: float
    high: float

    def risk(self, threshold: float) -> float:
        """Mean loss of the cascade."""
        accepted = self.sure >= threshold
        return float(self.weight @ np.where(accepted, self.loss, self.fallback))

    def restricted(self, threshold: float) -> float:
        """Mean loss of the skipped model among accepted inputs; 0 if there are none."""
        accepted = self.weight * (self.sure >= threshold)
        mass = float(accepted.sum())
        return float(accepted @ self.loss) / mass if mass else 0.0


def generate(rng: np.random.Generator) -> Cascade:
    """Up to 12 inputs, losses in [0, 1], thresholds that accept all, some or none."""
    n = int(rng.integers(1, 13))
    low, high = np.sort(rng.uniform(-0.1, 1.1, 2))
    loss = rng.random(n) if rng.random() < 0.5 else (rng.random(n) < 0.3).astype(np.float64)
    return Cascade(rng.dirichlet(np.ones(n)), rng.random(n), loss, np.zeros(n), low, high)


def slack(case: Cascade) -> float:
    """Minimum of both claims: restricted minus cascade risk, risk at low minus risk at high."""
    gaps = [case.restricted(t) - case.risk(t) for t in (case.low, case.high)]
    return min(*gaps, case.risk(case.low) - case.risk(case.high))


def witness() -> Cascade:
    """Every input is accepted at both thresholds: all risks are equal."""
    return Cascade(np.array([0.5, 0.5]), np.ones(2), np.array([0.0, 1.0]), np.zeros(2), 0.0, 1.0)


# A loss of two parts of the accepted inputs, and the weight of the rejected ones over that of
# the accepted ones.
FIRM, WEAK, OTHERS = sp.symbols("firm weak others", nonnegative=True)
FORMULAS: Formulas = {
    "restricted": Formula(sp.Symbol("R"), "<=", FIRM),
    "threshold": Formula(sp.Symbol("R(high)"), "<=", FIRM + WEAK),
}


@about(
    {
        "restricted": Formula(sp.Symbol("R"), "<=", None),
        "threshold": Formula(sp.Symbol("R(high)"), "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """R is the restricted risk `firm` times P(accepted) = 1/(1 + others); R(low) adds `weak`."""
    restricted, threshold = claim["restricted"].right, claim["threshold"].right
    return collect(
        {
            "R = P(accepted) firm <= firm": is_nonnegative(
                sp.factor(restricted - FIRM / (1 + OTHERS))
            ),
            "R(low) = R(high) + loss between the thresholds": is_nonnegative(
                sp.expand(threshold - FIRM)
            )
            and sp.expand(threshold - FIRM - WEAK) == 0,
        },
        "sympy",
    )


def decode(vector: Array) -> Cascade:
    """Four inputs from 14 numbers."""
    share = 1.0 / (1.0 + np.exp(-np.clip(vector, -30.0, 30.0)))
    low, high = np.sort(share[12:14])
    weight = share[:4] / share[:4].sum()
    return Cascade(weight, share[4:8], share[8:12], np.zeros(4), float(low), float(high))


def fallback_errs() -> Counterexample:
    """The loss compares with labels, and the full model is wrong where it is asked."""
    case = replace(witness(), sure=np.array([1.0, 0.2]), loss=np.zeros(2), fallback=np.ones(2))
    return Counterexample(
        replace(case, low=0.1, high=0.5),
        "the loss counts wrong answers and the full model errs on the unsure input: the skipped "
        "model loses 0 there and the cascade 1/2",
    )


def skipping_helps() -> Counterexample:
    """An accuracy drop: on the unsure input the skipped model mends an answer."""
    case = replace(witness(), sure=np.array([1.0, 0.2]), loss=np.array([0.0, -1.0]))
    return Counterexample(
        replace(case, low=0.1, high=0.5),
        "the loss is an accuracy drop and skipping mends the answer to the unsure input: a higher "
        "threshold raises the drop from -1/2 to 0",
    )


STATEMENT = Statement(
    id="S16",
    title="a cascade loses at most what the skipped model loses where it is accepted",
    setting="a skipped model answers inputs of which it is at least tau sure, a fallback answers "
    "the others; R(tau) the mean loss of both together",
    claim="R(tau) = P(accepted) E[loss | accepted] <= E[loss | accepted], and R(tau') <= R(tau) "
    "for tau <= tau'",
    source="Chow 1970 (reject option); Geifman & El-Yaniv 2017, arXiv 1705.08500 (selective risk)",
    evidence="symbolic",
    domain="all distributions, losses and thresholds",
    formulas=FORMULAS,
    argument="A rejected input loses nothing, so R is the sum over accepted inputs. A higher "
    "threshold accepts a subset, and every term that it leaves out is nonnegative.",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            "a fallback without loss",
            "the loss of the fallback is 0, as when the loss compares with the full model's "
            "answers and the full model is the fallback",
            holds=lambda case: bool((case.fallback == 0.0).all()),
            counterexample=fallback_errs,
        ),
        Hypothesis(
            "losses are nonnegative",
            "loss >= 0, such as a changed answer; an accuracy drop can be negative",
            holds=lambda case: bool((case.loss >= 0.0).all()),
            counterexample=skipping_helps,
        ),
    ),
    superfluous=(
        "How sure the model is need not be calibrated, nor be a probability: any score that is "
        "known before the fallback is asked will do.",
    ),
    notes=(
        "E[loss | accepted] itself need not fall with the threshold: the surest inputs may be the "
        "worst ones. Certify R, or certify at a threshold that was fixed before.",
    ),
    proof=proof,
    search=Search(14, decode),
)
