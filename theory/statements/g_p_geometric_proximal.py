"""G(eps) => P(t, eps/t), and P(eps, delta) => G(eps (1-delta) + 2 delta)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.pmf import random_pmf
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
)
from theory.statements._pairs import Array, chord_checks, unit
from theory.statements._proofs import both, collect


@dataclass(frozen=True)
class Distances:
    """Pairs of vectors x, y of shape (m, dim) with probabilities p, and two thresholds.

    If not `one_unit`, the pairs are the tokens of one input, the mean runs over tokens, and the
    probability over inputs that hold a token beyond the threshold.
    """

    p: Array
    x: Array
    y: Array
    t: float
    epsilon: float
    one_unit: bool = True

    def beyond(self, threshold: float) -> float:
        """P(d > threshold)."""
        far = self.d > threshold
        return float(self.p[far].sum()) if self.one_unit else float(far.any())

    @property
    def d(self) -> Array:
        """Cosine distances, shape (m,)."""
        return np.asarray(1.0 - (unit(self.x) * unit(self.y)).sum(axis=1))


def generate(rng: np.random.Generator) -> Distances:
    """Random pairs, near and far; one in two has an antipodal pair."""
    m, dim = (int(n) for n in rng.integers(1, 6, 2))
    x = rng.standard_normal((m, dim))
    y = x + rng.choice([0.1, 1.0, 10.0]) * rng.standard_normal((m, dim))
    if rng.random() < 0.5:
        y[0] = -x[0]
    return Distances(
        random_pmf(rng, (m,)), x, y, float(rng.uniform(0.01, 2.5)), float(rng.uniform(0.0, 2.5))
    )


def slack(case: Distances) -> float:
    """The smaller of: eps/t - P(d > t) with eps = E d; the bound on E d minus E d."""
    mean = float(case.p @ case.d)
    delta = case.beyond(case.epsilon)
    return min(mean / case.t - case.beyond(case.t), case.epsilon * (1 - delta) + 2 * delta - mean)


def opposite() -> Distances:
    """One pair of opposite directions, eps = 0: delta = 1 and E d = 2."""
    x = np.array([[1.0, 0.0]])
    return Distances(np.ones(1), x, -x, 1.0, 0.0)


def one_far_token() -> Distances:
    """An input of two tokens, one of which turns around: E d = 1, and every input is beyond."""
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    return Distances(np.full(2, 0.5), x, x * [[1.0], [-1.0]], 1.5, 0.0, one_unit=False)


def planar(vector: Array) -> Distances:
    """Two pairs in the plane from five numbers: angles, weight, thresholds."""
    angle = np.pi * np.clip(vector[:2], -9, 9)
    p = 0.5 + 0.5 * np.tanh(vector[2])
    t, epsilon = 1.001 + np.tanh(vector[3]), 1.0 + np.tanh(vector[4])
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    y = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Distances(np.array([p, 1 - p]), x, y, float(t), float(epsilon))


def proof() -> ProofCheck:
    """Both bounds hold pair by pair, then on average.

    t 1[d > t] <= d since d >= 0; d <= eps where d <= eps, and d <= 2 elsewhere.
    """
    delta, eps = sp.symbols("delta eps", nonnegative=True)
    split = eps * (1 - delta) + 2 * delta
    return both(
        chord_checks(),
        collect(
            {
                "linear in delta with slope 2 - eps": sp.expand(sp.diff(split, delta)) == 2 - eps,
                "equal to 2 at delta = 1": split.subs(delta, 1) == 2,
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="G-P",
    title="a small mean distance and few large distances are the same thing",
    setting="nonzero vectors; d the cosine distance; t > 0; delta = P(d > eps), or any larger",
    claim="E d <= eps => P(d > t) <= eps/t;  P(d > eps) <= delta => E d <= eps(1-delta) + 2 delta",
    source=f"{RECONSTRUCTION}; Markov's inequality",
    evidence="symbolic",
    domain="all distributions over pairs of nonzero vectors, any dimension",
    generate=generate,
    slack=slack,
    witness=opposite,
    hypotheses=(
        Hypothesis(
            "one unit",
            "mean and probability run over the same unit: both over tokens, or both over inputs",
            holds=lambda case: case.one_unit,
            counterexample=lambda: Counterexample(
                one_far_token(),
                "mean 1 over two tokens, but every input has a token beyond 1.5: 1 against 2/3",
            ),
        ),
    ),
    notes=("The cosine distance lies in [0, 2]: with 1 in place of 2 the second part is false.",),
    proof=proof,
    search=Search(5, planar),
)
