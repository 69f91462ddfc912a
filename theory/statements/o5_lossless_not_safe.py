"""Bayes-lossless is not safe: I(Y;V_1|T_1) = 0, and the fixed tail loses everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.pmf import as_pmf, information
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import Array
from theory.statements._proofs import collect


@dataclass(frozen=True)
class Leak:
    """Vision holds the answer v; layer 0 adds leak * v to the text; the tail reads vision.

    Attributes:
        v: values of the vision state, one for each answer, distinct; all equally likely.
        leak: any number but 0.
        refitted: whether the tail was trained anew to read the text instead.
    """

    v: Array
    leak: float
    refitted: bool = False

    @property
    def text(self) -> Array:
        """T_1 for each answer."""
        return np.asarray(0.0 + self.leak * self.v)

    def right(self, seen: Array) -> float:
        """Share of answers the tail gets right: it names the nearest value of v."""
        nearest = np.abs(seen[:, None] - self.v[None, :]).argmin(axis=1)
        return float((nearest == np.arange(len(self.v))).mean())


def generate(rng: np.random.Generator) -> Leak:
    """Two to six answers, leaks of any size down to 1e-6."""
    k = int(rng.integers(2, 7))
    v = np.cumsum(rng.uniform(0.5, 2.0, k))
    return Leak(v, float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-6, 0)))


def slack(case: Leak) -> float:
    """The smaller of minus I(Y;V_1|T_1) and the accuracy lost, less 1 - 1/k.

    Y is read off V and T as the position of their value; after the exit the tail sees 0, or the
    text divided by the leak if it was refitted.
    """
    k = len(case.v)
    _, text = np.unique(case.text, return_inverse=True)
    joint = np.zeros((k, k, k))
    joint[np.arange(k), np.arange(k), text] = 1.0
    left = information(as_pmf(joint), [0], [1], given=[2])
    seen = case.text / case.leak if case.refitted else np.zeros(k)
    lost = case.right(case.v) - case.right(seen)
    return min(-abs(left), lost - (1 - 1 / k))


def proof() -> ProofCheck:
    """T_1 = leak v separates every two answers, so H(Y|T_1) = 0 = I(Y;V_1|T_1).

    Without vision the tail sees one and the same input whatever the answer: right once in k.
    """
    leak, gap = sp.symbols("leak gap", real=True, nonzero=True)
    v = sp.Symbol("v", real=True)
    return collect(
        {
            "leak (v + gap) - leak v is not 0": sp.expand(leak * (v + gap) - leak * v).is_nonzero
            is True
        },
        "sympy",
    )


STATEMENT = Statement(
    id="O5",
    title="lossless for the best predictor is not safe for the model",
    setting="k answers held by vision; a layer that leaks any multiple of vision into text; a "
    "tail that reads vision; exit after that layer",
    claim="I(Y;V_1|T_1) = 0, and accuracy falls from 1 to 1/k",
    source="constructed here",
    evidence="symbolic",
    domain="any number of answers, any distinct v, any leak but 0",
    generate=generate,
    slack=slack,
    witness=lambda: Leak(np.array([1.0, 2.0]), 1e-6),
    hypotheses=(
        Hypothesis(
            "a leak",
            "the leak is not 0",
            holds=lambda case: case.leak != 0.0,
            counterexample=lambda: Counterexample(
                Leak(np.array([1.0, 2.0]), 0.0), "no leak: the exit loses log 2, and that is seen"
            ),
        ),
        Hypothesis(
            "a fixed tail",
            "the tail reads vision, as it did before the exit",
            holds=lambda case: not case.refitted,
            counterexample=lambda: Counterexample(
                Leak(np.array([1.0, 2.0]), 0.5, refitted=True),
                "a tail trained anew reads the leak and loses nothing",
            ),
        ),
    ),
    proof=proof,
    notes=(
        "A generic real-valued layer is injective on a finite data set, so I(Y;V_l|T_l) is 0 at "
        "every l >= 1 whatever the model does. On real states the informational condition means "
        "something only as usable information of a named family of probes (S14).",
    ),
)
