"""g_{l+1} <= g_l + I(Y;T_l) - I(Y;T_{l+1}), g_l = I(Y;V_l|T_l)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theory.formula import EntropyFormula, Formulas
from theory.pmf import Pmf, as_pmf, information, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, Statement
from theory.statements._proofs import shannon

#: Axes of the pmfs: answer; vision and text before the layer; vision and text after it.
Y, V, T, W, S = range(5)


def generate(rng: np.random.Generator) -> Pmf:
    """Random (Y, V, T) and a layer from (V, T) to (W, S); half of them causal."""
    y, v, t, w, s = (int(n) for n in rng.integers(2, 4, 5))
    new_vision = rng.integers(w, size=(v, t))
    if rng.random() < 0.5:
        new_vision = np.repeat(new_vision[:, :1], t, axis=1)
    return layer(random_pmf(rng, (y, v, t)), new_vision, rng.integers(s, size=(v, t)), w, s)


def layer(p: Pmf, vision: NDArray[np.int64], text: NDArray[np.int64], w: int, s: int) -> Pmf:
    """Pmf of (Y, V, T, W, S) from the pmf of (Y, V, T) and tables for W and S."""
    vision_part, text_part = np.eye(w)[vision], np.eye(s)[text]  # (v, t, w), (v, t, s)
    return np.asarray(np.einsum("yvt,vtw,vts->yvtws", p, vision_part, text_part))


def slack(p: Pmf) -> float:
    """Right side minus left side, in nats."""
    before = information(p, [Y], [V], given=[T])
    after = information(p, [Y], [W], given=[S])
    return before + information(p, [Y], [T]) - information(p, [Y], [S]) - after


def leaked() -> Pmf:
    """(V, T) and S constant, W = Y: the layer violates the Markov chain."""
    return as_pmf(np.eye(2)[:, None, None, :, None])


def identity() -> Pmf:
    """Y = V a fair coin, T constant, identity layer."""
    table = np.array([[0], [1]])
    return layer(as_pmf(np.eye(2)[:, :, None]), table, 0 * table, 2, 1)


FORMULAS: Formulas = {
    "gap": EntropyFormula("I(Y;W|S) <= I(Y;V|T) + I(Y;T) - I(Y;S)", ("Y -> V,T -> W,S",)),
}


STATEMENT = Statement(
    id="S10",
    title="a lossless exit stays lossless while text information does not decrease",
    setting="finite alphabets; g_l = I(Y;V_l|T_l), the information that an exit at layer l "
    "removes. "
    "In the formula V, T are V_l, T_l and W, S are V_{l+1}, T_{l+1}",
    claim="g_{l+1} <= g_l + I(Y;T_l) - I(Y;T_{l+1})",
    source=RECONSTRUCTION,
    evidence="shannon-lp",
    domain="all joint distributions of (Y, V_l, T_l, V_{l+1}, T_{l+1})",
    generate=generate,
    slack=slack,
    witness=identity,
    hypotheses=(
        Hypothesis(
            "Markov",
            "Y -> (V_l, T_l) -> (V_{l+1}, T_{l+1})",
            holds=lambda p: information(p, [Y], [W, S], given=[V, T]) <= 1e-10,
            counterexample=lambda: Counterexample(
                leaked(),
                "a layer that writes the answer into vision from another source makes g_{l+1} = 1 "
                "bit",
            ),
        ),
    ),
    notes=(
        "If I(Y;T_l) does not decrease, an exit that is lossless at one layer is lossless at every "
        "later layer, which justifies a single exit depth (as in VTW). The claim concerns "
        "information, not the fixed suffix.",
    ),
    formulas=FORMULAS,
    proof=shannon,
)
