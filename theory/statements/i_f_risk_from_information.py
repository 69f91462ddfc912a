"""R*(Z) - R*(X) <= M sqrt(I/2) and <= M sqrt(1 - exp(-I)), with I = I(X;Y|Z)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.intervals import information_interval
from theory.pmf import Pmf, as_pmf, information, random_pmf, softmax_pmf
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
)
from theory.statements._enumerate import bayes_risk, compositions
from theory.statements._proofs import is_nonnegative

#: Probabilities in the enumeration are multiples of 1/TOTAL.
TOTAL = 6


@dataclass(frozen=True)
class Loss:
    """A joint pmf of (X, Z, Y), a loss table of shape (actions, k) and its claimed range M."""

    p: Pmf
    loss: NDArray[np.float64]
    range: float


def generate(rng: np.random.Generator) -> Loss:
    """A random pmf and a random loss with M its exact range.

    Half of the instances are near the bound: Y is X through a symmetric channel, Z is almost
    independent of both, and the loss is almost 0-1.
    """
    x, z, y = (int(n) for n in rng.integers(2, 5, 3))
    loss = rng.random((int(rng.integers(2, 5)), y))
    p = random_pmf(rng, (x, z, y))
    if rng.random() < 0.5:
        channel = rng.random() * np.eye(y) + 0.5  # rows: X, columns: Y
        side = np.ones((y, z)) + 0.05 * rng.random((y, z))
        p = as_pmf(channel[:, None, :] * side[:, :, None] * rng.uniform(0.9, 1.1, (y, z, y)))
        loss = 1.0 - np.eye(y) + 0.05 * rng.random((y, y))
    return Loss(p, loss, float(np.ptp(loss)))


def slack(case: Loss) -> float:
    """Smaller bound minus the difference of the Bayes risks."""
    with_x, with_z = (case.p.sum(axis=axis).T for axis in (1, 0))
    increase = bayes_risk(with_z, case.loss) - bayes_risk(with_x, case.loss)
    nats = max(information(case.p, [0], [2], given=[1]), 0.0)
    return float(case.range * min(np.sqrt(nats / 2), np.sqrt(-np.expm1(-nats)))) - increase


I = sp.Symbol("I", nonnegative=True)  # noqa: E741
RISE = sp.Symbol("R*(Z)-R*(X)")
FORMULAS: Formulas = {  # for M = 1
    "Pinsker": Formula(RISE, "<=", sp.sqrt(I / 2)),
    "Bretagnolle-Huber": Formula(RISE, "<=", sp.sqrt(1 - sp.exp(-I))),
}


def enumerate_all(claim: Formulas) -> ProofCheck:
    """All pmfs of three bits with probabilities in multiples of 1/TOTAL; 0-1 loss.

    The increase of the risk is a fraction g > 0; for g <= 0 the claim is trivial. Exact intervals
    enclose I. The square of a bound b increases in I, so b(I) is at least b(lower end), evaluated
    to 30 digits.
    """
    for name, formula in claim.items():
        square = sp.expand(formula.right**2)
        states_it = formula.states(Formula(RISE, "<=", None))
        if not states_it or square.free_symbols - {I} or not is_nonnegative(sp.diff(square, I)):
            return ProofCheck(False, f"{name} is no increasing bound on the rise of the risk")
    cases = 0
    smallest: dict[int, Fraction] = {}  # least lower end of I for each gap
    for cells in compositions(TOTAL, 8):
        cases += 1
        counts = np.array(cells).reshape(2, 2, 2)
        right_x = int(counts.sum(axis=1).max(axis=1).sum())
        right_z = int(counts.sum(axis=0).max(axis=1).sum())
        gap = right_x - right_z
        if gap > 0:
            lower = information_interval(counts, [0], [2], given=[1]).lower
            smallest[gap] = min(lower, smallest.get(gap, lower))
    for gap, lower in smallest.items():
        for name, formula in claim.items():
            nats = sp.Rational(lower.numerator, lower.denominator)
            if not sp.N(formula.right.subs(I, nats), 30) - sp.Rational(gap, TOTAL) > 1e-20:
                return ProofCheck(False, f"{name} not proved for a rise of {gap}/{TOTAL}")
    return ProofCheck(True, f"enumeration: {cases} pmfs, I in exact intervals")


def copied(loss_range: float, scale: float) -> Loss:
    """X = Y a fair coin, Z constant, loss `scale` times 0-1: I = log 2, risk rises by scale/2."""
    return Loss(as_pmf(np.eye(2)[:, None, :]), scale * (1.0 - np.eye(2)), loss_range)


def nearly_blind(shift: float = 1e-3) -> Loss:
    """Y is a coin of bias +-shift given X, Z constant: Pinsker's inequality is nearly tight."""
    p = np.array([[0.5 + shift, 0.5 - shift], [0.5 - shift, 0.5 + shift]])
    return Loss(as_pmf(p[:, None, :]), 1.0 - np.eye(2), 1.0)


STATEMENT = Statement(
    id="I-F",
    title="a small information loss implies a small increase of the Bayes risk",
    setting="finite alphabets; R* the Bayes risk for a loss table",
    claim="R*(Z) - R*(X) <= M sqrt(I/2)  and  <= M sqrt(1 - exp(-I)),  I = I(X;Y|Z) in nats",
    source=f"{RECONSTRUCTION}; Györfi, Linder & Walk 2023, arXiv:2307.16735",
    evidence="exhaustive",
    domain="every pmf of three bits (X, Z, Y) with probabilities in multiples of 1/6, 0-1 loss; in "
    "addition random pmfs up to 4 x 4 x 4 with random losses, and an optimiser",
    formulas=FORMULAS,
    argument="For all other distributions and losses: draw X' from P(X|Z), independent of Y "
    "given Z, and apply the best predictor from (X, Z) to (X', Z). This is a randomised "
    "predictor from Z. Its risk exceeds R*(X,Z) by at most M TV(P(X,Y,Z), P(X',Y,Z)), and the "
    "KL divergence between the two distributions is I. The inequalities of Pinsker and of "
    "Bretagnolle and Huber bound TV.",
    generate=generate,
    slack=slack,
    witness=nearly_blind,
    witness_slack=1e-6,
    hypotheses=(
        Hypothesis(
            "range of the loss",
            "max loss - min loss <= M",
            holds=lambda case: bool(np.ptp(case.loss) <= case.range + 1e-12),
            counterexample=lambda: Counterexample(
                copied(1.0, 3.0),
                "with losses up to 3 and M = 1 the risk increases by 1.5, the bound is .59",
            ),
        ),
    ),
    superfluous=(
        "Markov chain Y -> X -> Z: R*(X) >= R*(X,Z) always holds, so it suffices to bound "
        "R*(Z) - R*(X,Z), which requires no chain.",
    ),
    proof=enumerate_all,
    search=Search(8, lambda vector: Loss(softmax_pmf(vector, (2, 2, 2)), 1.0 - np.eye(2), 1.0)),
)
