"""Without a refit too a skip can help: a vision path that misleads, by the identity of S2."""

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
    """V a fair bit, Y = V flipped with probability q; the model bets on not-V with weight r."""

    q: float
    r: float

    @property
    def removal(self) -> Removal:
        """As an instance of S2: the full model misreads vision, the skipped one guesses."""
        return Removal(
            flip(self.q)[:, None, :] / 2, flip(self.r)[:, None, :], np.full((2, 1, 2), 0.5)
        )


def flip(probability: float) -> Pmf:
    """Rows: the bit; columns: the bit after a flip with this probability."""
    return np.array([[1 - probability, probability], [probability, 1 - probability]])


def generate(rng: np.random.Generator) -> Misled:
    """Any informative vision, any wrong bet."""
    return Misled(float(rng.uniform(0.0, 0.499)), float(rng.uniform(0.501, 0.999)))


def slack(case: Misled) -> float:
    """NLL_full - NLL_skip, which must be > 0; or minus the error of S2's identity, in nats."""
    removal = case.removal
    gained = nll(removal.p, removal.full) - nll(removal.p, removal.skip)
    spared = divergence(removal.p, removal.full) - divergence(removal.p, removal.skip)
    return min(gained, -abs(gained - spared))


def slope() -> sp.Expr:
    """d/dr of NLL_full(r) = -(1-q) log(1-r) - q log r, times r (1-r)."""
    q, r = sp.symbols("q r", positive=True)
    nll_full = -(1 - q) * sp.log(1 - r) - q * sp.log(r)
    return sp.simplify(sp.diff(nll_full, r) * r * (1 - r))


def proof() -> ProofCheck:
    """NLL_full(r) is log 2 at r = 1/2, where the model guesses, and rises for r > q."""
    q, r = sp.symbols("q r", positive=True)
    start = (-(1 - q) * sp.log(1 - r) - q * sp.log(r)).subs(r, sp.Rational(1, 2))
    return collect(
        {
            "slope (r - q)/(r (1-r)) > 0 for r > 1/2 > q": sp.expand(slope() - (r - q)) == 0,
            "NLL_full(1/2) = log 2": sp.simplify(start - sp.log(2)) == 0,
        },
        "sympy",
    )


STATEMENT = Statement(
    id="S15b",
    title="without a refit, removing a vision path that misleads helps",
    setting="V a fair bit, Y = V flipped with probability q; the model puts weight r on not-V, "
    "the skipped model guesses",
    claim="NLL_skip < NLL_full although I(Y;V|T) = log 2 - h_b(q) > 0 is removed",
    source=f"{RECONSTRUCTION}; by S2",
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
                Misled(0.9, 0.9), "where Y is mostly not-V the bet is right"
            ),
        ),
        Hypothesis(
            "a model that misleads",
            "r > 1/2",
            holds=lambda case: case.r > 0.5,
            counterexample=lambda: Counterexample(
                Misled(0.1, 0.1), "a model that reads vision as it should loses by the skip"
            ),
        ),
    ),
    proof=proof,
)
