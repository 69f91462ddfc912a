"""H(X'|X) <= h_b(delta) + (1-delta) log N_eps + delta log(|X|-N_min): near states, few nats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.pmf import Pmf, as_pmf, entropy, random_pmf
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Statement,
)
from theory.statements._proofs import both, collect, gibbs, rises_until, shannon

#: Rounding of P(d > eps) and of the limit on delta.
EXACT = 1e-12


@dataclass(frozen=True)
class Pair:
    """Two states on common points: joint pmf (n, n), pairwise cosine distances (n, n)."""

    p: Pmf
    distance: NDArray[np.float64]
    epsilon: float
    delta: float

    @property
    def far(self) -> float:
        """P(d(X, X') > eps)."""
        return float(self.p[self.distance > self.epsilon].sum())

    @property
    def balls(self) -> tuple[int, int]:
        """N_eps and N_min: the most and the fewest points in an eps-ball around a point."""
        sizes = (self.distance <= self.epsilon).sum(axis=1)
        return int(sizes.max()), int(sizes.min())

    @property
    def limit(self) -> float:
        """(|X| - N_min) / (|X| - N_min + N_eps)."""
        most, fewest = self.balls
        outside = len(self.p) - fewest
        return outside / (outside + most)


def generate(rng: np.random.Generator) -> Pair:
    """Random directions in the plane, random joint pmf, delta between P(d > eps) and its limit."""
    while True:
        n = int(rng.integers(2, 7))
        angle = rng.uniform(0, 2 * np.pi, n)
        distance = 1.0 - np.cos(angle[:, None] - angle[None, :])
        epsilon = float(rng.uniform(0.0, 1.5))
        near = np.where(distance <= epsilon, 1.0, rng.choice([0.0, 0.05, 0.5, 1.0]))
        p = random_pmf(rng, (n, n)) * near
        if not p.any():
            continue
        pair = Pair(as_pmf(p), distance, epsilon, 0.0)
        if pair.far <= pair.limit:
            share = float(rng.choice([0.0, rng.random(), 1.0]))
            delta = pair.far + share * (pair.limit - pair.far)
            return Pair(pair.p, distance, epsilon, delta)


def bound(pair: Pair) -> float:
    """The right-hand side in nats; a term of weight 0 is 0."""
    most, fewest = pair.balls
    outside = len(pair.p) - fewest
    total = (1.0 - pair.delta) * np.log(most) + entropy(np.array([pair.delta, 1.0 - pair.delta]))
    return float(total + (pair.delta * np.log(outside) if outside else 0.0))


def slack(pair: Pair) -> float:
    """The bound minus H(X'|X), in nats."""
    return bound(pair) - entropy(pair.p, [1], given=[0])


def two_pairs(delta: float) -> Pair:
    """Four points in two near pairs, X' uniform whatever X is: P(d > eps) = 1/2."""
    angle = np.array([0.0, 0.01, np.pi, np.pi + 0.01])
    distance = 1.0 - np.cos(angle[:, None] - angle[None, :])
    return Pair(np.full((4, 4), 1 / 16), distance, 0.1, delta)


def proof() -> ProofCheck:
    """Reveal E = 1[d(X, X') > eps], count the points, raise P(d > eps) to delta.

    With p = P(E = 1): H(X'|X) <= H(E) + H(X'|X,E), and given X = x there are at most N_eps
    points with E = 0 and at most |X| - N_min with E = 1; H <= log(count) on each. The bound in
    p is concave and flat at p = A/(A + N): it may be replaced by its value at delta >= p as
    long as delta stays below that.
    """
    p, near, outside = sp.symbols("p N A", positive=True)
    bound = -p * sp.log(p) - (1 - p) * sp.log(1 - p) + (1 - p) * sp.log(near) + p * sp.log(outside)
    return both(
        shannon(("H(X'|X) <= H(E) + H(X'|X,E)", "E = f(X,X')")),
        gibbs(),
        collect(
            {"the bound rises up to A/(A+N)": rises_until(bound, p, outside / (outside + near))},
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="P-Ia",
    title="near states: little is left to know about the next one",
    setting="X, X' on a finite set of |X| directions; N_eps and N_min the largest and smallest "
    "number of points in an eps-ball around a point",
    claim="H(X'|X) <= h_b(delta) + (1-delta) log N_eps + delta log(|X| - N_min)",
    source=f"{RECONSTRUCTION}; distance-based Fano, Duchi & Wainwright 2013, arXiv:1311.2669",
    evidence="shannon-lp",
    domain="all pairs of states on a finite set (E revealed by shannon-lp; counting and "
    "monotony by sympy)",
    generate=generate,
    slack=slack,
    witness=lambda: two_pairs(0.5),  # delta at its limit, and exactly P(d > eps): both are 2 bits
    hypotheses=(
        Hypothesis(
            "proximal",
            "P(d(X, X') > eps) <= delta",
            holds=lambda pair: pair.far <= pair.delta + EXACT,
            counterexample=lambda: Counterexample(
                two_pairs(0.0), "delta = 0 would leave 1 bit, X' has 2 bits given X"
            ),
        ),
        Hypothesis(
            "delta below its limit",
            "delta <= (|X| - N_min) / (|X| - N_min + N_eps)",
            holds=lambda pair: pair.delta <= pair.limit + EXACT,
            counterexample=lambda: Counterexample(
                two_pairs(0.75), "2 bits against 1.81: beyond 1/2 the bound falls with delta"
            ),
        ),
    ),
    notes=(
        "With only delta <= 1 - 1/|X|, the condition of the plain Fano inequality, the claim is "
        "false: four points in two near pairs, X' uniform, delta = 3/4.",
    ),
    proof=proof,
)
