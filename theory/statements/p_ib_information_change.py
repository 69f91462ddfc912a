"""|I(X';Y) - I(X;Y)| <= max(H(X'|X), H(X|X')) and I(X;Y|X') <= H(X|X')."""

from __future__ import annotations

import numpy as np

from theory.formula import EntropyFormula, Formulas
from theory.pmf import Pmf, as_pmf, entropy, information, random_pmf, softmax_pmf
from theory.statement import RECONSTRUCTION, Search, Statement
from theory.statements._proofs import shannon


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (X, X', Y)."""
    return random_pmf(rng, [int(n) for n in rng.integers(2, 5, 3)])


def slack(p: Pmf) -> float:
    """Smaller margin of the two bounds, in nats."""
    change = abs(information(p, [1], [2]) - information(p, [0], [2]))
    forward, backward = entropy(p, [1], given=[0]), entropy(p, [0], given=[1])
    conditional = information(p, [0], [2], given=[1])
    return min(max(forward, backward) - change, backward - conditional)


FORMULAS: Formulas = {
    "gain": EntropyFormula("I(X';Y) - I(X;Y) <= H(X'|X)"),
    "loss": EntropyFormula("I(X;Y) - I(X';Y) <= H(X|X')"),
    "conditional": EntropyFormula("I(X;Y|X') <= H(X|X')"),
}


STATEMENT = Statement(
    id="P-Ib",
    title="states that almost determine each other have similar information about the answer",
    setting="finite alphabets",
    claim="|I(X';Y) - I(X;Y)| <= max(H(X'|X), H(X|X'))  and  I(X;Y|X') <= H(X|X')",
    source=RECONSTRUCTION,
    evidence="shannon-lp",
    domain="all joint distributions of (X, X', Y)",
    generate=generate,
    slack=slack,
    # X' constant, Y = X a fair coin: the information decreases by H(X|X') = log 2.
    witness=lambda: as_pmf(np.eye(2)[:, None, :]),
    superfluous=("Markov chain Y -> X -> X': the proof does not use it.",),
    formulas=FORMULAS,
    proof=shannon,
    search=Search(12, lambda vector: softmax_pmf(vector, (2, 2, 3))),
)
