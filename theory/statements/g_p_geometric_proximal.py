"""G(eps) => P(t, eps/t), and P(eps, delta) => G(eps (1-delta) + 2 delta)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.pmf import random_pmf
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
)
from theory.statements._pairs import DELTA, DISTANCE, EPS, Array, chord_checks, unit
from theory.statements._proofs import about, both, collect, is_nonnegative


@dataclass(frozen=True)
class Distances:
    """Pairs of vectors x, y of shape (m, dim) with probabilities p, and two thresholds.

    If not `same_unit`, the pairs are the tokens of one input: the mean is over tokens and the
    probability is that of inputs with a token beyond the threshold.
    """

    p: Array
    x: Array
    y: Array
    t: float
    epsilon: float
    same_unit: bool = True

    def tail(self, threshold: float) -> float:
        """P(d > threshold)."""
        exceeds = self.d > threshold
        return float(self.p[exceeds].sum()) if self.same_unit else float(exceeds.any())

    @property
    def d(self) -> Array:
        """Cosine distances, shape (m,)."""
        return np.asarray(1.0 - (unit(self.x) * unit(self.y)).sum(axis=1))


def generate(rng: np.random.Generator) -> Distances:
    """Random pairs at various distances; with probability 1/2 one pair is antipodal."""
    m, dim = (int(n) for n in rng.integers(1, 6, 2))
    x = rng.standard_normal((m, dim))
    y = x + rng.choice([0.1, 1.0, 10.0]) * rng.standard_normal((m, dim))
    if rng.random() < 0.5:
        y[0] = -x[0]
    return Distances(
        random_pmf(rng, (m,)), x, y, float(rng.uniform(0.01, 2.5)), float(rng.uniform(0.0, 2.5))
    )


def slack(case: Distances) -> float:
    """Minimum of eps/t - P(d > t) with eps = E d, and the bound on E d minus E d."""
    mean = float(case.p @ case.d)
    delta = case.tail(case.epsilon)
    return min(mean / case.t - case.tail(case.t), case.epsilon * (1 - delta) + 2 * delta - mean)


def opposite() -> Distances:
    """One pair of opposite directions, eps = 0: delta = 1 and E d = 2."""
    x = np.array([[1.0, 0.0]])
    return Distances(np.ones(1), x, -x, 1.0, 0.0)


def one_far_token() -> Distances:
    """One input of two tokens, one of which is reversed: E d = 1, P(d > 1.5) = 1 over inputs."""
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    return Distances(np.full(2, 0.5), x, x * [[1.0], [-1.0]], 1.5, 0.0, same_unit=False)


def planar(vector: Array) -> Distances:
    """Two pairs in the plane from five parameters: two angles, a weight, two thresholds."""
    angle = np.pi * np.clip(vector[:2], -9, 9)
    p = 0.5 + 0.5 * np.tanh(vector[2])
    t, epsilon = 1.001 + np.tanh(vector[3]), 1.0 + np.tanh(vector[4])
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    y = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Distances(np.array([p, 1 - p]), x, y, float(t), float(epsilon))


T = sp.Symbol("t", positive=True)
FORMULAS: Formulas = {
    **DISTANCE,
    "Markov": Formula(sp.Symbol("P(d>t)"), "<=", EPS / T),
    "mean": Formula(sp.Symbol("E d"), "<=", EPS * (1 - DELTA) + 2 * DELTA),
}


@about(
    {
        "Markov": Formula(sp.Symbol("P(d>t)"), "<=", None),
        "mean": Formula(sp.Symbol("E d"), "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """Both bounds hold for each pair, hence on average.

    t 1[d > t] <= d since d >= 0, and d <= eps 1[d <= eps] + D 1[d > eps] since d <= D.
    """
    r, q = sp.symbols("r q", nonnegative=True)
    markov, mean, top = claim["Markov"].right, claim["mean"].right, claim["range of d"].right
    share = 1 / (1 + q)
    return both(
        chord_checks(claim),
        collect(
            {
                "the bound on P(d > t) is affine in eps, >= 0 at 0, >= 1 for eps >= t": sp.diff(
                    markov, EPS, 2
                )
                == 0
                and is_nonnegative(markov.subs(EPS, 0))
                and is_nonnegative(markov.subs(EPS, T + r) - 1),
                "the bound on E d is at least (1-p) eps + 2 p at p = delta": is_nonnegative(
                    sp.expand(mean - (1 - DELTA) * EPS - top * DELTA)
                ),
                "it rises in delta for eps <= 2": is_nonnegative(
                    sp.diff(mean, DELTA).subs(EPS, top / (1 + r))
                ),
                "it is at least 2 for eps >= 2": is_nonnegative(
                    mean.subs({EPS: top + r, DELTA: share}) - top
                ),
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="G-P",
    title="a small mean distance is equivalent to few large distances",
    setting="nonzero vectors; d the cosine distance; t > 0; delta >= P(d > eps)",
    claim="E d <= eps => P(d > t) <= eps/t;  P(d > eps) <= delta => E d <= eps(1-delta) + 2 delta",
    source=f"{RECONSTRUCTION}; Markov's inequality",
    evidence="symbolic",
    domain="all distributions over pairs of nonzero vectors, any dimension",
    formulas=FORMULAS,
    argument="For each pair, 1[d > t] <= d/t and d <= eps 1[d <= eps] + 2 1[d > eps]; an affine "
    "bound for each pair holds on average. |u|, |v| and <u,v> are those of x/|x| and y/|y|, so the "
    "identities hold in any dimension by bilinearity.",
    generate=generate,
    slack=slack,
    witness=opposite,
    hypotheses=(
        Hypothesis(
            "same unit",
            "mean and probability are over the same unit: both over tokens, or both over inputs",
            holds=lambda case: case.same_unit,
            counterexample=lambda: Counterexample(
                one_far_token(),
                "the mean over two tokens is 1, but every input has a token with d > 1.5: the "
                "probability is 1, the bound 2/3",
            ),
        ),
    ),
    notes=("The cosine distance can reach 2; with 1 in place of 2 the second part is false.",),
    proof=proof,
    search=Search(5, planar),
)
