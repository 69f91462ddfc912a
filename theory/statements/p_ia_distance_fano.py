"""H(X'|X) <= h_b(delta) + (1-delta) log N_eps + delta log(|X|-N_min): distance Fano."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import EntropyFormula, Formula, Formulas
from theory.pmf import Pmf, as_pmf, entropy, random_pmf
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Statement,
)
from theory.statements._proofs import (
    about,
    both,
    collect,
    gibbs,
    increases_until,
    is_nonnegative,
    shannon,
)

#: Tolerance for rounding in P(d > eps) and in the limit on delta.
EXACT = 1e-12


@dataclass(frozen=True)
class Pair:
    """Two states on n common points: joint pmf and cosine distances, both of shape (n, n)."""

    p: Pmf
    distance: NDArray[np.float64]
    epsilon: float
    delta: float

    @property
    def tail(self) -> float:
        """P(d(X, X') > eps)."""
        return float(self.p[self.distance > self.epsilon].sum())

    @property
    def balls(self) -> tuple[int, int]:
        """N_eps and N_min: largest and smallest number of points in an eps-ball around a point."""
        sizes = (self.distance <= self.epsilon).sum(axis=1)
        return int(sizes.max()), int(sizes.min())

    @property
    def limit(self) -> float:
        """(|X| - N_min) / (|X| - N_min + N_eps)."""
        most, fewest = self.balls
        outside = len(self.p) - fewest
        return outside / (outside + most)


def generate(rng: np.random.Generator) -> Pair:
    """Random directions in the plane and joint pmf; delta between P(d > eps) and its limit."""
    while True:
        n = int(rng.integers(2, 7))
        angle = rng.uniform(0, 2 * np.pi, n)
        distance = 1.0 - np.cos(angle[:, None] - angle[None, :])
        epsilon = float(rng.uniform(0.0, 1.5))
        weight = np.where(distance <= epsilon, 1.0, rng.choice([0.0, 0.05, 0.5, 1.0]))
        p = random_pmf(rng, (n, n)) * weight
        if not p.any():
            continue
        pair = Pair(as_pmf(p), distance, epsilon, 0.0)
        if pair.tail <= pair.limit:
            share = float(rng.choice([0.0, rng.random(), 1.0]))
            delta = pair.tail + share * (pair.limit - pair.tail)
            return Pair(pair.p, distance, epsilon, delta)


def bound(pair: Pair) -> float:
    """Right-hand side in nats, with 0 log 0 = 0."""
    most, fewest = pair.balls
    outside = len(pair.p) - fewest
    total = (1.0 - pair.delta) * np.log(most) + entropy(np.array([pair.delta, 1.0 - pair.delta]))
    return float(total + (pair.delta * np.log(outside) if outside else 0.0))


def slack(pair: Pair) -> float:
    """Bound minus H(X'|X), in nats."""
    return bound(pair) - entropy(pair.p, [1], given=[0])


def two_pairs(delta: float) -> Pair:
    """Four points in two near pairs, X' uniform and independent of X: P(d > eps) = 1/2."""
    angle = np.array([0.0, 0.01, np.pi, np.pi + 0.01])
    distance = 1.0 - np.cos(angle[:, None] - angle[None, :])
    return Pair(np.full((4, 4), 1 / 16), distance, 0.1, delta)


SHARE, NEAR, FAR = sp.symbols("delta N_eps A", positive=True)
FORMULAS: Formulas = {
    "reveal E": EntropyFormula("H(X'|X) <= H(E) + H(X'|X,E)", ("E = f(X,X')",)),
    "bound": Formula(
        sp.Symbol("H(X'|X)"),
        "<=",
        -SHARE * sp.log(SHARE)
        - (1 - SHARE) * sp.log(1 - SHARE)
        + (1 - SHARE) * sp.log(NEAR)
        + SHARE * sp.log(FAR),
    ),
}


@about({"bound": Formula(sp.Symbol("H(X'|X)"), "<=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """Condition on E = 1[d(X, X') > eps], count the points, then replace p = P(E = 1) by delta.

    H(X'|X) <= H(E) + H(X'|X,E). Given X = x, X' takes at most N = N_eps values if E = 0 and at
    most A = |X| - N_min values if E = 1; entropy is at most the log of the number of values. The
    bound is concave in p and stationary at A/(A + N), so it increases up to there, and p can be
    replaced by delta if p <= delta <= A/(A + N).
    """
    p, bound = SHARE, claim["bound"].right
    counted = (1 - p) * sp.log(NEAR) + p * sp.log(FAR) - p * sp.log(p) - (1 - p) * sp.log(1 - p)
    return both(
        shannon(claim),
        gibbs(),
        collect(
            {
                "the bound is at least h_b(p) + (1-p) log N_eps + p log A at p = delta": (
                    is_nonnegative(sp.expand(bound - counted))
                ),
                "it increases in delta up to A/(A+N_eps)": increases_until(
                    bound, p, FAR / (FAR + NEAR)
                ),
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="P-Ia",
    title="nearby states have a small conditional entropy",
    setting="X, X' on a finite set of |X| directions; N_eps and N_min the largest and smallest "
    "number of points in an eps-ball around a point",
    claim="H(X'|X) <= h_b(delta) + (1-delta) log N_eps + delta log(|X| - N_min)",
    source=f"{RECONSTRUCTION}; distance-based Fano, Duchi & Wainwright 2013, arXiv:1311.2669",
    evidence="shannon-lp",
    domain="all pairs of states on a finite set",
    formulas=FORMULAS,
    argument="Given X = x, X' takes at most N_eps values if E = 1[d > eps] is 0 and at most "
    "|X| - N_min if it is 1, and an entropy is at most the log of the number of values (Gibbs). "
    "A is |X| - N_min; the bound for A = 0 is its limit.",
    generate=generate,
    slack=slack,
    witness=lambda: two_pairs(0.5),  # delta = P(d > eps) = limit; both sides are 2 bits
    hypotheses=(
        Hypothesis(
            "proximal",
            "P(d(X, X') > eps) <= delta",
            holds=lambda pair: pair.tail <= pair.delta + EXACT,
            counterexample=lambda: Counterexample(
                two_pairs(0.0), "with delta = 0 the bound is 1 bit, but H(X'|X) = 2 bits"
            ),
        ),
        Hypothesis(
            "delta below its limit",
            "delta <= (|X| - N_min) / (|X| - N_min + N_eps)",
            holds=lambda pair: pair.delta <= pair.limit + EXACT,
            counterexample=lambda: Counterexample(
                two_pairs(0.75),
                "with delta = 3/4 the bound is 1.81 bits, but H(X'|X) = 2 bits: above 1/2 the "
                "bound decreases in delta",
            ),
        ),
    ),
    notes=(
        "The condition delta <= 1 - 1/|X| of Fano's inequality is not sufficient: four points in "
        "two near pairs, X' uniform, delta = 3/4.",
    ),
    proof=proof,
)
