"""A small cosine distance is not sufficient: y = c x has distance 0 but changes the answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import Array, unit
from theory.statements._proofs import about, collect, is_zero


@dataclass(frozen=True)
class Grown:
    """A layer that multiplies the state by c, then a pre-norm block, then a head with two answers.

    The block adds f(x/|x|), a constant vector `write`. The logit margin is the component of the
    normalised result along x minus 3/2 times its component along `write`. If not `residual`, the
    block adds to the direction of the state instead, so nothing depends on the norm.
    """

    x: Array
    write: Array
    c: float
    residual: bool = True

    def margin(self, state: Array) -> float:
        """First logit minus second, after the block."""
        after = unit((state if self.residual else unit(state)) + self.write)
        return float(after @ unit(self.x) - 1.5 * (after @ unit(self.write)))


def generate(rng: np.random.Generator) -> Grown:
    """Orthogonal x and write of equal norm in 2 to 6 dimensions, c from 1.6 to 10."""
    dim = int(rng.integers(2, 7))
    frame, _ = np.linalg.qr(rng.standard_normal((dim, 2)))
    size = float(rng.uniform(0.5, 5.0))
    return Grown(size * frame[:, 0], size * frame[:, 1], float(rng.uniform(1.6, 10.0)))


def slack(case: Grown) -> float:
    """Minimum of -d and the margins of the two different answers, with and without the layer."""
    d = 1.0 - float(unit(case.x) @ unit(case.c * case.x))
    return min(-abs(d), case.margin(case.c * case.x), -case.margin(case.x))


C = sp.Symbol("c", positive=True)
FORMULAS: Formulas = {
    "distance": Formula(sp.Symbol("d(x,c*x)"), "=", sp.Integer(0)),
    "margin": Formula(sp.Symbol("margin(c*x)"), "=", (C - sp.Rational(3, 2)) / sp.sqrt(C**2 + 1)),
}


@about(
    {
        "distance": Formula(sp.Symbol("d(x,c*x)"), "=", None),
        "margin": Formula(sp.Symbol("margin(c*x)"), "=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """The margin is (c - 3/2)/sqrt(c^2 + 1): negative at c = 1, positive for c > 3/2."""
    s, r = sp.symbols("s r", positive=True)
    after = sp.Matrix([C * s, s])  # components along x and w, both of norm s
    margin = sp.simplify((after[0] - sp.Rational(3, 2) * after[1]) / after.norm())
    distance, claimed = claim["distance"], claim["margin"]
    return collect(
        {
            "the margin is the claimed one": is_zero(margin - claimed.right),
            "it is negative at c = 1": claimed.right.subs(C, 1).is_negative is True,
            "it is positive for c > 3/2": claimed.right.subs(C, sp.Rational(3, 2) + r).is_positive
            is True,
            "the distance is 1 - c s^2/(s c s)": is_zero(
                1 - C * s**2 / (s * C * s) - distance.right
            ),
        },
        "sympy",
    )


STATEMENT = Statement(
    id="O3",
    title="a small cosine distance is not sufficient",
    setting="a layer that multiplies the state by c; a residual block that adds a vector w with "
    "|w| = |x| orthogonal to x; a head that normalises its input and has as margin the component "
    "along x minus 3/2 times the component along w",
    claim="d(x, c x) = 0, but skipping the layer changes the answer",
    source="constructed in this project, from S6b",
    evidence="symbolic",
    domain="all such x and w, every c > 3/2",
    formulas=FORMULAS,
    generate=generate,
    slack=slack,
    witness=lambda: Grown(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 2.0),
    hypotheses=(
        Hypothesis(
            "residual connection",
            "the block adds to the state, not to its direction",
            holds=lambda case: case.residual,
            counterexample=lambda: Counterexample(
                Grown(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 2.0, residual=False),
                "without dependence on the norm, x and 2 x give the same answer (G-F)",
            ),
        ),
        Hypothesis(
            "large factor",
            "c > 3/2",
            holds=lambda case: case.c > 1.5,
            counterexample=lambda: Counterexample(
                Grown(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1.2),
                "x and 1.2 x both give the second answer",
            ),
        ),
    ),
    proof=proof,
    notes=(
        "Through the residual connection the same update is added to states of different norm, so "
        "the directions differ after the block.",
    ),
)
