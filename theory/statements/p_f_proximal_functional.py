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
    """One token; the other modality stays as it is."""
    return random_pairs(rng, tokens=1, other=False)


def slack(case: Pairs) -> float:
    """The bound minus the change of the mean output."""
    near = (1 - case.delta) * np.sqrt(2 * case.epsilon)
    return float(case.alpha * (near + 2 * case.delta)) - case.change


def near_and_opposite(delta: float = 0.25, angle: float = 0.4) -> Pairs:
    """A near pair and an opposite one, both chords along what the head reads: tight."""
    pairs = in_plane([np.pi / 2 - angle, 0.0], [np.pi / 2 + angle, np.pi], [1 - delta, delta])
    return replace(pairs, epsilon=float(pairs.distance[0, 0]), delta=delta)


def scaled() -> Pairs:
    """Y = 3 x, read by a head that sees the norm."""
    pairs = in_plane([0.0], [0.0], [1.0])
    return replace(pairs, y=3 * pairs.x, c=1.0)


def proof() -> ProofCheck:
    """The chord is at most sqrt(2 eps) on the event d <= eps, and at most 2 always."""
    delta, eps = sp.symbols("delta eps", nonnegative=True)
    split = (1 - delta) * sp.sqrt(2 * eps) + 2 * delta
    return both(
        chord_checks(),
        collect(
            {
                "linear in delta with slope 2 - sqrt(2 eps)": sp.simplify(
                    sp.diff(split, delta) - (2 - sp.sqrt(2 * eps))
                )
                == 0,
                "which is 0 at eps = 2": (2 - sp.sqrt(2 * eps)).subs(eps, 2) == 0,
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="P-F",
    title="few large distances give near outputs",
    setting="nonzero vectors, one token or pooled state; d the cosine distance",
    claim="|E h(X) - E h(X')| <= alpha ((1-delta) sqrt(2 eps) + 2 delta)",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all distributions over pairs, all heads Lipschitz in the direction (the checker "
    "draws affine heads and distances)",
    generate=generate,
    slack=slack,
    witness=near_and_opposite,
    hypotheses=(
        Hypothesis(
            "proximal",
            "P(d(X, X') > eps) <= delta",
            holds=lambda case: case.far <= case.delta + EXACT,
            counterexample=lambda: Counterexample(
                replace(near_and_opposite(), delta=0.0), "a quarter of the pairs is opposite"
            ),
        ),
        Hypothesis(
            "normalising head",
            "h sees the direction x/|x| only",
            holds=lambda case: case.normalises,
            counterexample=lambda: Counterexample(
                scaled(), "y = 3 x has distance 0, and a head that sees the norm moves by 2"
            ),
        ),
        Hypothesis(
            "Lipschitz constant",
            "h is alpha-Lipschitz in the direction",
            holds=lambda case: case.lipschitz,
            counterexample=lambda: Counterexample(
                replace(near_and_opposite(), alpha=0.5), "half the constant, half the bound"
            ),
        ),
    ),
    proof=proof,
    search=Search(9, lambda vector: planar(vector, 1)),
)
