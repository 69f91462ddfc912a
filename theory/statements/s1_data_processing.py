"""I(H_l;Y) - I(H_{l+1};Y) = I(H_l;Y|H_{l+1}) >= 0: data processing."""

from __future__ import annotations

import numpy as np

from theory.formula import EntropyFormula, Formulas
from theory.pmf import Pmf, as_pmf, information, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Statement
from theory.statements._proofs import shannon


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (Y, H, K): random (Y, H), then K from H by a function or a random channel."""
    y, h, k = (int(n) for n in rng.integers(2, 6, 3))
    layer = np.eye(k)[rng.integers(k, size=h)] if rng.random() < 0.7 else random_rows(rng, h, k)
    return random_pmf(rng, (y, h))[:, :, None] * layer[None, :, :]


def random_rows(rng: np.random.Generator, rows: int, columns: int) -> Pmf:
    """A random channel; each row is a pmf."""
    return np.stack([random_pmf(rng, (columns,)) for _ in range(rows)])


def slack(p: Pmf) -> float:
    """Minimum of the information loss and minus the error of the identity, in nats."""
    loss = information(p, [1], [0]) - information(p, [2], [0])
    return min(loss, -abs(loss - information(p, [1], [0], given=[2])))


def leaked() -> Counterexample:
    """H constant, K = Y: the layer violates the Markov chain."""
    return Counterexample(
        as_pmf(np.eye(2)[:, None, :]),
        "a layer that reads the answer raises the information from 0 to 1 bit",
    )


def markov(p: Pmf) -> bool:
    """Whether I(Y; K | H) = 0 up to rounding."""
    return information(p, [0], [2], given=[1]) <= 1e-10


FORMULAS: Formulas = {
    "loss": EntropyFormula("I(H;Y) - I(K;Y) = I(H;Y|K)", ("Y -> H -> K",)),
    "sign": EntropyFormula("I(H;Y|K) >= 0"),
}


STATEMENT = Statement(
    id="S1",
    title="data processing: a layer creates no information about the answer",
    setting="finite alphabets; H_l the full state entering layer l. In the formulas H is "
    "H_l and K is H_{l+1}",
    claim="I(H_l;Y) - I(H_{l+1};Y) = I(H_l;Y|H_{l+1}) >= 0",
    source=f"{RECONSTRUCTION}; chain rule, Cover & Thomas 2006, Theorem 2.8.1",
    evidence="shannon-lp",
    domain="all joint distributions of (Y, H_l, H_{l+1})",
    generate=generate,
    slack=slack,
    witness=lambda: as_pmf(np.eye(2)[:, :, None] * np.eye(2)[None, :, :]),  # the identity layer
    hypotheses=(
        Hypothesis(
            "Markov",
            "Y -> H_l -> H_{l+1}: given the full state, the next state is independent of Y",
            holds=markov,
            counterexample=leaked,
        ),
    ),
    superfluous=(
        "A deterministic layer: with independent noise (dropout, sampling) the Markov chain still "
        "holds.",
    ),
    notes=(
        "Skipping a whole layer therefore never decreases the information about the answer (S1r "
        "for the risk); it can only harm the fixed suffix.",
    ),
    formulas=FORMULAS,
    proof=shannon,
)
