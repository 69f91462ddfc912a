"""A skip can help without a refit: a misleading vision path, by the identity of S2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.pmf import Pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import about, collect, is_nonnegative, is_zero
from theory.statements.s2_cost_of_removing_vision import Removal, divergence, nll


@dataclass(frozen=True)
class Misled:
    """V a fair bit, Y = V flipped with probability q; the model gives not-V probability r."""

    q: float
    r: float

    @property
    def removal(self) -> Removal:
        """The pair of models as an instance of S2; the skipped model guesses."""
        return Removal(
            flip(self.q)[:, None, :] / 2, flip(self.r)[:, None, :], np.full((2, 1, 2), 0.5)
        )


def flip(probability: float) -> Pmf:
    """Transition matrix of a bit that flips with the given probability."""
    return np.array([[1 - probability, probability], [probability, 1 - probability]])


def generate(rng: np.random.Generator) -> Misled:
    """Informative vision, misleading model."""
    return Misled(float(rng.uniform(0.0, 0.499)), float(rng.uniform(0.501, 0.999)))


def slack(case: Misled) -> float:
    """Minimum of NLL_full - NLL_skip and minus the error of the identity of S2, in nats."""
    removal = case.removal
    decrease = nll(removal.p, removal.full) - nll(removal.p, removal.skip)
    kl_decrease = divergence(removal.p, removal.full) - divergence(removal.p, removal.skip)
    return min(decrease, -abs(decrease - kl_decrease))


Q, R = sp.symbols("q r", positive=True)
FORMULAS: Formulas = {
    "NLL_skip < NLL_full": Formula(sp.log(2), "<", -(1 - Q) * sp.log(1 - R) - Q * sp.log(R)),
    "information removed": Formula(
        sp.Symbol("I(Y;V|T)"), "=", sp.log(2) + Q * sp.log(Q) + (1 - Q) * sp.log(1 - Q)
    ),
}


@about({"information removed": Formula(sp.Symbol("I(Y;V|T)"), "=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """NLL_full(r) is log 2 at r = 1/2, as for the skipped model, and increases for r > q."""
    x, y = sp.symbols("x y", positive=True)
    half = sp.Rational(1, 2)
    formula, information = claim["NLL_skip < NLL_full"], claim["information removed"]
    cells = {(v, a): half * (1 - Q if v == a else Q) for v in (0, 1) for a in (0, 1)}
    model = {(v, a): 1 - R if v == a else R for v in (0, 1) for a in (0, 1)}
    full = -sum(cells[cell] * sp.log(model[cell]) for cell in cells)
    skip = -sum(cells[cell] * sp.log(half) for cell in cells)
    known = sum(cells[cell] * sp.log(cells[cell] / (half * half)) for cell in cells)
    rise = sp.simplify(sp.diff(formula.right, R) * R * (1 - R))
    return collect(
        {
            "the sides are the NLLs": formula.relation == "<"
            and is_zero(formula.left - skip)
            and is_zero(formula.right - full),
            "they are equal at r = 1/2": is_zero(formula.gap.subs(R, half)),
            "NLL_full rises in r for r > 1/2 > q": sp.expand(
                rise.subs({R: half + x, Q: half - y})
            ).is_positive
            is True,
            "I(Y;V) is the claimed information": is_zero(information.right - known),
            "it is positive for q < 1/2": is_nonnegative(
                sp.diff(information.right, Q, 2) * Q * (1 - Q)
            )
            and is_zero(sp.diff(information.right, Q).subs(Q, half))
            and is_zero(information.right.subs(Q, half)),
        },
        "sympy",
    )


STATEMENT = Statement(
    id="S15b",
    title="removing a misleading vision path helps without a refit",
    setting="V a fair bit, Y = V flipped with probability q; the full model gives not-V "
    "probability r, the skipped model gives each answer probability 1/2; T constant",
    claim="NLL_skip < NLL_full, although the skip removes I(Y;V|T) = log 2 - h_b(q) > 0",
    source=f"{RECONSTRUCTION}; from S2",
    evidence="symbolic",
    domain="all q < 1/2 < r",
    formulas=FORMULAS,
    argument="r (1-r) > 0, so the sign of the derivative is that of r - q. The information is "
    "strictly convex in q with value and slope 0 at q = 1/2. T is constant, so I(Y;V|T) = "
    "I(Y;V).",
    generate=generate,
    slack=slack,
    witness=lambda: Misled(0.49999, 0.50001),
    witness_slack=1e-8,
    hypotheses=(
        Hypothesis(
            "informative vision",
            "q < 1/2",
            holds=lambda case: case.q < 0.5,
            counterexample=lambda: Counterexample(
                Misled(0.9, 0.9), "for q = r = .9 the full model is correct and has the lower NLL"
            ),
        ),
        Hypothesis(
            "misleading model",
            "r > 1/2",
            holds=lambda case: case.r > 0.5,
            counterexample=lambda: Counterexample(
                Misled(0.1, 0.1), "for q = r = .1 the full model is correct and has the lower NLL"
            ),
        ),
    ),
    proof=proof,
)
