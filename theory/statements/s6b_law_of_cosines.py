"""|h'-h|^2 = (|h'|-|h|)^2 + 2 |h||h'| d for the cosine distance d."""

from __future__ import annotations

import numpy as np
import sympy as sp

from theory.statement import ProofCheck, Statement
from theory.statements._pairs import Array
from theory.statements._proofs import collect


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


def difference() -> sp.Expr:
    """Left minus right side, in the norms a, b and the inner product c."""
    a, b = sp.symbols("a b", positive=True)
    c = sp.Symbol("c", real=True)
    return sp.simplify((a**2 + b**2 - 2 * c) - ((b - a) ** 2 + 2 * a * b * (1 - c / (a * b))))


def proof() -> ProofCheck:
    """|h'-h|^2 = |h|^2 + |h'|^2 - 2<h,h'> and d = 1 - <h,h'>/(|h||h'|)."""
    return collect({"the difference of the sides is 0": difference() == 0}, "sympy")


STATEMENT = Statement(
    id="S6b",
    title="the cosine distance and the norms determine the size of an update",
    setting="nonzero vectors; d the cosine distance",
    claim="|h'-h|^2 = (|h'|-|h|)^2 + 2 |h||h'| d(h,h')",
    source="law of cosines",
    evidence="symbolic",
    domain="all pairs of nonzero vectors, any dimension",
    generate=generate,
    slack=slack,
    witness=lambda: np.array([[1.0, 0.0], [2.0, 0.0]]),
    notes=(
        "The cosine distance alone gives no bound: y = c x has d = 0 and |y - x| = |c - 1||x| "
        "(O3).",
    ),
    proof=proof,
    symbolic=difference,
)
