"""|h_L - g_L| <= sum_{s in S} |F_s(h_s)| prod_{j > s, j not in S} (1 + lambda_j), and margins."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Search,
    Statement,
)
from theory.statements._proofs import both, collect

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """A residual stack F_j(h) = out_j relu(in_j h + shift_j) + bias_j with a linear head.

    Attributes:
        layers: for each layer (in_j, shift_j, out_j, bias_j).
        head: logits from the last state, shape (k, dim).
        start: h_0, all tokens in one vector, shape (dim,).
        skipped: the set S.
        slopes: claimed Lipschitz constants lambda_j of F_j.
        measured: which coordinates enter |F_s(h_s)|, shape (dim,).
        to_linf: claimed K, the head's constant from l2 to linf.
        to_l2: claimed K_2, from l2 to l2.
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
        """F_j(h)."""
        inner, shift, outer, bias = self.layers[j]
        return np.asarray(outer @ np.maximum(inner @ h + shift, 0.0) + bias)

    @property
    def full(self) -> list[Array]:
        """h_0 to h_L."""
        states = [self.start]
        for j in range(len(self.layers)):
            states.append(states[-1] + self.update(j, states[-1]))
        return states

    @property
    def skip(self) -> Array:
        """g_L."""
        g = self.start
        for j in range(len(self.layers)):
            if j not in self.skipped:
                g = g + self.update(j, g)
        return g

    @property
    def bound(self) -> float:
        """The right-hand side, from the full pass alone."""
        states, total = self.full, 0.0
        for s in self.skipped:
            size = float(np.linalg.norm(self.update(s, states[s])[self.measured]))
            later = [j for j in range(s + 1, len(self.layers)) if j not in self.skipped]
            total += size * float(np.prod([1.0 + self.slopes[j] for j in later]))
        return total

    @property
    def head_bounded(self) -> bool:
        """Whether K and K_2 are at least the head's largest row norm and singular value."""
        rows = largest_row(self.head) <= self.to_linf + 1e-9
        return rows and spectral(self.head) <= self.to_l2 + 1e-9

    @property
    def global_slopes(self) -> bool:
        """Whether every lambda_j is at least |out_j| |in_j|: then it holds everywhere."""
        return all(
            slope >= spectral(outer) * spectral(inner) - 1e-9
            for slope, (inner, _, outer, _) in zip(self.slopes, self.layers, strict=True)
        )


def spectral(matrix: Array) -> float:
    """The largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def largest_row(matrix: Array) -> float:
    """The largest norm of a row."""
    return float(np.linalg.norm(matrix, axis=1).max())


def slack(case: Stack) -> float:
    """The bound minus |h_L - g_L|, and what is left of the margin minus what must be left.

    At least m - 2 K B and m - sqrt(2) K_2 B of the margin m is left: more than 0, so that the
    argmax stays, wherever the claim says so.
    """
    full, skip, bound = case.full[-1], case.skip, case.bound
    logits, after = case.head @ full, case.head @ skip
    best = int(np.argmax(logits))
    margin = float(logits[best] - np.delete(logits, best).max())
    left = float(after[best] - np.delete(after, best).max())
    lost = min(2 * case.to_linf, math.sqrt(2) * case.to_l2) * bound
    return min(bound - float(np.linalg.norm(full - skip)), left - (margin - lost))


def random_stack(values: Array, depth: int, dim: int, skipped: frozenset[int]) -> Stack:
    """A stack from a flat vector of numbers, with its exact global slopes."""
    numbers = iter(np.array_split(values, 4 * depth + 2))
    layers = []
    for _ in range(depth):
        inner = np.resize(next(numbers), (dim, dim))
        shift, outer = np.resize(next(numbers), dim), np.resize(next(numbers), (dim, dim))
        layers.append((inner, shift, outer, np.resize(next(numbers), dim)))
    head, start = np.resize(next(numbers), (3, dim)), np.resize(next(numbers), dim)
    slopes = tuple(spectral(outer) * spectral(inner) for inner, _, outer, _ in layers)
    everything = np.ones(dim, dtype=bool)
    norms = largest_row(head), spectral(head)
    return Stack(tuple(layers), head, start, skipped, slopes, everything, *norms)


def generate(rng: np.random.Generator) -> Stack:
    """Two to five layers, any nonempty set of them skipped, updates from tiny to large."""
    depth, dim = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    size = max(dim * dim, 3 * dim) * (4 * depth + 2)
    chosen = np.flatnonzero(rng.random(depth) < 0.5).tolist() or [int(rng.integers(depth))]
    stack = random_stack(rng.standard_normal(size) * 0.7, depth, dim, frozenset(chosen))
    small = float(rng.choice([1e-3, 0.1, 1.0]))
    layers = tuple((i, s, small * o, small * b) for i, s, o, b in stack.layers)
    return replace(stack, layers=layers, slopes=tuple(small * slope for slope in stack.slopes))


def on_the_line(*layers: tuple[float, float, float, float]) -> Stack:
    """One coordinate; every layer (in, shift, out, bias); layers 0 and 1 skipped."""
    built = tuple(
        (np.array([[i]]), np.array([s]), np.array([[o]]), np.array([b])) for i, s, o, b in layers
    )
    slopes = tuple(abs(i * o) for i, _, o, _ in layers)
    head = np.array([[1.0], [-1.0]])
    everything = np.ones(1, dtype=bool)
    norms = largest_row(head), spectral(head)
    return Stack(built, head, np.zeros(1), frozenset({0, 1}), slopes, everything, *norms)


def segment_slopes() -> Stack:
    """F_0 = F_1 = 1; F_2 = 100 max(0, 1 - h), flat on [1, 2] where single skips end."""
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
    """From -1 to 1 by two skipped layers; the head's constants are claimed to be .4."""
    stack = on_the_line((0, 0, 0, 1), (0, 0, 0, 1))
    return replace(stack, start=-np.ones(1), to_linf=0.4, to_l2=0.4)


