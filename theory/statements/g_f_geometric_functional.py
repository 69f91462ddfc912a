"""|E h(x,z) - E h(y,w)| <= alpha sqrt(2 n eps) + beta E|z-w|: near directions, near outputs."""

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
from theory.statements._pairs import Pairs, chord_checks, in_plane, planar, random_pairs
from theory.statements._proofs import both, collect


def generate(rng: np.random.Generator) -> Pairs:
    """One to four tokens, with or without a change of the other modality."""
    return random_pairs(rng, tokens=int(rng.integers(1, 5)), other=True)


def slack(case: Pairs) -> float:
    """Right side with eps = E d, minus the change of the mean output."""
    tokens = case.x.shape[1]
    chord = np.sqrt(2 * tokens * max(case.mean_distance, 0.0))
    other = float(case.p @ np.linalg.norm(case.z - case.w, axis=1))
    return float(case.alpha * chord + case.beta * other) - case.change


def symmetric(angle: float = 0.4) -> Pairs:
    """One pair, mirrored at the second axis: the chord lies along what the head reads."""
    return in_plane([np.pi / 2 - angle], [np.pi / 2 + angle], [1.0])


def scaled() -> Pairs:
    """Y = 3 x, read by a head that sees the norm."""
    pair = symmetric(0.0)
    return replace(pair, y=3 * pair.x, c=1.0)


def proof() -> ProofCheck:
    """|h - h'| <= alpha |u - v| + beta |z - w|, chord = sqrt(2 d), Jensen.

    On a slice of n tokens |u - v|^2 = sum 2 d_i = 2 n times the mean of d_i.
    """
    n = sp.Symbol("n", positive=True, integer=True)
    i = sp.Symbol("i", integer=True)
    d = sp.Symbol("d", nonnegative=True)
    slice_chord = sp.Sum(2 * d, (i, 1, n)).doit()
    return both(
        chord_checks(),
        collect({"n tokens at mean d: chord^2 = 2 n d": slice_chord == 2 * n * d}, "sympy"),
    )


STATEMENT = Statement(
    id="G-F",
    title="near directions give near outputs",
    setting="nonzero tokens; n tokens read at once, eps = E d the mean over tokens and inputs "
    "(n = 1: one token or pooled state)",
    claim="|E h(X,Z) - E h(X',Z')| <= alpha sqrt(2 n eps) + beta E|Z-Z'|",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all distributions over pairs, all heads Lipschitz in the directions (the checker "
    "draws affine heads and distances)",
    generate=generate,
    slack=slack,
    witness=symmetric,
    hypotheses=(
        Hypothesis(
            "normalising head",
            "h sees the directions x/|x| only",
            holds=lambda case: case.normalises,
            counterexample=lambda: Counterexample(
                scaled(), "y = 3 x has distance 0, and a head that sees the norm moves by 2"
            ),
        ),
        Hypothesis(
            "Lipschitz constants",
            "h is alpha-Lipschitz in the directions and beta-Lipschitz in Z",
            holds=lambda case: case.lipschitz,
            counterexample=lambda: Counterexample(
                replace(symmetric(), alpha=0.5), "half the constant, half the bound"
            ),
        ),
    ),
    notes=(
        "A pre-norm tail adds its updates to the state itself and so sees the norm too: it is "
        "not covered (S6b, O3).",
        "With the mean over n tokens equal to eps and a head that reads the whole slice, "
        "sqrt(2 eps) without n is false.",
    ),
    proof=proof,
    search=Search(15, lambda vector: planar(vector, 2)),
)
