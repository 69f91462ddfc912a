"""|h_L - g_L| <= sum_{s in S} |F_s(h_s)| prod_{j > s, j not in S} (1 + lambda_j), and margins."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
)
from theory.statements._proofs import about, collect, is_nonnegative, is_zero

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """A residual stack with F_j(h) = out_j relu(in_j h + shift_j) + bias_j and a linear head.

    Attributes:
        layers: for each layer (in_j, shift_j, out_j, bias_j).
        head: weights of the logits, shape (k, dim).
        start: h_0, all tokens in one vector, shape (dim,).
        skipped: the set S of skipped layers.
        slopes: claimed Lipschitz constants lambda_j of F_j.
        measured: mask of the coordinates included in |F_s(h_s)|, shape (dim,).
        to_linf: claimed Lipschitz constant K of the head from l2 to linf.
        to_l2: claimed Lipschitz constant K_2 of the head from l2 to l2.
    """

    layers: tuple[tuple[Array, Array, Array, Array], ...]
    head: Array
    start: Array
    skipped: frozenset[int]
    slopes: tuple[float, ...]
    measured: NDArray[np.bool_]
    to_linf: float
    to_l2: float

    def update(self, j: int, h: Array) -> Array:
        """Update F_j(h)."""
        inner, shift, outer, bias = self.layers[j]
        return np.asarray(outer @ np.maximum(inner @ h + shift, 0.0) + bias)

    @property
    def full(self) -> list[Array]:
        """States h_0, ..., h_L of the full pass."""
        states = [self.start]
        for j in range(len(self.layers)):
            states.append(states[-1] + self.update(j, states[-1]))
        return states

    @property
    def skip(self) -> Array:
        """Last state g_L of the skipped pass."""
        g = self.start
        for j in range(len(self.layers)):
            if j not in self.skipped:
                g = g + self.update(j, g)
        return g

    @property
    def bound(self) -> float:
        """Right-hand side B, computed from the full pass."""
        states, total = self.full, 0.0
        for s in self.skipped:
            size = float(np.linalg.norm(self.update(s, states[s])[self.measured]))
            later = [j for j in range(s + 1, len(self.layers)) if j not in self.skipped]
            total += size * float(np.prod([1.0 + self.slopes[j] for j in later]))
        return total

    @property
    def head_bounded(self) -> bool:
        """Whether K and K_2 are at least the largest row norm and singular value of the head."""
        rows = largest_row(self.head) <= self.to_linf + 1e-9
        return rows and spectral(self.head) <= self.to_l2 + 1e-9

    @property
    def global_slopes(self) -> bool:
        """Whether every lambda_j is at least |out_j| |in_j|, a global Lipschitz constant."""
        return all(
            slope >= spectral(outer) * spectral(inner) - 1e-9
            for slope, (inner, _, outer, _) in zip(self.slopes, self.layers, strict=True)
        )


def spectral(matrix: Array) -> float:
    """Largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def largest_row(matrix: Array) -> float:
    """Largest norm of a row."""
    return float(np.linalg.norm(matrix, axis=1).max())


def slack(case: Stack) -> float:
    """Minimum of B - |h_L - g_L| and the skipped margin minus its lower bound.

    The skipped margin is at least m - 2 K B and at least m - sqrt(2) K_2 B, which is positive under
    the conditions of the claim, so the argmax does not change.
    """
    full, skip, bound = case.full[-1], case.skip, case.bound
    logits, after = case.head @ full, case.head @ skip
    best = int(np.argmax(logits))
    margin = float(logits[best] - np.delete(logits, best).max())
    remaining = float(after[best] - np.delete(after, best).max())
    decrease = min(2 * case.to_linf, math.sqrt(2) * case.to_l2) * bound
    gap = float(np.linalg.norm(full - skip))
    return min(bound - gap, remaining - (margin - decrease))


def random_stack(values: Array, depth: int, dim: int, skipped: frozenset[int]) -> Stack:
    """Stack from a flat vector of numbers, with global Lipschitz constants."""
    numbers = iter(np.array_split(values, 4 * depth + 2))
    layers = []
    for _ in range(depth):
        inner = np.resize(next(numbers), (dim, dim))
        shift, outer = np.resize(next(numbers), dim), np.resize(next(numbers), (dim, dim))
        layers.append((inner, shift, outer, np.resize(next(numbers), dim)))
    head, start = np.resize(next(numbers), (3, dim)), np.resize(next(numbers), dim)
    slopes = tuple(spectral(outer) * spectral(inner) for inner, _, outer, _ in layers)
    all_coordinates = np.ones(dim, dtype=bool)
    norms = largest_row(head), spectral(head)
    return Stack(tuple(layers), head, start, skipped, slopes, all_coordinates, *norms)


