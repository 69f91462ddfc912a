"""Cosine alone is not sufficient: y = c x has distance 0, and the answer changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import Array, unit
from theory.statements._proofs import collect


@dataclass(frozen=True)
class Grown:
    """A layer that multiplies the state by c, then a pre-norm block, then a head of two answers.

    The block adds f(x/|x|) = a vector `write` (it sees only the direction). The head compares
    the direction of the result along x with 3/2 of that along `write`. If not `residual`, the
    block adds to the direction, so that nothing sees the norm.
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
    """Orthogonal x and write of the same norm in 2 to 6 dimensions, c from 1.6 to 10."""
    dim = int(rng.integers(2, 7))
    frame, _ = np.linalg.qr(rng.standard_normal((dim, 2)))
    size = float(rng.uniform(0.5, 5.0))
    return Grown(size * frame[:, 0], size * frame[:, 1], float(rng.uniform(1.6, 10.0)))


def slack(case: Grown) -> float:
    """The smallest of minus d, and by how much each of the two answers wins its case."""
    d = 1.0 - float(unit(case.x) @ unit(case.c * case.x))
    return min(-abs(d), case.margin(case.c * case.x), -case.margin(case.x))


def margin() -> sp.Expr:
    """The margin after the block at a state c x, for x and write of any equal norm s."""
    s, c = sp.symbols("s c", positive=True)
    after = sp.Matrix([c * s, s])
    return sp.simplify((after[0] - sp.Rational(3, 2) * after[1]) / after.norm())


def proof() -> ProofCheck:
    """The margin is (c - 3/2)/sqrt(c^2 + 1): negative at c = 1, positive for c > 3/2."""
    c = sp.Symbol("c", positive=True)
    claimed = (c - sp.Rational(3, 2)) / sp.sqrt(c**2 + 1)
    return collect(
        {
            "margin (c - 3/2)/sqrt(c^2 + 1)": sp.simplify(margin() - claimed) == 0,
            "negative at c = 1": bool(claimed.subs(c, 1) < 0),
            "d(x, c x) = 1 - c/|c| = 0": sp.simplify(1 - c / sp.Abs(c)) == 0,
        },
        "sympy",
    )


STATEMENT = Statement(
    id="O3",
    title="a small cosine distance is not sufficient",
    setting="a layer that only multiplies the state by c, a block that writes a vector as long as "
    "x at a right angle to it, a head that compares the two parts at 2 to 3",
    claim="d(x, c x) = 0, and skipping the layer changes the answer",
    source="constructed here, from S6b",
    evidence="symbolic",
    domain="every x and such a write, every c > 3/2",
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
                "where nothing sees the norm, x and 2 x give the same answer (G-F)",
            ),
        ),
        Hypothesis(
            "enough growth",
            "c > 3/2",
            holds=lambda case: case.c > 1.5,
            counterexample=lambda: Counterexample(
                Grown(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1.2),
                "1.2 x and x both give the second answer",
            ),
        ),
    ),
    proof=proof,
    symbolic=margin,
    notes=(
        "With a residual connection the next update is added to a state of another size: one "
        "block later the directions differ.",
    ),
)
