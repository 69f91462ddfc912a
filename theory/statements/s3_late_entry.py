"""I(Y;V,T) - I(Y;V,G) = I(Y;T|V,G) with G = g(T), the text after the text-only layers."""

from __future__ import annotations

import numpy as np

from theory.formula import EntropyFormula, Formulas
from theory.pmf import Pmf, as_pmf, information, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Statement
from theory.statements._proofs import shannon

#: Axes of the pmfs.
Y, V, T, G = range(4)


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (Y, V, T, G) with G a random function of T."""
    y, v, t, g = (int(n) for n in rng.integers(2, 5, 4))
    return through(random_pmf(rng, (y, v, t)), rng.integers(g, size=t).tolist())


def through(p: Pmf, layers: list[int]) -> Pmf:
    """Pmf of (Y, V, T, G) from the pmf of (Y, V, T) and a table G = layers[T]."""
    return p[:, :, :, None] * np.eye(max(layers) + 1)[layers][None, None, :, :]


def slack(p: Pmf) -> float:
    """Minimum of the information loss and minus the error of the identity, in nats."""
    loss = information(p, [Y], [V, T]) - information(p, [Y], [V, G])
    return min(loss, -abs(loss - information(p, [Y], [T], given=[V, G])))


def blind_to(p: Pmf) -> bool:
    """Whether I(Y; G | V, T) = 0 up to rounding."""
    return information(p, [Y], [G], given=[V, T]) <= 1e-10


FORMULAS: Formulas = {
    "loss": EntropyFormula("I(Y;V,T) - I(Y;V,G) = I(Y;T|V,G)", ("Y -> V,T -> G",)),
    "sign": EntropyFormula("I(Y;T|V,G) >= 0"),
}


STATEMENT = Statement(
    id="S3",
    title="information lost by late entry",
    setting="finite alphabets; V_0 and T_0 the inputs, G = g(T_0) the text after the text-only "
    "layers",
    claim="I(Y;V_0,T_0) - I(Y;V_0,G) = I(Y;T_0|V_0,G) >= 0; nothing is lost iff this is 0",
    source=RECONSTRUCTION,
    evidence="shannon-lp",
    domain="all joint distributions of (Y, V_0, T_0, G)",
    generate=generate,
    slack=slack,
    # G constant, Y = T a fair coin: the loss is log 2.
    witness=lambda: through(as_pmf(np.eye(2)[:, None, :]), [0, 0]),
    hypotheses=(
        Hypothesis(
            "text-only layers",
            "Y -> (V_0, T_0) -> G: given the inputs, G is independent of the answer",
            holds=blind_to,
            counterexample=lambda: Counterexample(
                as_pmf(np.eye(2)[:, None, None, :]),
                "if G = Y and the inputs are constant, late entry gains 1 bit, but I(Y;T_0|V_0,G) "
                "= 0",
            ),
        ),
    ),
    superfluous=("Deterministic g: the claim also holds with independent noise.",),
    notes=("Late entry keeps V_0; only information in the text can be lost.",),
    formulas=FORMULAS,
    proof=shannon,
)
