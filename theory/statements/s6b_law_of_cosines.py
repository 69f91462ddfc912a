"""|h'-h|^2 = (|h'|-|h|)^2 + 2 |h||h'| d for the cosine distance d."""

from __future__ import annotations

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.statement import ProofCheck, Statement
from theory.statements._pairs import Array
from theory.statements._proofs import about, collect, is_zero


def generate(rng: np.random.Generator) -> Array:
    """Two vectors of various norms, shape (2, dim)."""
    pair = rng.standard_normal((2, int(rng.integers(1, 8))))
    return np.asarray(pair * 10.0 ** rng.uniform(-1, 1, (2, 1)))


def slack(pair: Array) -> float:
    """Minus the error of the identity, divided by the sum of the squared norms."""
    a, b = np.linalg.norm(pair, axis=1)
    d = 1.0 - float(pair[0] @ pair[1]) / (a * b)
    error = float(((pair[1] - pair[0]) ** 2).sum() - ((b - a) ** 2 + 2 * a * b * d))
    return -abs(error) / float(a**2 + b**2)


A, B = sp.symbols("|h| |h'|", positive=True)
DISTANCE = sp.Symbol("d", nonnegative=True)
FORMULAS: Formulas = {
    "law of cosines": Formula(sp.Symbol("|h'-h|^2"), "=", (B - A) ** 2 + 2 * A * B * DISTANCE),
}


@about({"law of cosines": Formula(sp.Symbol("|h'-h|^2"), "=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """|h'-h|^2 = |h|^2 + |h'|^2 - 2<h,h'> with <h,h'> = |h||h'|(1 - d)."""
    inner = A * B * (1 - DISTANCE)
    formula = claim["law of cosines"]
    return collect(
        {
            "|h|^2 + |h'|^2 - 2 |h||h'|(1-d) is the right side": is_zero(
                A**2 + B**2 - 2 * inner - formula.right
            )
        },
        "sympy",
    )


STATEMENT = Statement(
    id="S6b",
    title="the cosine distance and the norms determine the size of an update",
    setting="nonzero vectors; d the cosine distance",
    claim="|h'-h|^2 = (|h'|-|h|)^2 + 2 |h||h'| d(h,h')",
    source="law of cosines",
    evidence="symbolic",
    domain="all pairs of nonzero vectors, any dimension",
    formulas=FORMULAS,
    argument="|h'-h|^2 = |h|^2 + |h'|^2 - 2<h,h'> in any dimension by bilinearity, and d = 1 - "
    "<h,h'>/(|h||h'|) by definition.",
    generate=generate,
    slack=slack,
    witness=lambda: np.array([[1.0, 0.0], [2.0, 0.0]]),
    notes=(
        "The cosine distance alone gives no bound: y = c x has d = 0 and |y - x| = |c - 1||x| "
        "(O3).",
    ),
    proof=proof,
)
