"""P(d > eps) <= delta => |E h(x) - E h(y)| <= alpha ((1-delta) sqrt(2 eps) + 2 delta)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
)
from theory.statements._pairs import (
    DELTA,
    DISTANCE,
    EPS,
    EXACT,
    D,
    Pairs,
    chord_checks,
    in_plane,
    planar,
    random_pairs,
)
from theory.statements._proofs import about, both, collect, is_nonnegative


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


ALPHA = sp.Symbol("alpha", positive=True)
FORMULAS: Formulas = {
    **DISTANCE,
    "change": Formula(
        sp.Symbol("|E h(X) - E h(X')|"),
        "<=",
        ALPHA * ((1 - DELTA) * sp.sqrt(2 * EPS) + 2 * DELTA),
    ),
}


@about({"change": Formula(sp.Symbol("|E h(X) - E h(X')|"), "<=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """|u-v| is at most sqrt(2 eps) if d <= eps, and at most 2 otherwise."""
    r, q = sp.symbols("r q", nonnegative=True)
    bound, top = claim["change"].right, claim["range of d"].right
    near, far = (sp.sqrt(claim["chord"].right.subs(D, d)) for d in (EPS, top))
    share = 1 / (1 + q)
    return both(
        chord_checks(claim),
        collect(
            {
                "at p = delta the bound is alpha ((1-p) sqrt(2 eps) + 2 p)": is_nonnegative(
                    sp.simplify(bound - ALPHA * ((1 - DELTA) * near + DELTA * far))
                ),
                "it rises in delta for eps <= 2": is_nonnegative(
                    sp.simplify(sp.diff(bound, DELTA).subs(EPS, top / (1 + r) ** 2))
                ),
                "it is at least 2 alpha for eps >= 2": is_nonnegative(
                    sp.simplify(bound.subs({EPS: top * (1 + r) ** 2, DELTA: share}) - ALPHA * far)
                ),
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="P-F",
    title="few large distances imply a small change of the mean output",
    setting="nonzero states, one token or one pooled state; d the cosine distance; h reads nothing "
    "else that changes",
    claim="|E h(X) - E h(X')| <= alpha ((1-delta) sqrt(2 eps) + 2 delta)",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all distributions over pairs, all heads that are Lipschitz in the direction (drawn "
    "instances: affine heads and distances to a point)",
    formulas=FORMULAS,
    argument="For each pair |h - h'| <= alpha |u - v| by the Lipschitz constant, and |u - v| is at "
    "most sqrt(2 eps) if d <= eps and at most 2 otherwise; average over the pairs.",
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