def small_stack(vector: Array) -> Stack:
    """Three layers of one coordinate each from 16 numbers; the first two are skipped."""
    values = 2.0 * np.tanh(vector)
    layers = np.repeat(values[:12, None], 3, axis=1)  # random_stack reads three numbers for each
    numbers = np.vstack([layers, values[12:15], np.full(3, values[15])])
    return random_stack(numbers.ravel(), 3, 1, frozenset({0, 1}))


def telescope(depth: int = 5) -> ProofCheck:
    """The recursion unrolls to the claimed sum, for every set of skipped layers.

    e_{j+1} <= e_j + |F_j(h_j)| where j is skipped, since only the full pass moves, and
    e_{j+1} <= (1 + lambda_j) e_j elsewhere, by the triangle inequality and the slope.
    """
    sizes, slopes = sp.symbols(f"f:{depth}", positive=True), sp.symbols(f"l:{depth}", positive=True)
    unrolls = True
    for count in range(depth + 1):
        for skipped in combinations(range(depth), count):
            carried, claimed = sp.S.Zero, sp.S.Zero
            for j in range(depth):
                carried = carried + sizes[j] if j in skipped else (1 + slopes[j]) * carried
            for s in skipped:
                later = [1 + slopes[j] for j in range(s + 1, depth) if j not in skipped]
                claimed += sizes[s] * sp.prod(later)
            unrolls = unrolls and sp.expand(carried - claimed) == 0
    return collect({f"the recursion unrolls to the sum for all sets of {depth}": unrolls}, "sympy")


def proof() -> ProofCheck:
    """The gap by `telescope`; the margin of any two logits falls by at most |dz_a| + |dz_b|.

    That is at most 2 K B, and at most sqrt(2) |dz|_2 <= sqrt(2) K_2 B.
    """
    a, b = sp.symbols("a b", real=True)
    square = sp.expand(2 * (a**2 + b**2) - (a - b) ** 2 - (a + b) ** 2)
    gap = telescope()
    pair = collect({"(a-b)^2 = 2 (a^2+b^2) - (a+b)^2": square == 0}, "sympy")
    return both(gap, pair)


STATEMENT = Statement(
    id="S6",
    title="one full pass bounds every set of skipped layers, and a margin keeps the answer",
    setting="a residual stack h_{j+1} = h_j + F_j(h_j), h_L the full and g_L the skipped state; "
    "m the logit margin, K the head's constant from l2 to linf, K_2 from l2 to l2",
    claim="|h_L - g_L| <= B = sum_{s in S} |F_s(h_s)| prod_{j>s, j not in S} (1 + lambda_j); "
    "the argmax stays if K B < m/2 or sqrt(2) K_2 B < m",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all residual stacks: each step of the recursion in any norm and depth, its unrolled "
    "form for every set of 5 layers",
    generate=generate,
    slack=slack,
    witness=lambda: on_the_line((0, 0, 0, 1), (0, 0, 0, 1), (1, 0, 1, 0)),  # 2 (1 + 1) = 4
    hypotheses=(
        Hypothesis(
            "slopes that hold everywhere",
            "lambda_j is a Lipschitz constant of F_j on [g_j, h_j] for every set claimed",
            holds=lambda case: case.global_slopes,
            counterexample=lambda: Counterexample(
                segment_slopes(),
                "slopes on segments of single skips give 2, the gap of skipping both is 98",
            ),
        ),
        Hypothesis(
            "norms over all tokens",
            "|F_s(h_s)| is taken over the whole state, not over some tokens",
            holds=lambda case: bool(case.measured.all()),
            counterexample=lambda: Counterexample(
                one_token_measured(),
                "the last token's own update is 0, but a later layer copies the other's into it",
            ),
        ),
        Hypothesis(
            "constants of the head",
            "|z - z'|_inf <= K |h - h'| and |z - z'|_2 <= K_2 |h - h'|",
            holds=lambda case: case.head_bounded,
            counterexample=lambda: Counterexample(
                tame_head(), "K = .4 where it is 1: 'certified' at a margin of 2, and -2 is left"
            ),
        ),
    ),
    proof=proof,
    notes=(
        "In words: the gap obeys |h_{j+1} - g_{j+1}| <= (1 + lambda_j) |h_j - g_j| for j not in "
        "S, and grows by |F_s(h_s)| for s in S.",
        "Dot-product attention has no global Lipschitz constant (Kim et al. 2021, "
        "arXiv:2006.04710): a theorem on toy nets, an empirical local slope on real ones.",
    ),
    search=Search(16, small_stack),
)
