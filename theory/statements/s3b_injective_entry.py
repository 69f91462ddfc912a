"""If g is injective on the support of T_0, late entry loses no Bayes information."""

from __future__ import annotations

import numpy as np

from theory.pmf import Pmf, as_pmf, entropy, information, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Statement
from theory.statements._proofs import shannon
from theory.statements.s3_late_entry import G, T, V, Y, blind_to, through


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (Y, V, T, G) with G a permutation of T."""
    y, v, t = (int(n) for n in rng.integers(2, 5, 3))
    return through(random_pmf(rng, (y, v, t)), rng.permutation(t).tolist())


def slack(p: Pmf) -> float:
    """Minus the information lost either way, in nats."""
    return -abs(information(p, [Y], [V, T]) - information(p, [Y], [V, G]))


STATEMENT = Statement(
    id="S3b",
    title="an injective text stack loses nothing by late entry",
    setting="finite alphabets; (V_0, T_0) on entry, G = g(T_0) after the text-only layers",
    claim="I(Y;V_0,G) = I(Y;V_0,T_0)",
    source=RECONSTRUCTION,
    evidence="shannon-lp",
    domain="all joint distributions of (Y, V_0, T_0, G) with H(T_0|G) = 0",
    generate=generate,
    slack=slack,
    witness=lambda: through(as_pmf(np.eye(2)[:, None, :]), [1, 0]),
    hypotheses=(
        Hypothesis(
            "text-only layers",
            "Y -> (V_0, T_0) -> G: the layers before entry see nothing else of the answer",
            holds=blind_to,
            counterexample=lambda: Counterexample(
                as_pmf(np.eye(2)[:, None, None, :]), "G = Y from elsewhere adds 1 bit"
            ),
        ),
        Hypothesis(
            "injective",
            "g(t) = g(t') only for t = t', on the support of T_0",
            holds=lambda p: entropy(p, [T], given=[G]) <= 1e-10,
            counterexample=lambda: Counterexample(
                through(as_pmf(np.eye(2)[:, None, :]), [0, 0]),
                "Y = T_0 and a constant g: 1 bit is lost",
            ),
        ),
    ),
    notes=(
        "Sufficient, not necessary: a constant g loses nothing where Y depends on vision alone. "
        "And it speaks of the best predictor; the fixed tail may still fail (O5).",
    ),
    proof=lambda: shannon(("I(Y;V,G) = I(Y;V,T)", ("Y -> V,T -> G", "T = f(G)"))),
)
