"""A skip can help without a refit: a misleading vision path, by the identity of S2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.pmf import Pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import collect
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


def slope() -> sp.Expr:
    """Derivative of NLL_full(r) = -(1-q) log(1-r) - q log r, times r (1-r)."""
    q, r = sp.symbols("q r", positive=True)
    nll_full = -(1 - q) * sp.log(1 - r) - q * sp.log(r)
    return sp.simplify(sp.diff(nll_full, r) * r * (1 - r))


def proof() -> ProofCheck:
    """NLL_full(r) is log 2 at r = 1/2, as for the skipped model, and increases for r > q."""
    q, r = sp.symbols("q r", positive=True)
    start = (-(1 - q) * sp.log(1 - r) - q * sp.log(r)).subs(r, sp.Rational(1, 2))
    return collect(
        {
            "NLL_full has derivative (r - q)/(r (1-r)) > 0 for r > 1/2 > q": sp.expand(
                slope() - (r - q)
            )
            == 0,
            "NLL_full(1/2) = log 2": sp.simplify(start - sp.log(2)) == 0,
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
