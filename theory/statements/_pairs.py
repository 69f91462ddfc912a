"""Pairs of states, read by a head that normalises: what the geometric statements are about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.statement import ProofCheck
from theory.statements._proofs import collect

Array = NDArray[np.float64]

#: Rounding allowed in hypotheses.
EXACT = 1e-9


@dataclass(frozen=True)
class Pairs:
    """A finite distribution over pairs of states and a head that reads them.

    h = a . u + b . z + c |x|, or for a curved head h = |a||u - v| + |b||z - b| + c |x| with v the
    stack of directions along a: a distance, the steepest of all Lipschitz functions.

    Attributes:
        p: probabilities of the m pairs.
        x: states before, shape (m, tokens, dim), rows not zero.
        y: states after, the same shape.
        z: the other modality before, shape (m, e).
        w: the other modality after.
        a: reads the directions u = x/|x| of all tokens, shape (tokens * dim,).
        b: reads z, shape (e,).
        c: reads the norm of the whole slice; 0 for a head that normalises.
        alpha: claimed Lipschitz constant in the directions.
        beta: claimed Lipschitz constant in z.
        epsilon: threshold of the proximal notion.
        delta: claimed probability beyond it.
        curved: whether the head is the curved one.
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
        """E d over pairs and tokens."""
        return float(self.p @ self.distance.mean(axis=1))

    @property
    def far(self) -> float:
        """P(d > epsilon), for one token; what equals epsilon up to rounding is not beyond."""
        return float(self.p[self.distance[:, 0] > self.epsilon + EXACT].sum())

    @property
    def change(self) -> float:
        """|E h(x, z) - E h(y, w)|."""
        return abs(float(self.p @ (self.head(self.x, self.z) - self.head(self.y, self.w))))

    def head(self, x: Array, z: Array) -> Array:
        """The head's output for each pair."""
        norm = np.sqrt((x**2).sum(axis=(1, 2)))
        u = unit(x).reshape(len(x), -1)
        if not self.curved:
            return np.asarray(u @ self.a + z @ self.b + self.c * norm)
        slope = np.linalg.norm(self.a)
        anchor = np.sqrt(x.shape[1]) * self.a / slope
        near = np.linalg.norm(u - anchor, axis=1)
        other = np.linalg.norm(z - self.b, axis=1)
        return np.asarray(slope * near + np.linalg.norm(self.b) * other + self.c * norm)

    @property
    def normalises(self) -> bool:
        """Whether the head sees directions only."""
        return self.c == 0.0

    @property
    def lipschitz(self) -> bool:
        """Whether alpha and beta are at least |a| and |b|."""
        within = np.linalg.norm(self.a) <= self.alpha + EXACT
        return bool(within and np.linalg.norm(self.b) <= self.beta + EXACT)


def unit(x: Array) -> Array:
    """Rows divided by their norms."""
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def random_pairs(rng: np.random.Generator, *, tokens: int, other: bool) -> Pairs:
    """Random pairs at random distance; the head along the mean chord, curved, or any."""
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
    delta = pairs.far + float(rng.choice([0.0, rng.random()])) * (1 - pairs.far)
    return replace(pairs, delta=delta)


def planar(vector: Array, tokens: int) -> Pairs:
    """Two inputs in the plane from 6 tokens + 3 numbers, for the optimiser.

    Angles before and after (2 tokens each), the head's coefficients (2 tokens), the weight of
    the first input, epsilon, and whether the head is curved. delta is what it has to be.
    """
    before, after = np.pi * np.clip(vector[: 4 * tokens].reshape(2, 2, tokens), -9, 9)
    p = 0.5 + 0.5 * np.tanh(vector[6 * tokens])
    a = vector[4 * tokens : 6 * tokens] + 1e-9
    x, y = (np.stack([np.cos(t), np.sin(t)], axis=2) for t in (before, after))
    nothing = np.zeros((2, 1))
    alpha = float(np.linalg.norm(a))
    pairs = Pairs(
        np.array([p, 1 - p]), x, y, nothing, nothing, a / alpha, np.zeros(1), 0.0, 1.0, 0.0
    )
    epsilon = float(1.0 + np.tanh(vector[6 * tokens + 1]))
    pairs = replace(pairs, epsilon=epsilon, curved=bool(vector[6 * tokens + 2] > 0))
    return replace(pairs, delta=pairs.far)


def in_plane(before: list[float], after: list[float], p: list[float]) -> Pairs:
    """Unit vectors in the plane at given angles, read along the first axis; alpha = 1."""
    x = np.stack([np.cos(before), np.sin(before)], axis=1)[:, None, :]
    y = np.stack([np.cos(after), np.sin(after)], axis=1)[:, None, :]
    nothing = np.zeros((len(p), 1))
    return Pairs(
        np.array(p), x, y, nothing, nothing, np.array([1.0, 0.0]), np.zeros(1), 0.0, 1.0, 0.0
    )


def chord_checks() -> ProofCheck:
    """The chord between directions is sqrt(2 d), so d is in [0, 2]; sqrt is concave.

    Written for one coordinate of unit vectors u, v; summed over coordinates with sum u^2 =
    sum v^2 = 1 the terms become |u-v|^2 = 2 d and |u+v|^2 = 2 (2 - d), in any dimension.
    """
    u, v = sp.symbols("u v", real=True)
    t = sp.Symbol("t", positive=True)
    return collect(
        {
            "(u-v)^2 = u^2 + v^2 - 2uv": sp.expand((u - v) ** 2 - (u**2 + v**2 - 2 * u * v)) == 0,
            "(u+v)^2 = 4 - (u-v)^2 if u^2 + v^2 = 2": sp.expand(
                (u + v) ** 2 + (u - v) ** 2 - 2 * (u**2 + v**2)
            )
            == 0,
            "sqrt is concave": sp.diff(sp.sqrt(t), t, 2).is_negative is True,
        },
        "sympy",
    )
