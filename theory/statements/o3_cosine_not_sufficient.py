"""Cosine alone is not sufficient: y = c x has distance 0, and the answer changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory.statement import Statement
from theory.statements._pairs import Array, unit


@dataclass(frozen=True)
class Grown:
    """A layer that multiplies the state by c, then a pre-norm block, then a head of two answers.

    The block adds f(x/|x|) = a vector `write` (it sees only the direction). The head compares
    the direction of the result along x with 3/2 of that along `write`.
    """

    x: Array
    write: Array
    c: float

    def margin(self, state: Array) -> float:
        """First logit minus second, after the block."""
        after = unit(state + self.write)
        return float(after @ unit(self.x) - 1.5 * (after @ unit(self.write)))


def generate(rng: np.random.Generator) -> Grown:
    """Orthogonal x and write of the same norm in 2 to 6 dimensions, c from 2 to 10."""
    dim = int(rng.integers(2, 7))
    frame, _ = np.linalg.qr(rng.standard_normal((dim, 2)))
    size = float(rng.uniform(0.5, 5.0))
    return Grown(size * frame[:, 0], size * frame[:, 1], float(rng.uniform(2.0, 10.0)))


def slack(case: Grown) -> float:
    """The smallest of minus d, and by how much each of the two answers wins its case."""
    d = 1.0 - float(unit(case.x) @ unit(case.c * case.x))
    return min(-abs(d), case.margin(case.c * case.x), -case.margin(case.x))


STATEMENT = Statement(
    id="O3",
    title="a small cosine distance is not sufficient",
    setting="a layer that only multiplies the state by c, followed by a pre-norm block",
    claim="d(x, c x) = 0, and skipping the layer changes the answer",
    source="constructed here, from S6b",
    evidence="searched",
    domain="orthogonal writes in 2 to 6 dimensions, c from 2 to 10",
    generate=generate,
    slack=slack,
    witness=lambda: Grown(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 2.0),
    notes=(
        "With a residual connection the next update is added to a state of another size: one "
        "block later the directions differ.",
    ),
)
