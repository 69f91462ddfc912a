"""Distributions over pairs of states, with a head that reads them, for the geometric statements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import ProofCheck
from theory.statements._proofs import collect, is_nonnegative, is_zero

Array = NDArray[np.float64]

#: Tolerance for rounding in hypotheses.
EXACT = 1e-9

D, EPS, DELTA = sp.symbols("d eps delta", nonnegative=True)
CHORD = sp.Symbol("|u-v|^2", nonnegative=True)

#: Facts about unit vectors u and v at cosine distance d = 1 - <u,v>.
DISTANCE: Formulas = {
    "chord": Formula(CHORD, "=", 2 * D),
    "range of d": Formula(D, "<=", sp.Integer(2)),
}


@dataclass(frozen=True)
class Pairs:
    """A finite distribution over pairs of states, and a head h of these states.

    The affine head is h = a . u + b . z + c |x| with u = x/|x|. The curved head is
    h = |a||u - v| + |b||z - b| + c |x| with v the multiple of a of norm sqrt(tokens).

    Attributes:
        p: probabilities of the m pairs.
        x: states before the update, shape (m, tokens, dim), nonzero rows.
        y: states after the update, the same shape.
        z: states of the other modality before the update, shape (m, e).
        w: states of the other modality after the update, shape (m, e).
        a: coefficients of the directions u of all tokens, shape (tokens * dim,).
        b: coefficients of z, shape (e,).
        c: coefficient of the norm of the slice; 0 for a normalising head.
        alpha: claimed Lipschitz constant in the directions.
        beta: claimed Lipschitz constant in z.
        epsilon: threshold for the distance.
        delta: claimed bound on P(d > epsilon).
        curved: whether the head is curved.
    """

    p: Array
    x: Array
    y: Array
    z: Array
    w: Array
    a: Array
    b: Array
    c: float
    alpha: float
    beta: float
    epsilon: float = 0.0
    delta: float = 0.0
    curved: bool = False

    @cached_property
    def distance(self) -> Array:
        """Cosine distances, shape (m, tokens)."""
        return np.asarray(1.0 - (unit(self.x) * unit(self.y)).sum(axis=2))

    @property
    def mean_distance(self) -> float:
        """Mean distance E d over pairs and tokens."""
        return float(self.p @ self.distance.mean(axis=1))

    @property
    def tail(self) -> float:
        """P(d > epsilon) for one token, up to rounding of the distance."""
        return float(self.p[self.distance[:, 0] > self.epsilon + EXACT].sum())

    @property
    def change(self) -> float:
        """|E h(x, z) - E h(y, w)|."""
        return abs(float(self.p @ (self.head(self.x, self.z) - self.head(self.y, self.w))))

    def head(self, x: Array, z: Array) -> Array:
        """Output of the head for each pair."""
        norm = np.sqrt((x**2).sum(axis=(1, 2)))
        u = unit(x).reshape(len(x), -1)
        if not self.curved:
            return np.asarray(u @ self.a + z @ self.b + self.c * norm)
        slope = np.linalg.norm(self.a)
        anchor = np.sqrt(x.shape[1]) * self.a / slope
        direction = np.linalg.norm(u - anchor, axis=1)
        modality = np.linalg.norm(z - self.b, axis=1)
        return np.asarray(slope * direction + np.linalg.norm(self.b) * modality + self.c * norm)

    @property
    def normalises(self) -> bool:
        """Whether the head depends on directions only."""
        return self.c == 0.0

    @property
    def lipschitz(self) -> bool:
        """Whether alpha and beta are at least |a| and |b|."""
        valid_alpha = np.linalg.norm(self.a) <= self.alpha + EXACT
        return bool(valid_alpha and np.linalg.norm(self.b) <= self.beta + EXACT)


def unit(x: Array) -> Array:
    """Rows divided by their norms."""
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def random_pairs(rng: np.random.Generator, *, tokens: int, other: bool) -> Pairs:
    """Random pairs with a random head, affine or curved; `other` moves the other modality."""
    m, dim, e = (int(n) for n in rng.integers(1, 5, 3))
    dim += 1
    x = rng.standard_normal((m, tokens, dim)) * rng.uniform(0.2, 3.0)
    y = x + rng.choice([0.05, 0.5, 5.0]) * rng.standard_normal((m, tokens, dim))
    z = rng.standard_normal((m, e))
    w = z + rng.standard_normal((m, e)) * (rng.random() if other else 0.0)
    p = rng.dirichlet(np.ones(m))
    chord = p @ (unit(x) - unit(y)).reshape(m, -1)
    a = chord if rng.random() < 0.5 else rng.standard_normal(tokens * dim)
    b = rng.standard_normal(e) if rng.random() < 0.5 else p @ (z - w) + 1e-6
    alpha, beta = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    epsilon = float(rng.uniform(0.0, 2.0))
    curved = bool(rng.random() < 0.3)
    pairs = Pairs(p, x, y, z, w, a, b, 0.0, alpha, beta, epsilon, curved=curved)
    delta = pairs.tail + float(rng.choice([0.0, rng.random()])) * (1 - pairs.tail)
    return replace(pairs, delta=delta)


def planar(vector: Array, tokens: int) -> Pairs:
    """Two inputs in the plane from 6 tokens + 3 parameters, for the optimiser.

    The parameters are the angles before and after (2 tokens each), the coefficients of the head
    (2 tokens), the weight of the first input, epsilon, and the sign that selects a curved head.
    delta is P(d > epsilon).
    """
    before, after = np.pi * np.clip(vector[: 4 * tokens].reshape(2, 2, tokens), -9, 9)
    p = 0.5 + 0.5 * np.tanh(vector[6 * tokens])
    a = vector[4 * tokens : 6 * tokens] + 1e-9
    x, y = (np.stack([np.cos(t), np.sin(t)], axis=2) for t in (before, after))
    zeros = np.zeros((2, 1))
    alpha = float(np.linalg.norm(a))
    pairs = Pairs(np.array([p, 1 - p]), x, y, zeros, zeros, a / alpha, np.zeros(1), 0.0, 1.0, 0.0)
    epsilon = float(1.0 + np.tanh(vector[6 * tokens + 1]))
    pairs = replace(pairs, epsilon=epsilon, curved=bool(vector[6 * tokens + 2] > 0))
    return replace(pairs, delta=pairs.tail)


def in_plane(before: list[float], after: list[float], p: list[float]) -> Pairs:
    """Unit vectors in the plane at given angles; the head is the first coordinate, alpha = 1."""
    x = np.stack([np.cos(before), np.sin(before)], axis=1)[:, None, :]
    y = np.stack([np.cos(after), np.sin(after)], axis=1)[:, None, :]
    zeros = np.zeros((len(p), 1))
    return Pairs(np.array(p), x, y, zeros, zeros, np.array([1.0, 0.0]), np.zeros(1), 0.0, 1.0, 0.0)


def chord_checks(claim: Formulas) -> ProofCheck:
    """|u-v|^2 = 1 + 1 - 2<u,v>, and |u+v|^2 = 1 + 1 + 2<u,v> >= 0 gives d <= 2; sqrt is concave."""
    inner = 1 - D
    chord, largest = claim["chord"], claim["range of d"]
    t = sp.Symbol("t", positive=True)
    return collect(
        {
            "|u-v|^2 = 2 - 2<u,v>": chord.relation == "="
            and chord.left == CHORD
            and is_zero(chord.right - (2 - 2 * inner)),
            "2 - d = |u+v|^2/2 >= 0": largest.relation == "<="
            and is_zero((2 + 2 * inner) / 2 - (2 - largest.left))
            and is_nonnegative(largest.right - 2),
            "sqrt is concave": sp.diff(sp.sqrt(t), t, 2).is_negative is True,
        },
        "sympy",
    )
