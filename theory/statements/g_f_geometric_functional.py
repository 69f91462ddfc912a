"""|E h(x,z) - E h(y,w)| <= alpha sqrt(2 n eps) + beta E|z-w| for a mean cosine distance eps."""

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
    DISTANCE,
    EPS,
    D,
    Pairs,
    chord_checks,
    in_plane,
    planar,
    random_pairs,
)
from theory.statements._proofs import about, both, collect, is_nonnegative, sign_between


def generate(rng: np.random.Generator) -> Pairs:
    """One to four tokens; the other modality changes too."""
    return random_pairs(rng, tokens=int(rng.integers(1, 5)), other=True)


def slack(case: Pairs) -> float:
    """Bound with eps = E d, minus the change of the mean output."""
    tokens = case.x.shape[1]
    chord = np.sqrt(2 * tokens * max(case.mean_distance, 0.0))
    shift = float(case.p @ np.linalg.norm(case.z - case.w, axis=1))
    return float(case.alpha * chord + case.beta * shift) - case.change


def symmetric(angle: float = 0.4) -> Pairs:
    """One pair, mirrored at the second axis: the head reads the direction of the chord."""
    return in_plane([np.pi / 2 - angle], [np.pi / 2 + angle], [1.0])


def scaled() -> Pairs:
    """Y = 3 x, with a head that depends on the norm."""
    pair = symmetric(0.0)
    return replace(pair, y=3 * pair.x, c=1.0)


ALPHA, BETA, SHIFT = sp.symbols("alpha beta E|Z-Z'|", positive=True)
TOKENS = sp.Symbol("n", positive=True, integer=True)
FORMULAS: Formulas = {
    **DISTANCE,
    "change": Formula(
        sp.Symbol("|E h(X,Z) - E h(X',Z')|"),
        "<=",
        ALPHA * sp.sqrt(2 * TOKENS * EPS) + BETA * SHIFT,
    ),
}


@about({"change": Formula(sp.Symbol("|E h(X,Z) - E h(X',Z')|"), "<=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """The bound is concave in eps, and for each input at least alpha |u - v| + beta |z - z'|."""
    i = sp.Symbol("i", integer=True)
    bound = claim["change"].right
    chord = sp.Sum(claim["chord"].right.subs(D, EPS), (i, 1, TOKENS)).doit()
    each = ALPHA * sp.sqrt(chord) + BETA * SHIFT
    return both(
        chord_checks(claim),
        collect(
            {
                "|u-v|^2 = 2 n eps for n tokens, and the bound is at least "
                "alpha |u-v| + beta |z-z'|": is_nonnegative(sp.simplify(bound - each)),
                "the bound is concave in eps": sign_between(sp.diff(bound, EPS, 2), EPS, 0, sp.oo)
                == -1,
                "it is affine in |z-z'|": sp.diff(bound, SHIFT, 2) == 0,
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="G-F",
    title="a small mean cosine distance implies a small change of the mean output",
    setting="nonzero states; h reads n tokens jointly; eps = E d, the mean over tokens and inputs "
    "(n = 1: one token or one pooled state)",
    claim="|E h(X,Z) - E h(X',Z')| <= alpha sqrt(2 n eps) + beta E|Z-Z'|",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all distributions over pairs, all heads that are Lipschitz in the directions (drawn "
    "instances: affine heads and distances to a point)",
    formulas=FORMULAS,
    argument="For each input |h - h'| <= alpha |u - v| + beta |z - z'| by the Lipschitz "
    "constants, with |u - v|^2 = sum_i 2 d_i over the n tokens. The bound is concave in the mean "
    "distance and affine in |z - z'|, so by Jensen's inequality it holds on average.",
    generate=generate,
    slack=slack,
    witness=symmetric,
    hypotheses=(
        Hypothesis(
            "normalising head",
            "h depends on x only through the directions x/|x|",
            holds=lambda case: case.normalises,
            counterexample=lambda: Counterexample(
                scaled(), "y = 3 x has distance 0, and a head that adds |x| changes by 2"
            ),
        ),
        Hypothesis(
            "Lipschitz constants",
            "h is alpha-Lipschitz in the directions and beta-Lipschitz in Z",
            holds=lambda case: case.lipschitz,
            counterexample=lambda: Counterexample(
                replace(symmetric(), alpha=0.5),
                "with alpha = 1/2 for a head of constant 1 the bound is half the change",
            ),
        ),
    ),
    notes=(
        "The suffix of a pre-norm model is not covered: it adds updates to the state itself and so "
        "depends on the norm (S6b, O3).",
        "For a head that reads n tokens with mean distance eps, the bound sqrt(2 eps) without n is "
        "false.",
    ),
    proof=proof,
    search=Search(15, lambda vector: planar(vector, 2)),
)
