"""I(Y; S_{l+1} | S_l) = 0 for the full state and, behind a fixed prefix, for the vision slice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from theory.pmf import Pmf, as_pmf, information, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Statement
from theory.statements._proofs import shannon

SLICES = ("full", "vision", "text")

#: States are residues mod this.
MODULUS = 3


@dataclass(frozen=True)
class Layer:
    """One residual layer on three slots in order: prefix Q, vision V, text T.

    Each slot becomes itself plus a table entry (mod 3): Q + q[Q], V + v[Q, V, T],
    T + t[Q, V, T]. A causal mask makes v constant in T.

    Attributes:
        p: joint pmf of (Y, Q, V, T) on entry, shape (k, 3, 3, 3).
        q: shape (3,).
        v: shape (3, 3, 3).
        t: shape (3, 3, 3).
        slice: "full", "vision" or "text": the one the chain is claimed for.
    """

    p: Pmf
    q: NDArray[np.int64]
    v: NDArray[np.int64]
    t: NDArray[np.int64]
    slice: str

    @property
    def causal(self) -> bool:
        """Vision does not attend to what comes after it."""
        return bool((self.v == self.v[:, :, :1]).all())

    @property
    def constant_prefix(self) -> bool:
        """All mass on one prefix."""
        return int((self.p.sum(axis=(0, 2, 3)) > 0).sum()) == 1

    def transition(self) -> Pmf:
        """The joint pmf of (Y, S_l, S_{l+1}), with S the slice as one whole number."""
        m = MODULUS
        size = {"full": m**3, "vision": m, "text": m}[self.slice]
        joint = np.zeros((len(self.p), size, size))
        for q, v, t in product(range(m), repeat=3):
            before = (q, v, t)
            after = tuple(
                (old + int(new)) % m
                for old, new in zip(
                    before, (self.q[q], self.v[before], self.t[before]), strict=True
                )
            )
            joint[:, self.code(before), self.code(after)] += self.p[:, q, v, t]
        return joint

    def code(self, state: tuple[int, ...]) -> int:
        """The slice of a state as one whole number."""
        q, v, t = state
        return {"full": (q * MODULUS + v) * MODULUS + t, "vision": v, "text": t}[self.slice]


def generate(rng: np.random.Generator) -> Layer:
    """Random tables, causal, on the full state, or on vision behind a constant prefix."""
    chosen = str(rng.choice(["full", "vision"]))
    m = MODULUS
    p = random_pmf(rng, (int(rng.integers(2, 4)), m, m, m))
    if chosen == "vision":
        kept = np.zeros((m, 1, 1))
        kept[int(rng.choice(np.flatnonzero(p.sum(axis=(0, 2, 3)))))] = 1.0
        p = as_pmf(p * kept)
    v = np.repeat(rng.integers(m, size=(m, m, 1)), m, axis=2)
    return Layer(p, rng.integers(m, size=m), v, rng.integers(m, size=(m, m, m)), chosen)


def slack(layer: Layer) -> float:
    """Minus what the next slice tells about the answer beyond the slice itself, in nats."""
    return -information(layer.transition(), [0], [2], given=[1])


def copying(source: str, into: str, chosen: str) -> Layer:
    """Y = the bit in slot `source`, which the layer adds to slot `into`; all else is 0."""
    p, table = np.zeros((2, 3, 3, 3)), np.indices((3, 3, 3))
    slots = ("prefix", "vision", "text")
    for bit in (0, 1):
        at = [bit if slot == source else 0 for slot in slots]
        p[bit, at[0], at[1], at[2]] = 0.5
    read = table[slots.index(source)]
    nothing = np.zeros((3, 3, 3), dtype=np.int64)
    v, t = (read, nothing) if into == "vision" else (nothing, read)
    return Layer(p, np.zeros(3, dtype=np.int64), v, t, chosen)


STATEMENT = Statement(
    id="S1b",
    title="where the Markov chain holds in spite of residual connections",
    setting="finite alphabets; a residual layer on prefix, vision and text slots, in this order",
    claim="I(Y; S_{l+1} | S_l) = 0",
    source=RECONSTRUCTION,
    evidence="shannon-lp",
    domain="all joint distributions, all layers: H' = f(H), and V' = f(Q,V) with Q constant",
    generate=generate,
    slack=slack,
    witness=lambda: copying("vision", "text", "full"),
    hypotheses=(
        Hypothesis(
            "a closed slice",
            "S is the full state or the vision slice, never the text slice",
            holds=lambda layer: layer.slice != "text",
            counterexample=lambda: Counterexample(
                copying("vision", "text", "text"),
                "text that reads vision gains 1 bit that it did not have",
            ),
        ),
        Hypothesis(
            "a constant prefix",
            "S full, or nothing that varies (question, system text) precedes the vision tokens",
            holds=lambda layer: layer.slice != "vision" or layer.constant_prefix,
            counterexample=lambda: Counterexample(
                copying("prefix", "vision", "vision"),
                "vision behind a question that holds the answer reads 1 bit from it",
            ),
        ),
        Hypothesis(
            "a causal mask",
            "S full, or vision tokens do not attend to what comes after them",
            holds=lambda layer: layer.slice != "vision" or layer.causal,
            counterexample=lambda: Counterexample(
                copying("text", "vision", "vision"),
                "under a prefix mask, as in PaliGemma, vision reads 1 bit from the text",
            ),
        ),
    ),
    notes=(
        "A residual connection is part of the layer's function: it never breaks the chain of "
        "full states.",
    ),
    proof=lambda: shannon(
        ("I(Y;H'|H) = 0", "H' = f(H)"),
        ("I(Y;V'|V) = 0", ("V' = f(Q,V)", "H(Q) = 0")),
    ),
)
