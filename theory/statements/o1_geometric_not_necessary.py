"""Geometric redundancy is not necessary: an update in the kernel of the tail, at any distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory.statement import Statement
from theory.statements._pairs import Array, unit


@dataclass(frozen=True)
class Unseen:
    """A linear tail, the state before and after an update, and the distance aimed at."""

    tail: Array
    before: Array
    after: Array
    target: float


def build(tail: Array, seen: Array, first: Array, second: Array, target: float) -> Unseen:
    """States that share the part `seen` of the tail's row space and differ in its kernel.

    `first`, `second` are orthonormal vectors of the kernel. With parts of norm 1 at angle t in
    the kernel and a part of norm s in the row space, 1 - d = (s^2 + cos t)/(s^2 + 1).
    """
    s2 = float(seen @ seen)
    cosine = (1.0 - target) * (s2 + 1.0) - s2
    turned = cosine * first + np.sqrt(max(1.0 - cosine**2, 0.0)) * second
    return Unseen(tail, seen + first, seen + turned, target)


def generate(rng: np.random.Generator) -> Unseen:
    """A random tail of rank k in k + 2 or more dimensions, and any distance up to 1.9."""
    k = int(rng.integers(1, 4))
    tail = rng.standard_normal((k, k + int(rng.integers(2, 5))))
    _, _, rows = np.linalg.svd(tail)
    return build(tail, 0.2 * rows[0], rows[k], rows[k + 1], float(rng.uniform(0.0, 1.9)))


def slack(case: Unseen) -> float:
    """Minus the larger of: the change of the output, the distance missed."""
    d = 1.0 - float(unit(case.before) @ unit(case.after))
    change = float(np.linalg.norm(case.tail @ (case.after - case.before)))
    return -max(change, abs(d - case.target))


def opposite() -> Unseen:
    """The tail reads the first of three coordinates; the state turns around: d = 2."""
    axes = np.eye(3)
    return build(axes[:1], 0.0 * axes[0], axes[1], axes[2], 2.0)


STATEMENT = Statement(
    id="O1",
    title="geometric redundancy is not necessary",
    setting="a linear tail whose kernel has dimension 2 or more",
    claim="for every d in [0, 2) there is an update of cosine distance d that changes no output",
    source="constructed here",
    evidence="searched",
    domain="random tails of rank 1 to 3, distances 0 to 1.9; at rank 1, d = 2 exactly",
    generate=generate,
    slack=slack,
    witness=opposite,
    notes=("A layer may be skipped although its states move far: the tail does not look there.",),
)
