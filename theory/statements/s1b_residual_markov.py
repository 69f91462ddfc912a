"""I(Y; S_{l+1} | S_l) = 0 for the full state and, after a constant prefix, the vision slice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from theory.formula import EntropyFormula, Formulas
from theory.pmf import Pmf, as_pmf, information, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Statement
from theory.statements._proofs import shannon

SLICES = ("full", "vision", "text")

#: States are residues modulo this number.
MODULUS = 3


@dataclass(frozen=True)
class Layer:
    """One residual layer on three slots in order: prefix Q, vision V, text T.

    The layer maps Q to Q + q[Q], V to V + v[Q, V, T] and T to T + t[Q, V, T], modulo 3. Under a
    causal mask v is constant in T.

    Attributes:
        p: joint pmf of (Y, Q, V, T) before the layer, shape (k, 3, 3, 3).
        q: update of the prefix, shape (3,).
        v: update of vision, shape (3, 3, 3).
        t: update of the text, shape (3, 3, 3).
        slice: slice of the claim, "full", "vision" or "text".
    """

    p: Pmf
    q: NDArray[np.int64]
    v: NDArray[np.int64]
    t: NDArray[np.int64]
    slice: str

    @property
    def causal(self) -> bool:
        """Whether vision does not attend to later tokens."""
        return bool((self.v == self.v[:, :, :1]).all())

    @property
    def constant_prefix(self) -> bool:
        """Whether the prefix is constant."""
        return int((self.p.sum(axis=(0, 2, 3)) > 0).sum()) == 1

    def transition(self) -> Pmf:
        """Joint pmf of (Y, S_l, S_{l+1}), with the slice S encoded as an integer."""
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
        """Slice of a state as an integer."""
        q, v, t = state
        return {"full": (q * MODULUS + v) * MODULUS + t, "vision": v, "text": t}[self.slice]


def generate(rng: np.random.Generator) -> Layer:
    """Random causal tables, for the full state or for vision after a constant prefix."""
    name = str(rng.choice(["full", "vision"]))
    m = MODULUS
    p = random_pmf(rng, (int(rng.integers(2, 4)), m, m, m))
    if name == "vision":
        prefix = np.zeros((m, 1, 1))
        prefix[int(rng.choice(np.flatnonzero(p.sum(axis=(0, 2, 3)))))] = 1.0
        p = as_pmf(p * prefix)
    v = np.repeat(rng.integers(m, size=(m, m, 1)), m, axis=2)
    return Layer(p, rng.integers(m, size=m), v, rng.integers(m, size=(m, m, m)), name)


def slack(layer: Layer) -> float:
    """-I(Y; S_{l+1} | S_l), in nats."""
    return -information(layer.transition(), [0], [2], given=[1])


def copying(source: str, into: str, name: str) -> Layer:
    """Y is the bit in slot `source`, which the layer adds to slot `into`; other slots are 0."""
    p, table = np.zeros((2, 3, 3, 3)), np.indices((3, 3, 3))
    slots = ("prefix", "vision", "text")
    for bit in (0, 1):
        state = [bit if slot == source else 0 for slot in slots]
        p[bit, state[0], state[1], state[2]] = 0.5
    copy = table[slots.index(source)]
    zero = np.zeros((3, 3, 3), dtype=np.int64)
    v, t = (copy, zero) if into == "vision" else (zero, copy)
    return Layer(p, np.zeros(3, dtype=np.int64), v, t, name)


FORMULAS: Formulas = {
    "full state": EntropyFormula("I(Y;H'|H) = 0", ("H' = f(H)",)),
    "vision": EntropyFormula("I(Y;V'|V) = 0", ("V' = f(Q,V)", "H(Q) = 0")),
}


STATEMENT = Statement(
    id="S1b",
    title="slices of the state that form a Markov chain with the answer",
    setting="finite alphabets; a residual layer on a prefix Q, vision V and text T, in this order; "
    "S a slice of the state",
    claim="I(Y; S_{l+1} | S_l) = 0",
    source=RECONSTRUCTION,
    evidence="shannon-lp",
    domain="all joint distributions and all layers: H' = f(H), and V' = f(Q,V) with Q constant",
    generate=generate,
    slack=slack,
    witness=lambda: copying("vision", "text", "full"),
    hypotheses=(
        Hypothesis(
            "closed slice",
            "S is the full state or the vision slice, not the text slice",
            holds=lambda layer: layer.slice != "text",
            counterexample=lambda: Counterexample(
                copying("vision", "text", "text"),
                "text that reads vision gains 1 bit about the answer",
            ),
        ),
        Hypothesis(
            "constant prefix",
            "S is the full state, or the tokens before vision (question, system text) are constant",
            holds=lambda layer: layer.slice != "vision" or layer.constant_prefix,
            counterexample=lambda: Counterexample(
                copying("prefix", "vision", "vision"),
                "vision after a question that determines the answer reads 1 bit from it",
            ),
        ),
        Hypothesis(
            "causal mask",
            "S is the full state, or vision tokens do not attend to later tokens",
            holds=lambda layer: layer.slice != "vision" or layer.causal,
            counterexample=lambda: Counterexample(
                copying("text", "vision", "vision"),
                "with bidirectional attention, as in PaliGemma, vision reads 1 bit from the text",
            ),
        ),
    ),
    notes=(
        "A residual connection is part of the function of the layer, so the full states always "
        "form a Markov chain.",
    ),
    formulas=FORMULAS,
    proof=shannon,
)
