"""A small cosine distance is not necessary: rotations in the kernel of the suffix do nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import EXACT, Array, unit
from theory.statements._proofs import about, collect, is_zero


@dataclass(frozen=True)
class KernelUpdate:
    """A suffix W x/|x|, the state before and after an update, and the target distance."""

    suffix: Array
    before: Array
    after: Array
    target: float

    @property
    def in_kernel(self) -> bool:
        """Whether W maps the update to 0."""
        return bool(np.linalg.norm(self.suffix @ (self.after - self.before)) <= EXACT)

    @property
    def preserves_norm(self) -> bool:
        """Whether the update preserves the norm."""
        return bool(abs(np.linalg.norm(self.after) - np.linalg.norm(self.before)) <= EXACT)


def build(
    suffix: Array, row_part: Array, first: Array, second: Array, target: float
) -> KernelUpdate:
    """States with the same component in the row space of the suffix that differ in its kernel.

    `first` and `second` are orthonormal vectors of the kernel. For kernel components of norm 1 at
    angle t and a row-space component of norm s, 1 - d = (s^2 + cos t)/(s^2 + 1).
    """
    s2 = float(row_part @ row_part)
    cosine = (1.0 - target) * (s2 + 1.0) - s2
    rotated = cosine * first + np.sqrt(max(1.0 - cosine**2, 0.0)) * second
    return KernelUpdate(suffix, row_part + first, row_part + rotated, target)


def generate(rng: np.random.Generator) -> KernelUpdate:
    """A random suffix of rank k in at least k + 2 dimensions, and a distance up to 1.9."""
    k = int(rng.integers(1, 4))
    suffix = rng.standard_normal((k, k + int(rng.integers(2, 5))))
    _, _, rows = np.linalg.svd(suffix)
    return build(suffix, 0.2 * rows[0], rows[k], rows[k + 1], float(rng.uniform(0.0, 1.9)))


def slack(case: KernelUpdate) -> float:
    """Minus the maximum of the change of the output and the error of the distance."""
    d = 1.0 - float(unit(case.before) @ unit(case.after))
    change = float(np.linalg.norm(case.suffix @ (unit(case.after) - unit(case.before))))
    return -max(change, abs(d - case.target))


def opposite() -> KernelUpdate:
    """The suffix reads the first of three coordinates; the state is reversed: d = 2."""
    axes = np.eye(3)
    return build(axes[:1], 0.0 * axes[0], axes[1], axes[2], 2.0)


def rotation_in_row_space() -> KernelUpdate:
    """The suffix reads the plane in which the state rotates by 90 degrees."""
    axes = np.eye(3)
    return replace(build(axes[:1], 0.0 * axes[0], axes[1], axes[2], 1.0), suffix=axes[1:])


def longer() -> KernelUpdate:
    """(1, 0) becomes (1, 1): the suffix reads the first coordinate, divided by sqrt 2."""
    before, after = np.array([1.0, 0.0]), np.array([1.0, 1.0])
    return KernelUpdate(np.array([[1.0, 0.0]]), before, after, 1.0 - 1.0 / np.sqrt(2.0))


S, D = sp.symbols("s d", positive=True)
COSINE = (1 - D) * (S**2 + 1) - S**2  # cos t
FORMULAS: Formulas = {  # h = r + u, h' = r + cos(t) u + sin(t) v, |r| = s
    "distance": Formula(sp.Symbol("d(h,h')"), "=", D),
    "norm": Formula(sp.Symbol("|h'|^2"), "=", S**2 + 1),
    "component that W reads": Formula(sp.Symbol("<h',r>/s"), "=", S),
}


@about(
    {
        "distance": Formula(sp.Symbol("d(h,h')"), "=", None),
        "norm": Formula(sp.Symbol("|h'|^2"), "=", None),
        "component that W reads": Formula(sp.Symbol("<h',r>/s"), "=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """Verify `build` for every d in [0, 2) and every W with a kernel of dimension 2 or more.

    For r of norm s in the row space and u, v orthonormal in the kernel, h = r + u and
    h' = r + cos(t) u + sin(t) v have equal norms and equal images W r.
    """
    t = sp.Symbol("t", real=True)
    before, after = sp.Matrix([S, 1, 0]), sp.Matrix([S, sp.cos(t), sp.sin(t)])
    square = sp.simplify(after.dot(after))
    reached = (1 - before.dot(after) / square).subs(sp.cos(t), COSINE)
    return collect(
        {
            "h and h' have the claimed component in the row space": all(
                vector[0] == claim["component that W reads"].right for vector in (before, after)
            ),
            "they have the claimed norm": is_zero(square - claim["norm"].right)
            and is_zero(before.dot(before) - claim["norm"].right),
            "cos t = (1-d)(s^2+1) - s^2 gives the claimed distance": is_zero(
                reached - claim["distance"].right
            ),
            "cos t is -1 at s^2 = 2/d - 1 and decreases in s": is_zero(
                COSINE.subs(S, sp.sqrt(2 / D - 1)) + 1
            )
            and is_zero(sp.diff(COSINE, S) + 2 * D * S),
        },
        "sympy",
    )


STATEMENT = Statement(
    id="O1",
    title="a small cosine distance is not necessary",
    setting="a suffix W x/|x| (RMSNorm and a linear head); the kernel of W has dimension 2 or more",
    claim="for every d in [0, 2) there are a state and an update of cosine distance d that changes "
    "no output",
    source="constructed in this project",
    evidence="symbolic",
    domain="every W with such a kernel, every d in [0, 2)",
    formulas=FORMULAS,
    argument="For s small enough cos t lies in [-1, 1], so t exists. h and h' have equal norm "
    "and equal image under W, so W h/|h| = W h'/|h'|. SymPy computes in the span of r, u and v.",
    generate=generate,
    slack=slack,
    witness=opposite,
    hypotheses=(
        Hypothesis(
            "in the kernel",
            "W maps the update to 0",
            holds=lambda case: case.in_kernel,
            counterexample=lambda: Counterexample(
                rotation_in_row_space(),
                "the same rotation in a plane that the suffix reads changes the output",
            ),
        ),
        Hypothesis(
            "norm preserved",
            "|h + F(h)| = |h|",
            holds=lambda case: case.preserves_norm,
            counterexample=lambda: Counterexample(
                longer(),
                "a larger kernel component makes RMSNorm shrink the component that the suffix "
                "reads",
            ),
        ),
    ),
    proof=proof,
    notes=(
        "A layer with a large cosine distance can be skipped if the suffix ignores its update.",
    ),
)
