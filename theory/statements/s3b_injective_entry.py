"""If g is injective on the support of T_0, late entry loses no Bayes information."""

from __future__ import annotations

import numpy as np

from theory.formula import EntropyFormula, Formulas
from theory.pmf import Pmf, as_pmf, entropy, information, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Statement
from theory.statements._proofs import shannon
from theory.statements.s3_late_entry import G, T, V, Y, blind_to, through


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (Y, V, T, G) with G a permutation of T."""
    y, v, t = (int(n) for n in rng.integers(2, 5, 3))
    return through(random_pmf(rng, (y, v, t)), rng.permutation(t).tolist())


def slack(p: Pmf) -> float:
    """Minus the absolute change of the information, in nats."""
    return -abs(information(p, [Y], [V, T]) - information(p, [Y], [V, G]))


FORMULAS: Formulas = {
    "no loss": EntropyFormula("I(Y;V,G) = I(Y;V,T)", ("Y -> V,T -> G", "T = f(G)")),
}


STATEMENT = Statement(
    id="S3b",
    title="late entry loses no information if the text-only layers are injective",
    setting="finite alphabets; V_0 and T_0 the inputs, G = g(T_0) the text after the text-only "
    "layers",
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
            "Y -> (V_0, T_0) -> G: given the inputs, G is independent of the answer",
            holds=blind_to,
            counterexample=lambda: Counterexample(
                as_pmf(np.eye(2)[:, None, None, :]),
                "if G = Y and the inputs are constant, late entry gains 1 bit",
            ),
        ),
        Hypothesis(
            "injective",
            "g is injective on the support of T_0",
            holds=lambda p: entropy(p, [T], given=[G]) <= 1e-10,
            counterexample=lambda: Counterexample(
                through(as_pmf(np.eye(2)[:, None, :]), [0, 0]),
                "for Y = T_0 and constant g the loss is 1 bit",
            ),
        ),
    ),
    notes=(
        "Injectivity is sufficient, not necessary: a constant g loses no information if Y depends "
        "on vision alone. The claim concerns information; the fixed suffix can still fail (O5).",
    ),
    formulas=FORMULAS,
    proof=shannon,
)
