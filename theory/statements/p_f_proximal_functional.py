"""P(d > eps) <= delta => |E h(x) - E h(y)| <= alpha ((1-delta) sqrt(2 eps) + 2 delta)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp

from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
)
from theory.statements._pairs import EXACT, Pairs, chord_checks, in_plane, planar, random_pairs
from theory.statements._proofs import both, collect


def generate(rng: np.random.Generator) -> Pairs:
    """One token; the other modality does not change."""
    return random_pairs(rng, tokens=1, other=False)


def slack(case: Pairs) -> float:
    """The bound minus the change of the mean output."""
    chord = (1 - case.delta) * np.sqrt(2 * case.epsilon) + 2 * case.delta
    return float(case.alpha * chord) - case.change


def near_and_opposite(delta: float = 0.25, angle: float = 0.4) -> Pairs:
    """A near and an antipodal pair, both with chords along the direction the head reads: tight."""
    pairs = in_plane([np.pi / 2 - angle, 0.0], [np.pi / 2 + angle, np.pi], [1 - delta, delta])
    return replace(pairs, epsilon=float(pairs.distance[0, 0]), delta=delta)


def scaled() -> Pairs:
    """Y = 3 x, with a head that depends on the norm."""
    pairs = in_plane([0.0], [0.0], [1.0])
    return replace(pairs, y=3 * pairs.x, c=1.0)


def proof() -> ProofCheck:
    """|u-v| is at most sqrt(2 eps) if d <= eps, and at most 2 otherwise."""
    delta, eps = sp.symbols("delta eps", nonnegative=True)
    split = (1 - delta) * sp.sqrt(2 * eps) + 2 * delta
    return both(
        chord_checks(),
        collect(
            {
                "(1-delta) sqrt(2 eps) + 2 delta has slope 2 - sqrt(2 eps) in delta": sp.simplify(
                    sp.diff(split, delta) - (2 - sp.sqrt(2 * eps))
                )
                == 0,
                "the slope is 0 at eps = 2": (2 - sp.sqrt(2 * eps)).subs(eps, 2) == 0,
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="P-F",
    title="few large distances imply a small change of the mean output",
    setting="nonzero states, one token or one pooled state; d the cosine distance",
    claim="|E h(X) - E h(X')| <= alpha ((1-delta) sqrt(2 eps) + 2 delta)",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all distributions over pairs, all heads that are Lipschitz in the direction (drawn "
    "instances: affine heads and distances to a point)",
    generate=generate,
    slack=slack,
    witness=near_and_opposite,
    hypotheses=(
        Hypothesis(
            "proximal",
            "P(d(X, X') > eps) <= delta",
            holds=lambda case: case.tail <= case.delta + EXACT,
            counterexample=lambda: Counterexample(
                replace(near_and_opposite(), delta=0.0),
                "a quarter of the pairs is antipodal, but delta = 0",
            ),
        ),
        Hypothesis(
            "normalising head",
            "h depends on x only through the direction x/|x|",
            holds=lambda case: case.normalises,
            counterexample=lambda: Counterexample(
                scaled(), "y = 3 x has distance 0, and a head that adds |x| changes by 2"
            ),
        ),
        Hypothesis(
            "Lipschitz constant",
            "h is alpha-Lipschitz in the direction",
            holds=lambda case: case.lipschitz,
            counterexample=lambda: Counterexample(
                replace(near_and_opposite(), alpha=0.5),
                "with alpha = 1/2 for a head of constant 1 the bound is half the change",
            ),
        ),
    ),
    proof=proof,
    search=Search(9, lambda vector: planar(vector, 1)),
)
