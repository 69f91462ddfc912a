"""Zero unique vision information is not sufficient: XOR has U_V = 0 and loses everything."""

from __future__ import annotations

import numpy as np
import sympy as sp

from theory.formula import EntropyFormula, Formula, Formulas
from theory.pmf import Pmf, entropy, information
from theory.statement import ProofCheck, Statement
from theory.statements._proofs import about, both, collect, is_zero, shannon

Y, V, T = range(3)


def noisy_xor(q: float) -> Pmf:
    """Pmf of (Y, V, T): Y = V xor T of two fair bits, flipped with probability q."""
    p = np.full((2, 2, 2), q / 4)
    for v, t in np.ndindex(2, 2):
        p[v ^ t, v, t] = (1 - q) / 4
    return p


def generate(rng: np.random.Generator) -> float:
    """A flip probability below 1/2."""
    return float(rng.uniform(0.0, 0.5))


def slack(q: float) -> float:
    """Minus the largest error of I(Y;V) = 0, I(Y;V|T) = log 2 - h_b(q) and P_e = q, then 1/2.

    I(Y;V) = 0 implies U_V = I(Y;V) - R = 0 for every nonnegative PID.
    """
    p = noisy_xor(q)
    loss = np.log(2.0) - entropy(np.array([q, 1 - q]))
    with_vision = 1 - float(p.max(axis=0).sum())
    without = 1 - float(p.sum(axis=1).max(axis=0).sum())
    return -max(
        abs(information(p, [Y], [V])),
        abs(information(p, [Y], [V], given=[T]) - float(loss)),
        abs(with_vision - q),
        abs(without - 0.5),
    )


Q = sp.Symbol("q", positive=True)
FORMULAS: Formulas = {
    "P(y|v)": Formula(sp.Symbol("P(y|v)"), "=", sp.Rational(1, 2)),
    "P(y|t)": Formula(sp.Symbol("P(y|t)"), "=", sp.Rational(1, 2)),
    "loss": Formula(
        sp.Symbol("I(Y;V|T)"), "=", sp.log(2) + Q * sp.log(Q) + (1 - Q) * sp.log(1 - Q)
    ),
    "loss as entropies": EntropyFormula("I(Y;V|T) = H(Y|T) - H(Y|V,T)"),
    "all information": EntropyFormula("I(Y;V|T) = I(Y;V,T)", ("Y _|_ T",)),
    "no unique information": EntropyFormula("I(Y;V) = 0", ("Y _|_ V",)),
}


@about(
    {
        "P(y|v)": Formula(sp.Symbol("P(y|v)"), "=", None),
        "P(y|t)": Formula(sp.Symbol("P(y|t)"), "=", None),
        "loss": Formula(sp.Symbol("I(Y;V|T)"), "=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """P(y|v) = P(y|t) = 1/2 for every q; with S9, U_V + S = I(Y;V|T) = H(Y|T) - H(Y|V,T)."""
    p = {(y, v, t): ((1 - Q) if y == v ^ t else Q) / 4 for y in (0, 1) for v, t in np.ndindex(2, 2)}
    given = {
        "P(y|v)": [2 * (p[y, v, 0] + p[y, v, 1]) for y, v in np.ndindex(2, 2)],
        "P(y|t)": [2 * (p[y, 0, t] + p[y, 1, t]) for y, t in np.ndindex(2, 2)],
    }
    given_both = -sum(mass * sp.log(4 * mass) for mass in p.values())  # H(Y|V,T)
    loss = sp.log(2) - given_both
    checks = {
        f"{name} is the claimed one": all(is_zero(value - claim[name].right) for value in values)
        for name, values in given.items()
    }
    checks["H(Y|T) - H(Y|V,T) is the claimed loss"] = is_zero(loss - claim["loss"].right)
    return both(collect(checks, "sympy"), shannon(claim))


STATEMENT = Statement(
    id="O4",
    title="zero unique vision information is not sufficient",
    setting="Y = V xor T of two fair bits, flipped with probability q < 1/2; any nonnegative PID",
    claim="U_V = 0, but early exit loses I(Y;V|T) = log 2 - h_b(q) = I(Y;V,T), all information",
    source="constructed in this project, from S9",
    evidence="shannon-lp",
    domain="every q in (0, 1/2)",
    formulas=FORMULAS,
    argument="Conditionals that do not depend on the condition mean independence. R + U_V = "
    "I(Y;V) = 0 with nonnegative atoms gives U_V = 0. q = 0 is the limit.",
    generate=generate,
    slack=slack,
    witness=lambda: 0.0,
    notes=("Early exit loses synergy too: the condition of S9 is U_V = S = 0.",),
    proof=proof,
)
