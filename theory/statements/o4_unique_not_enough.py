"""Zero unique vision information is not sufficient: XOR has U_V = 0 and loses everything."""

from __future__ import annotations

import numpy as np
import sympy as sp

from theory.pmf import Pmf, entropy, information
from theory.statement import ProofCheck, Statement
from theory.statements._proofs import both, collect, shannon

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


def proof() -> ProofCheck:
    """P(y|v) = P(y|t) = 1/2 for every q; with S9, U_V + S = I(Y;V|T) = H(Y|T) - H(Y|V,T)."""
    q = sp.Symbol("q", positive=True)
    cells = {
        (v, t): [(1 - q) / 4 if y == v ^ t else q / 4 for y in (0, 1)]
        for v, t in [(0, 0), (0, 1), (1, 0), (1, 1)]
    }
    given_v = [sp.simplify(cells[v, 0][0] + cells[v, 1][0]) * 2 for v in (0, 1)]
    given_t = [sp.simplify(cells[0, t][0] + cells[1, t][0]) * 2 for t in (0, 1)]
    half = sp.Rational(1, 2)
    return both(
        collect(
            {
                "P(y|v) = 1/2": all(sp.simplify(x - half) == 0 for x in given_v),
                "P(y|t) = 1/2": all(sp.simplify(x - half) == 0 for x in given_t),
            },
            "sympy",
        ),
        shannon(("I(Y;V|T) = H(Y|T) - H(Y|V,T)", ())),
    )


STATEMENT = Statement(
    id="O4",
    title="zero unique vision information is not sufficient",
    setting="Y = V xor T of two fair bits, flipped with probability q < 1/2; any nonnegative PID",
    claim="U_V = 0, but early exit loses I(Y;V|T) = log 2 - h_b(q) = I(Y;V,T), all information",
    source="constructed in this project, from S9",
    evidence="shannon-lp",
    domain="every q (the conditionals by sympy, the identity by shannon-lp)",
    generate=generate,
    slack=slack,
    witness=lambda: 0.0,
    notes=("Early exit loses synergy too: the condition of S9 is U_V = S = 0.",),
    proof=proof,
)
