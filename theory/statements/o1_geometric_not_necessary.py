"""Geometric redundancy is not necessary: the tail does not see a rotation in its kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp

from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import EXACT, Array, unit
from theory.statements._proofs import collect


@dataclass(frozen=True)
class Unseen:
    """A tail W x/|x|, the state before and after an update, and the distance aimed at."""

    tail: Array
    before: Array
    after: Array
    target: float

    @property
    def in_kernel(self) -> bool:
        """Whether W maps the update to 0."""
        return bool(np.linalg.norm(self.tail @ (self.after - self.before)) <= EXACT)

    @property
    def keeps_norm(self) -> bool:
        """Whether the update leaves the norm as it is."""
        return bool(abs(np.linalg.norm(self.after) - np.linalg.norm(self.before)) <= EXACT)


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
    change = float(np.linalg.norm(case.tail @ (unit(case.after) - unit(case.before))))
    return -max(change, abs(d - case.target))


def opposite() -> Unseen:
    """The tail reads the first of three coordinates; the state turns around: d = 2."""
    axes = np.eye(3)
    return build(axes[:1], 0.0 * axes[0], axes[1], axes[2], 2.0)


def seen_turn() -> Unseen:
    """The tail reads the plane in which the state turns by 90 degrees."""
    axes = np.eye(3)
    return replace(build(axes[:1], 0.0 * axes[0], axes[1], axes[2], 1.0), tail=axes[1:])


def longer() -> Unseen:
    """(1, 0) becomes (1, 1): the first coordinate, which the tail reads, is divided by sqrt 2."""
    before, after = np.array([1.0, 0.0]), np.array([1.0, 1.0])
    return Unseen(np.array([[1.0, 0.0]]), before, after, 1.0 - 1.0 / np.sqrt(2.0))


def proof() -> ProofCheck:
    """The construction of `build` for every distance d in [0, 2) and every tail with a kernel.

    With r of norm s in the row space and u, v orthonormal in the kernel, h = r + u and
    h' = r + cos(t) u + sin(t) v have equal norms and equal images W r.
    """
    s, d = sp.symbols("s d", positive=True)
    t = sp.Symbol("t", real=True)
    cosine = (1 - d) * (s**2 + 1) - s**2
    before, after = sp.Matrix([s, 1, 0]), sp.Matrix([s, sp.cos(t), sp.sin(t)])
    update, square = after - before, sp.simplify(after.dot(after))
    reached = sp.expand(1 - (s**2 + cosine) / (s**2 + 1) - d)
    return collect(
        {
            "the update has no part in the row space": update[0] == 0,
            "the norm stays": sp.simplify(square - before.dot(before)) == 0,
            "1 - d = (s^2 + cos t)/(s^2 + 1)": sp.simplify(
                before.dot(after) / square - (s**2 + sp.cos(t)) / (s**2 + 1)
            )
            == 0,
            "solved by cos t = (1-d)(s^2+1) - s^2": sp.simplify(reached) == 0,
            "which is -1 at s^2 = 2/d - 1, and s^2 may be smaller": sp.simplify(
                cosine.subs(s, sp.sqrt(2 / d - 1)) + 1
            )
            == 0
            and sp.diff(cosine, s).equals(-2 * d * s),
        },
        "sympy",
    )


STATEMENT = Statement(
    id="O1",
    title="geometric redundancy is not necessary",
    setting="a tail W x/|x| (RMSNorm and a linear head) whose kernel has dimension 2 or more",
    claim="for every d in [0, 2) there is an update of cosine distance d that changes no output",
    source="constructed here",
    evidence="symbolic",
    domain="every W with such a kernel, every d in [0, 2)",
    generate=generate,
    slack=slack,
    witness=opposite,
    hypotheses=(
        Hypothesis(
            "in the kernel",
            "W maps the update to 0",
            holds=lambda case: case.in_kernel,
            counterexample=lambda: Counterexample(
                seen_turn(), "the same turn in a plane that the tail reads changes the output"
            ),
        ),
        Hypothesis(
            "norm kept",
            "|h + F(h)| = |h|",
            holds=lambda case: case.keeps_norm,
            counterexample=lambda: Counterexample(
                longer(), "a longer kernel part makes RMSNorm shrink what the tail reads"
            ),
        ),
    ),
    proof=proof,
    notes=("A layer may be skipped although its states move far: the tail does not look there.",),
)
