"""P_e <= H(Y|Z)/(2 ln 2) and P_e <= 1 - exp(-H(Y|Z)) for the Bayes error P_e."""

from __future__ import annotations

import math

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.pmf import Pmf, as_pmf, entropy, random_pmf, softmax_pmf
from theory.statement import ProofCheck, Search, Statement
from theory.statements._proofs import about, collect, is_nonnegative, nonnegative, sign_between


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (Z, Y), shape (z, k)."""
    return random_pmf(rng, (int(rng.integers(1, 5)), int(rng.integers(2, 6))))


def slack(p: Pmf) -> float:
    """Smaller bound minus the Bayes error."""
    error = 1.0 - float(p.max(axis=1).sum())
    nats = entropy(p, [1], given=[0])
    return min(nats / (2.0 * math.log(2.0)), -math.expm1(-nats)) - error


P_E = sp.Symbol("P_e")
H = sp.Symbol("H", positive=True)
FORMULAS: Formulas = {
    "Hellman-Raviv": Formula(P_E, "<=", H / (2 * sp.log(2))),
    "exponential": Formula(P_E, "<=", 1 - sp.exp(-H)),
}


@about(
    {
        "Hellman-Raviv": Formula(P_E, "<=", None),
        "exponential": Formula(P_E, "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """Each bound b is concave and rises; b(H(p)) >= 1 - m for every pmf p with largest entry m.

    H(p) >= -log m on all of (0, 1], since p_y <= m, and H(p) >= h_b(m), since the indicator of the
    most probable answer is a function of Y; the second is used on [1/2, 1] only.
    """
    m, half = sp.Symbol("m", positive=True), sp.Rational(1, 2)
    low, binary = -sp.log(m), -m * sp.log(m) - (1 - m) * sp.log(1 - m)
    checks = {}
    for name, formula in claim.items():
        bound = formula.right
        checks[f"{name}: b(H) rises and is concave"] = (
            is_nonnegative(sp.diff(bound, H))
            and sign_between(sp.diff(bound, H, 2), H, 0, sp.oo) < 0
        ) or (sp.diff(bound, H).is_positive is True and sp.diff(bound, H, 2) == 0)
        checks[f"{name}: b(-log m) >= 1-m for m <= 1/2"] = nonnegative(
            sp.simplify(bound.subs(H, low)) - (1 - m), m, 0, half
        )
        checks[f"{name}: b(-log m) or b(h_b(m)) >= 1-m for m >= 1/2"] = any(
            nonnegative(sp.simplify(bound.subs(H, entropy)) - (1 - m), m, half, 1)
            for entropy in (low, binary)
        )
    return collect(checks, "sympy")


STATEMENT = Statement(
    id="S4a",
    title="a small conditional entropy implies a small Bayes error",
    setting="finite alphabets; P_e the Bayes error of predicting Y from Z",
    claim="P_e <= H(Y|Z) / (2 ln 2)  and  P_e <= 1 - exp(-H(Y|Z)), H in nats",
    source="Hellman & Raviv 1970, Eq. 7; the second bound by Jensen's inequality",
    evidence="symbolic",
    domain="all joint pmfs of (Z, Y), any finite k",
    formulas=FORMULAS,
    argument="For one pmf p with largest entry m the Bayes error is 1 - m, H(p) >= -log m since "
    "p_y <= m, and H(p) >= h_b(m) since the indicator of the most probable answer is a function "
    "of Y. Average over z by Jensen's inequality.",
    generate=generate,
    slack=slack,
    witness=lambda: as_pmf([[1.0, 1.0]]),  # a fair coin: P_e = 1/2, equal to both bounds
    proof=proof,
    search=Search(6, lambda vector: softmax_pmf(vector, (2, 3))),
)
