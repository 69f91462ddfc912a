"""Zero information loss is not sufficient: I(Y;V_1|T_1) = 0, but the fixed suffix fails."""

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
    """Vision holds the answer v; layer 0 adds leak * v to the text; the suffix reads vision.

    Attributes:
        v: distinct values of the vision state, one for each of the equally likely answers.
        leak: nonzero number.
        refitted: whether the suffix is retrained to read the text instead.
    """

    v: Array
    leak: float
    refitted: bool = False

    @property
    def text(self) -> Array:
        """Text state T_1 for each answer."""
        return np.asarray(0.0 + self.leak * self.v)

    def accuracy(self, inputs: Array) -> float:
        """Accuracy of a suffix that predicts the answer whose v is nearest to its input."""
        nearest = np.abs(inputs[:, None] - self.v[None, :]).argmin(axis=1)
        return float((nearest == np.arange(len(self.v))).mean())


def generate(rng: np.random.Generator) -> Leak:
    """Two to six answers, leaks of absolute value 1e-6 to 1."""
    k = int(rng.integers(2, 7))
    v = np.cumsum(rng.uniform(0.5, 2.0, k))
    return Leak(v, float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-6, 0)))


def slack(case: Leak) -> float:
    """Minimum of -I(Y;V_1|T_1) and the drop of the accuracy minus (1 - 1/k).

    After the exit the input of the suffix is 0, or T_1 / leak if the suffix is refitted.
    """
    k = len(case.v)
    _, text = np.unique(case.text, return_inverse=True)
    joint = np.zeros((k, k, k))
    joint[np.arange(k), np.arange(k), text] = 1.0
    conditional = information(as_pmf(joint), [0], [1], given=[2])
    inputs = case.text / case.leak if case.refitted else np.zeros(k)
    drop = case.accuracy(case.v) - case.accuracy(inputs)
    return min(-abs(conditional), drop - (1 - 1 / k))


def proof() -> ProofCheck:
    """T_1 = leak v differs for different answers, so H(Y|T_1) = 0 = I(Y;V_1|T_1).

    Without vision the input of the suffix is the same for all answers: accuracy 1/k.
    """
    leak, gap = sp.symbols("leak gap", real=True, nonzero=True)
    v = sp.Symbol("v", real=True)
    return collect(
        {
            "leak (v + gap) - leak v is nonzero": sp.expand(leak * (v + gap) - leak * v).is_nonzero
            is True
        },
        "sympy",
    )


STATEMENT = Statement(
    id="O5",
    title="zero information loss is not sufficient for a fixed suffix",
    setting="vision holds one of k answers; a layer adds a multiple of vision to the text; the "
    "suffix reads vision; exit after that layer",
    claim="I(Y;V_1|T_1) = 0, but the accuracy falls from 1 to 1/k",
    source="constructed in this project",
    evidence="symbolic",
    domain="any number of answers, any distinct v, any nonzero leak",
    generate=generate,
    slack=slack,
    witness=lambda: Leak(np.array([1.0, 2.0]), 1e-6),
    hypotheses=(
        Hypothesis(
            "nonzero leak",
            "the leak is not 0",
            holds=lambda case: case.leak != 0.0,
            counterexample=lambda: Counterexample(
                Leak(np.array([1.0, 2.0]), 0.0),
                "without a leak I(Y;V_1|T_1) = log 2: the loss of information predicts the failure",
            ),
        ),
        Hypothesis(
            "fixed suffix",
            "the suffix reads vision, as before the exit",
            holds=lambda case: not case.refitted,
            counterexample=lambda: Counterexample(
                Leak(np.array([1.0, 2.0]), 0.5, refitted=True),
                "a refitted suffix reads the leak and keeps accuracy 1",
            ),
        ),
    ),
    proof=proof,
    notes=(
        "A generic real-valued layer is injective on a finite data set, so I(Y;V_l|T_l) = 0 for "
        "every l >= 1 and every such model. On real-valued states the condition is meaningful only "
        "for the usable information of a given family of probes (S14).",
    ),
)
