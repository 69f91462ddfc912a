"""T <= sqrt(c(2-c)) and |S(A)-S(B)| <= T log(n-1) + h_b(T): near rows, near matrix entropies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from theory.pmf import entropy
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Search, Statement
from theory.statements._pairs import EXACT, Array, unit


@dataclass(frozen=True)
class Grams:
    """Two sets of n rows, shape (n, dim), and a number tau that T is known not to exceed."""

    x: Array
    y: Array
    tau: float

    @property
    def mean_distance(self) -> float:
        """C, the mean cosine distance of corresponding rows."""
        return float(1.0 - (unit(self.x) * unit(self.y)).sum(axis=1).mean())

    @property
    def trace_distance(self) -> float:
        """T = |A - B|_1 / 2 for the Gram matrices, each divided by its trace."""
        eigenvalues = np.linalg.eigvalsh(gram(self.x) - gram(self.y))
        return float(np.abs(eigenvalues).sum() / 2)

    @property
    def change(self) -> float:
        """|S(A) - S(B)| in nats."""
        return abs(matrix_entropy(self.x) - matrix_entropy(self.y))

    @property
    def unit_rows(self) -> bool:
        """Whether all rows have norm 1."""
        norms = np.linalg.norm([self.x, self.y], axis=2)
        return bool(np.allclose(norms, 1.0, atol=EXACT))


def gram(rows: Array) -> Array:
    """The Gram matrix of the rows, with trace 1."""
    found = rows @ rows.T
    return np.asarray(found / np.trace(found))


def matrix_entropy(rows: Array) -> float:
    """The von Neumann entropy of the Gram matrix in nats."""
    return entropy(np.maximum(np.linalg.eigvalsh(gram(rows)), 0.0))


def continuity(t: float, n: int) -> float:
    """T log(n-1) + h_b(t)."""
    return t * math.log(n - 1) + entropy(np.array([t, max(1.0 - t, 0.0)]))


def build(x: Array, y: Array, share: float) -> Grams:
    """Unit rows, and tau between T and 1 - 1/n (or T where that is larger)."""
    pair = Grams(unit(x), unit(y), 0.0)
    found = min(pair.trace_distance, 1.0)
    top = max(found, 1.0 - 1.0 / len(x))
    return replace(pair, tau=found + share * (top - found))


def generate(rng: np.random.Generator) -> Grams:
    """Random rows, near or far; now and then all rows of one side are equal.

    One in five has rows +-e on both sides: the Gram matrices are pure states, T = sqrt(c(2-c)).
    """
    n, dim = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    x = rng.standard_normal((n, dim))
    y = x + rng.choice([0.05, 0.5, 5.0]) * rng.standard_normal((n, dim))
    if rng.random() < 0.2:
        x, y = (rng.choice([-1.0, 1.0], (n, 1)) * np.eye(dim)[:1] for _ in range(2))
    elif rng.random() < 0.2:
        y = np.repeat(y[:1], n, axis=0)
    return build(x, y, float(rng.choice([0.0, rng.random(), 1.0])))


def slack(case: Grams) -> float:
    """The smallest of: sqrt(c(2-c)) - T, and the bounds on |S(A)-S(B)| at T and at tau."""
    n, c, t = len(case.x), case.mean_distance, min(case.trace_distance, 1.0)
    at_t = continuity(t, n) - case.change
    at_tau = continuity(case.tau, n) - case.change
    return min(math.sqrt(max(c * (2.0 - c), 0.0)) - t, at_t, at_tau)


def orthogonal_to_equal(tau: float) -> Grams:
    """Two orthogonal rows against two equal ones: S from log 2 to 0, T = 1/2."""
    return Grams(np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]]), tau)


def shrunk_row() -> Grams:
    """The same directions, one row ten times shorter: c = 0, but the Gram matrices differ."""
    return Grams(np.eye(2), np.diag([1.0, 0.1]), 0.5)


STATEMENT = Statement(
    id="S12",
    title="near rows have near matrix entropies",
    setting="n >= 2 rows; A, B the Gram matrices divided by their traces; S the von Neumann "
    "entropy in nats; c the mean cosine distance of corresponding rows; T = |A-B|_1/2",
    claim="T <= sqrt(c(2-c));  |S(A)-S(B)| <= T log(n-1) + h_b(T), and the same with any tau "
    "in place of T for T <= tau <= 1 - 1/n",
    source=f"{RECONSTRUCTION}; Fuchs & van de Graaf 1999; Audenaert 2007, Theorem 1",
    evidence="searched",
    domain="random rows, n and dimension from 2 to 5, and an optimiser at n = 3",
    generate=generate,
    slack=slack,
    witness=lambda: orthogonal_to_equal(0.5),
    hypotheses=(
        Hypothesis(
            "unit rows",
            "all rows have norm 1",
            holds=lambda case: case.unit_rows,
            counterexample=lambda: Counterexample(
                shrunk_row(), "one row ten times shorter: no cosine distance, T = .49"
            ),
        ),
        Hypothesis(
            "tau not too large",
            "tau <= 1 - 1/n (or tau = T): the bound falls beyond",
            holds=lambda case: (
                case.tau <= max(1.0 - 1.0 / len(case.x), case.trace_distance) + EXACT
            ),
            counterexample=lambda: Counterexample(
                orthogonal_to_equal(1.0), "tau = 1 would allow no change, log 2 is lost"
            ),
        ),
        Hypothesis(
            "tau bounds T",
            "T <= tau",
            holds=lambda case: case.trace_distance <= case.tau + EXACT,
            counterexample=lambda: Counterexample(
                orthogonal_to_equal(0.0), "tau = 0 would allow no change, log 2 is lost"
            ),
        ),
    ),
    superfluous=(
        "T <= 1 - 1/n for the bound at T itself: it holds for every T. The condition is needed "
        "only where T is replaced by something larger, such as sqrt(c(2-c)).",
    ),
    search=Search(
        19, lambda v: build(v[:9].reshape(3, 3) + 1e-9, v[9:18].reshape(3, 3) + 1e-9, 0.0)
    ),
)