def generate(rng: np.random.Generator) -> Stack:
    """Two to five layers, a nonempty set of skipped layers, updates of various sizes."""
    depth, dim = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    size = max(dim * dim, 3 * dim) * (4 * depth + 2)
    skipped = np.flatnonzero(rng.random(depth) < 0.5).tolist() or [int(rng.integers(depth))]
    stack = random_stack(rng.standard_normal(size) * 0.7, depth, dim, frozenset(skipped))
    factor = float(rng.choice([1e-3, 0.1, 1.0]))
    layers = tuple((i, s, factor * o, factor * b) for i, s, o, b in stack.layers)
    return replace(stack, layers=layers, slopes=tuple(factor * slope for slope in stack.slopes))


def on_the_line(*layers: tuple[float, float, float, float]) -> Stack:
    """One-dimensional stack of layers (in, shift, out, bias); layers 0 and 1 are skipped."""
    built = tuple(
        (np.array([[i]]), np.array([s]), np.array([[o]]), np.array([b])) for i, s, o, b in layers
    )
    slopes = tuple(abs(i * o) for i, _, o, _ in layers)
    head = np.array([[1.0], [-1.0]])
    all_coordinates = np.ones(1, dtype=bool)
    norms = largest_row(head), spectral(head)
    return Stack(built, head, np.zeros(1), frozenset({0, 1}), slopes, all_coordinates, *norms)


def segment_slopes() -> Stack:
    """F_0 = F_1 = 1, F_2 = 100 max(0, 1 - h): constant on [1, 2], the segment of single skips."""
    stack = on_the_line((0, 0, 0, 1), (0, 0, 0, 1), (-1, 1, 100, 0))
    return replace(stack, slopes=(0.0, 0.0, 0.0))


def one_token_measured() -> Stack:
    """Two tokens; layer 0 writes into the first, layer 1 copies it into the second."""
    zero = np.zeros((2, 2))
    write = (zero, np.zeros(2), zero, np.array([1.0, 0.0]))
    copy = (np.eye(2), np.zeros(2), np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros(2))
    return Stack(
        (write, copy),
        np.eye(2),
        np.zeros(2),
        frozenset({0}),
        (0.0, 1.0),
        np.array([False, True]),
        1.0,
        1.0,
    )


def tame_head() -> Stack:
    """Two skipped layers move -1 to 1; the claimed constants of the head, .4, are too small."""
    stack = on_the_line((0, 0, 0, 1), (0, 0, 0, 1))
    return replace(stack, start=-np.ones(1), to_linf=0.4, to_l2=0.4)


def small_stack(vector: Array) -> Stack:
    """One-dimensional stack of three layers from 16 numbers; the first two are skipped."""
    values = 2.0 * np.tanh(vector)
    layers = np.repeat(values[:12, None], 3, axis=1)  # random_stack reads three numbers per weight
    numbers = np.vstack([layers, values[12:15], np.full(3, values[15])])
    return random_stack(numbers.ravel(), 3, 1, frozenset({0, 1}))


DEPTH = 5
SIZES, SLOPES, SKIPPED, CHANGES = (
    sp.symbols(f"{name}:{DEPTH}", nonnegative=True) for name in ("f", "lambda", "s", "m")
)
GAP, K_INF, K_TWO = sp.symbols("B K K_2", nonnegative=True)


def amplified(sources: tuple[sp.Expr, ...], slopes: tuple[sp.Expr, ...]) -> sp.Expr:
    """Sum over layers j of source_j times prod_{i > j} (1 + slope_i)."""
    return sum(
        (
            source * sp.prod([1 + slope for slope in slopes[j + 1 :]])
            for j, source in enumerate(sources)
        ),
        sp.S.Zero,
    )


def recursion(sources: tuple[sp.Expr, ...], slopes: tuple[sp.Expr, ...]) -> sp.Expr:
    """e_L for e_0 = 0 and e_{j+1} = (1 + slope_j) e_j + source_j."""
    gap = sp.S.Zero
    for source, slope in zip(sources, slopes, strict=True):
        gap = (1 + slope) * gap + source
    return gap


FORMULAS: Formulas = {
    "B": Formula(  # s_j is 1 for a skipped layer, otherwise 0
        sp.Symbol("e_5"),
        "=",
        amplified(
            tuple(s * f for s, f in zip(SKIPPED, SIZES, strict=True)),
            tuple((1 - s) * slope for s, slope in zip(SKIPPED, SLOPES, strict=True)),
        ),
    ),
    "margin by K": Formula(sp.Symbol("m-m'"), "<=", 2 * K_INF * GAP),
    "margin by K_2": Formula(sp.Symbol("m-m'"), "<=", sp.sqrt(2) * K_TWO * GAP),
}


