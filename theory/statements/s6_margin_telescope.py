"""|h_L - g_L| <= sum_{s in S} |F_s(h_s)| prod_{j > s, j not in S} (1 + lambda_j), and margins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Search, Statement

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
    """

    layers: tuple[tuple[Array, Array, Array, Array], ...]
    head: Array
    start: Array
    skipped: frozenset[int]
    slopes: tuple[float, ...]
    measured: NDArray[np.bool_]

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
    def global_slopes(self) -> bool:
        """Whether every lambda_j is at least |out_j| |in_j|: then it holds everywhere."""
        return all(
            slope >= spectral(outer) * spectral(inner) - 1e-9
            for slope, (inner, _, outer, _) in zip(self.slopes, self.layers, strict=True)
        )


def spectral(matrix: Array) -> float:
    """The largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def slack(case: Stack) -> float:
    """The bound minus |h_L - g_L|; where a margin certifies, also what is left of the margin."""
    full, skip = case.full[-1], case.skip
    gap, bound = float(np.linalg.norm(full - skip)), case.bound
    logits = np.sort(case.head @ full)
    margin = float(logits[-1] - logits[-2])
    rows = float(np.linalg.norm(case.head, axis=1).max())  # K, from l2 to linf
    certified = rows * bound < margin / 2 or np.sqrt(2) * spectral(case.head) * bound < margin
    if not certified:
        return bound - gap
    best = int(np.argmax(case.head @ full))
    after = case.head @ skip
    return min(bound - gap, float(after[best] - np.delete(after, best).max()))


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
    return Stack(tuple(layers), head, start, skipped, slopes, np.ones(dim, dtype=bool))


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
    skipped = frozenset({0, 1})
    return Stack(built, head, np.zeros(1), skipped, slopes, np.ones(1, dtype=bool))


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
    )


STATEMENT = Statement(
    id="S6",
    title="one full pass bounds every set of skipped layers, and a margin keeps the answer",
    setting="a residual stack h_{j+1} = h_j + F_j(h_j), h_L the full and g_L the skipped state; "
    "m the logit margin, K the head's constant from l2 to linf, K_2 from l2 to l2",
    claim="|h_L - g_L| <= B = sum_{s in S} |F_s(h_s)| prod_{j>s, j not in S} (1 + lambda_j); "
    "the argmax stays if K B < m/2 or sqrt(2) K_2 B < m",
    source=RECONSTRUCTION,
    evidence="searched",
    domain="random ReLU stacks of 2 to 5 layers in up to 4 dimensions, any set skipped",
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
    ),
    notes=(
        "In words: the gap obeys |h_{j+1} - g_{j+1}| <= (1 + lambda_j) |h_j - g_j| for j not in "
        "S, and grows by |F_s(h_s)| for s in S.",
        "Dot-product attention has no global Lipschitz constant (Kim et al. 2021, "
        "arXiv:2006.04710): a theorem on toy nets, an empirical local slope on real ones.",
    ),
    search=Search(56, lambda vector: random_stack(np.tanh(vector), 3, 2, frozenset({0, 1}))),
)
