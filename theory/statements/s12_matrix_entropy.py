"""T <= sqrt(c(2-c)) and |S(A)-S(B)| <= T log(n-1) + h_b(T) for matrix entropies S."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from theory.pmf import entropy
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Search, Statement
from theory.statements._pairs import EXACT, Array, unit


@dataclass(frozen=True)
class Grams:
    """Two sets of n rows, shape (n, dim), and an upper bound tau on T."""

    x: Array
    y: Array
    tau: float

    @property
    def mean_distance(self) -> float:
        """Mean cosine distance c of corresponding rows."""
        return float(1.0 - (unit(self.x) * unit(self.y)).sum(axis=1).mean())

    @property
    def trace_distance(self) -> float:
        """T = |A - B|_1 / 2 for the Gram matrices of trace 1."""
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
    """Gram matrix of the rows, divided by its trace."""
    products = rows @ rows.T
    return np.asarray(products / np.trace(products))


def matrix_entropy(rows: Array) -> float:
    """Von Neumann entropy of the Gram matrix, in nats."""
    return entropy(np.maximum(np.linalg.eigvalsh(gram(rows)), 0.0))


def continuity(t: float, n: int) -> float:
    """Bound T log(n-1) + h_b(T) at T = t."""
    return t * math.log(n - 1) + entropy(np.array([t, max(1.0 - t, 0.0)]))


def build(x: Array, y: Array, share: float) -> Grams:
    """Normalised rows, with tau between T and max(T, 1 - 1/n)."""
    pair = Grams(unit(x), unit(y), 0.0)
    t = min(pair.trace_distance, 1.0)
    top = max(t, 1.0 - 1.0 / len(x))
    return replace(pair, tau=t + share * (top - t))


def generate(rng: np.random.Generator) -> Grams:
    """Random rows at various distances; in some instances all rows of y are equal.

    One instance in five has rows +-e in x and y: Gram matrices of rank 1, T = sqrt(c(2-c)).
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
    """Minimum of sqrt(c(2-c)) - T and the margins of the bound on |S(A)-S(B)| at T and tau."""
    n, c, t = len(case.x), case.mean_distance, min(case.trace_distance, 1.0)
    at_t = continuity(t, n) - case.change
    at_tau = continuity(case.tau, n) - case.change
    return min(math.sqrt(max(c * (2.0 - c), 0.0)) - t, at_t, at_tau)


def orthogonal_to_equal(tau: float) -> Grams:
    """Two orthogonal rows and two equal rows: S = log 2 and 0, T = 1/2."""
    return Grams(np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]]), tau)


def shrunk_row() -> Grams:
    """Equal directions, one row scaled by 1/10: c = 0, but the Gram matrices differ."""
    return Grams(np.eye(2), np.diag([1.0, 0.1]), 0.5)


STATEMENT = Statement(
    id="S12",
    title="nearby rows have similar matrix entropies",
    setting="n >= 2 rows; A, B the Gram matrices divided by their traces; S the von Neumann "
    "entropy in nats; c the mean cosine distance of corresponding rows; T = |A-B|_1/2",
    claim="T <= sqrt(c(2-c));  |S(A)-S(B)| <= T log(n-1) + h_b(T);  |S(A)-S(B)| <= tau log(n-1) + "
    "h_b(tau) for T <= tau <= 1 - 1/n",
    source=f"{RECONSTRUCTION}; Fuchs & van de Graaf 1999; Audenaert 2007, Theorem 1",
    evidence="searched",
    domain="random rows with n and dimension from 2 to 5, and an optimiser for n = 3",
    argument="The fidelity of A and B is at least |1 - c| for unit rows, and T <= sqrt(1 - F^2) "
    "(Fuchs & van de Graaf); the continuity bound is Audenaert's Theorem 1, which increases in T "
    "up to 1 - 1/n.",
    generate=generate,
    slack=slack,
    witness=lambda: orthogonal_to_equal(0.5),
    hypotheses=(
        Hypothesis(
            "unit rows",
            "all rows have norm 1",
            holds=lambda case: case.unit_rows,
            counterexample=lambda: Counterexample(
                shrunk_row(), "with one row scaled by 1/10, c = 0 but T = .49"
            ),
        ),
        Hypothesis(
            "upper limit on tau",
            "tau <= 1 - 1/n or tau = T; the bound decreases in tau above 1 - 1/n",
            holds=lambda case: (
                case.tau <= max(1.0 - 1.0 / len(case.x), case.trace_distance) + EXACT
            ),
            counterexample=lambda: Counterexample(
                orthogonal_to_equal(1.0),
                "for tau = 1 and n = 2 the bound is 0, but the entropy changes by log 2",
            ),
        ),
        Hypothesis(
            "tau bounds T",
            "T <= tau",
            holds=lambda case: case.trace_distance <= case.tau + EXACT,
            counterexample=lambda: Counterexample(
                orthogonal_to_equal(0.0),
                "for tau = 0 the bound is 0, but the entropy changes by log 2",
            ),
        ),
    ),
    superfluous=(
        "T <= 1 - 1/n for the bound at T itself, which holds for every T. The condition is needed "
        "only if T is replaced by an upper bound such as sqrt(c(2-c)).",
    ),
    search=Search(
        19, lambda v: build(v[:9].reshape(3, 3) + 1e-9, v[9:18].reshape(3, 3) + 1e-9, 0.0)
    ),
)