@about(
    {
        "B": Formula(sp.Symbol("e_5"), "=", None),
        "margin by K": Formula(sp.Symbol("m-m'"), "<=", None),
        "margin by K_2": Formula(sp.Symbol("m-m'"), "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """The recursion of e_j = |h_j - g_j| unrolls to B; two logits give the margin.

    e_{j+1} <= e_j + |F_j(h_j)| if j is skipped, since g_{j+1} = g_j; otherwise
    e_{j+1} <= (1 + lambda_j) e_j by the triangle inequality and the Lipschitz constant. The margin
    decreases by at most |dz_a| + |dz_b| <= 2 K B, and by at most sqrt(2) |dz|_2.
    """
    a, b = sp.symbols("a b", nonnegative=True)
    steps = recursion(
        tuple(s * f for s, f in zip(SKIPPED, SIZES, strict=True)),
        tuple((1 - s) * slope for s, slope in zip(SKIPPED, SLOPES, strict=True)),
    )
    one, two = (claim[f"margin by {name}"].right for name in ("K", "K_2"))
    return collect(
        {
            f"the recursion unrolls to B for all sets of {DEPTH} layers": is_zero(
                claim["B"].right - steps
            ),
            "|dz_a| + |dz_b| <= 2 K B": is_nonnegative(one - 2 * K_INF * GAP),
            "(|dz_a| + |dz_b|)^2 <= 2 |dz|^2 <= 2 K_2^2 B^2": is_zero(
                2 * (a**2 + b**2) - (a + b) ** 2 - (a - b) ** 2
            )
            and is_nonnegative(two)
            and is_nonnegative(sp.expand(two**2 - 2 * (K_TWO * GAP) ** 2)),
        },
        "sympy",
    )


STATEMENT = Statement(
    id="S6",
    title="one full pass bounds the effect of every set of skipped layers",
    setting="a residual stack h_{j+1} = h_j + F_j(h_j) with last states h_L of the full and g_L of "
    "the skipped pass; m the logit margin; K and K_2 the Lipschitz constants of the head from l2 "
    "to linf and from l2 to l2",
    claim="|h_L - g_L| <= B = sum_{s in S} |F_s(h_s)| prod_{j>s, j not in S} (1 + lambda_j); "
    "the argmax does not change if K B < m/2 or sqrt(2) K_2 B < m",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all residual stacks; the recursion is unrolled by SymPy for every set of skipped "
    "layers at depth 5, and for other depths by induction",
    formulas=FORMULAS,
    argument="e_j = |h_j - g_j| obeys e_{j+1} <= e_j + |F_j(h_j)| for a skipped layer, since "
    "g_{j+1} = g_j, and e_{j+1} <= (1 + lambda_j) e_j for the others, by the triangle "
    "inequality and the Lipschitz constant; the unrolled form at any depth follows by induction.",
    generate=generate,
    slack=slack,
    witness=lambda: on_the_line((0, 0, 0, 1), (0, 0, 0, 1), (1, 0, 1, 0)),  # 2 (1 + 1) = 4
    hypotheses=(
        Hypothesis(
            "Lipschitz constants of the updates",
            "lambda_j is a Lipschitz constant of F_j on [g_j, h_j] for every set S",
            holds=lambda case: case.global_slopes,
            counterexample=lambda: Counterexample(
                segment_slopes(),
                "with slopes on the segments of single skips B = 2, but the gap of both skips is "
                "98",
            ),
        ),
        Hypothesis(
            "norms over all tokens",
            "|F_s(h_s)| is the norm over all tokens of the state",
            holds=lambda case: bool(case.measured.all()),
            counterexample=lambda: Counterexample(
                one_token_measured(),
                "the update of the last token is 0, but a later layer copies the other token into "
                "it",
            ),
        ),
        Hypothesis(
            "Lipschitz constants of the head",
            "|z - z'|_inf <= K |h - h'| and |z - z'|_2 <= K_2 |h - h'|",
            holds=lambda case: case.head_bounded,
            counterexample=lambda: Counterexample(
                tame_head(),
                "with K = .4 instead of 1 a margin of 2 is certified, but the skipped margin is -2",
            ),
        ),
    ),
    proof=proof,
    notes=(
        "Recursion: |h_{j+1} - g_{j+1}| <= (1 + lambda_j) |h_j - g_j| for j not in S, and "
        "|h_{s+1} - g_{s+1}| <= |h_s - g_s| + |F_s(h_s)| for s in S.",
        "Dot-product attention has no global Lipschitz constant (Kim et al. 2021, "
        "arXiv:2006.04710): the bound is a theorem for toy networks and an empirical estimate with "
        "local slopes for real networks.",
    ),
    search=Search(16, small_stack),
)
