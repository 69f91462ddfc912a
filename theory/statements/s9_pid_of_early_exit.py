"""I(Y;V,T) - I(Y;T) = U_V + S = I(Y;V|T) for every PID with the consistency equations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import EntropyFormula, Formula, Formulas
from theory.pmf import Pmf, as_pmf, information, random_pmf
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Statement,
)
from theory.statements._proofs import about, both, collect, is_zero, shannon

Y, V, T = range(3)


@dataclass(frozen=True)
class Decomposition:
    """A joint pmf of (Y, V, T) and the PID defined by a value of the redundancy, in nats."""

    p: Pmf
    redundant: float

    @property
    def unique_vision(self) -> float:
        """U_V = I(Y;V) - R."""
        return information(self.p, [Y], [V]) - self.redundant

    @property
    def unique_text(self) -> float:
        """U_T = I(Y;T) - R."""
        return information(self.p, [Y], [T]) - self.redundant

    @property
    def synergistic(self) -> float:
        """S = I(Y;V,T) - U_V - U_T - R."""
        total = information(self.p, [Y], [V, T])
        return total - self.unique_vision - self.unique_text - self.redundant

    @property
    def nonnegative(self) -> bool:
        """Whether all four atoms are >= 0 up to rounding."""
        atoms = (self.redundant, self.unique_vision, self.unique_text, self.synergistic)
        return min(atoms) >= -1e-10


def generate(rng: np.random.Generator) -> Decomposition:
    """A random pmf with a nonnegative PID; in one third of the instances I(Y;V|T) = 0."""
    y, v, t = (int(n) for n in rng.integers(2, 5, 3))
    p = random_pmf(rng, (y, v, t))
    if rng.random() < 1 / 3:
        with_text = random_pmf(rng, (y, t))
        p = with_text[:, None, :] * rng.dirichlet(np.ones(v), size=t).T[None, :, :]
    vision, text = information(p, [Y], [V]), information(p, [Y], [T])
    lowest = max(0.0, vision + text - information(p, [Y], [V, T]))
    share = float(rng.choice([0.0, rng.random(), 1.0]))
    return Decomposition(p, lowest + share * (min(vision, text) - lowest))


def slack(case: Decomposition) -> float:
    """Minimum of minus the error of the identity and I(Y;V|T) - max(U_V, S), in nats."""
    loss = information(case.p, [Y], [V], given=[T])
    error = abs(case.unique_vision + case.synergistic - loss)
    return min(-error, loss - max(case.unique_vision, case.synergistic))


TOTAL, TEXT = sp.symbols("I_VT I_T", nonnegative=True)
FORMULAS: Formulas = {
    "atoms": Formula(sp.Symbol("U_V+S"), "=", TOTAL - TEXT),
    "chain rule": EntropyFormula("I(Y;V,T) - I(Y;T) = I(Y;V|T)"),
}


@about({"atoms": Formula(sp.Symbol("U_V+S"), "=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """Algebra for the atoms, for any R; chain rule for the information."""
    r, u_v, u_t, s = sp.symbols("R U_V U_T S", real=True)
    vision = sp.Symbol("I_V", nonnegative=True)
    equations = [r + u_v - vision, r + u_t - TEXT, r + u_v + u_t + s - TOTAL]
    solved = sp.solve(equations, [u_v, u_t, s], dict=True)[0]
    atoms = claim["atoms"]
    agrees = is_zero(solved[u_v] + solved[s] - atoms.right)
    return both(
        collect({"U_V + S = I(Y;V,T) - I(Y;T) for every R": agrees}, "sympy"), shannon(claim)
    )


def cancelling() -> Decomposition:
    """V = T = Y and R = 2 bits: U_V = -1 bit, S = 1 bit, I(Y;V|T) = 0."""
    p = np.zeros((2, 2, 2))
    p[0, 0, 0] = p[1, 1, 1] = 0.5
    return Decomposition(p, 2.0 * np.log(2.0))


def xor() -> Decomposition:
    """Y = V xor T of two fair bits: U_V = 0, S = 1 bit = I(Y;V|T)."""
    p = np.zeros((2, 2, 2))
    for v, t in np.ndindex(2, 2):
        p[v ^ t, v, t] = 0.25
    return Decomposition(as_pmf(p), 0.0)


STATEMENT = Statement(
    id="S9",
    title="early exit loses unique vision information and synergy",
    setting="finite alphabets; atoms with R + U_V = I(Y;V), R + U_T = I(Y;T) and "
    "R + U_V + U_T + S = I(Y;V,T)",
    claim="I(Y;V,T) - I(Y;T) = U_V + S = I(Y;V|T); this is 0, and early exit does not change the "
    "Bayes risk for any loss, iff U_V = S = 0",
    source=f"{RECONSTRUCTION}; Williams & Beer 2010, arXiv:1004.2515, for the equations",
    evidence="shannon-lp",
    domain="all joint distributions, every PID that satisfies the equations",
    formulas=FORMULAS,
    argument="Two nonnegative numbers with sum 0 are 0. I(Y;V|T) = 0 means that the posterior "
    "of Y does not depend on V given T, so the Bayes risk changes for no loss; the log loss "
    "shows the converse (S2).",
    generate=generate,
    slack=slack,
    witness=xor,
    hypotheses=(
        Hypothesis(
            "nonnegative atoms",
            "R, U_V, U_T, S >= 0 (for the equivalence; the identity does not require it)",
            holds=lambda case: case.nonnegative,
            counterexample=lambda: Counterexample(
                cancelling(), "U_V = -1 bit and S = 1 bit cancel: I(Y;V|T) = 0 with nonzero atoms"
            ),
        ),
    ),
    notes=("U_V = 0 alone is not sufficient: XOR has U_V = 0 and loses all information (O4).",),
    proof=proof,
)
