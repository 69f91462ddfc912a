"""Zero information loss is not sufficient: I(Y;V_1|T_1) = 0, but the fixed suffix fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.pmf import as_pmf, information
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import Array
from theory.statements._proofs import about, collect, is_zero


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


LEAK, STEP = sp.symbols("leak gap", real=True, nonzero=True)
K = sp.Symbol("k", positive=True, integer=True)
FORMULAS: Formulas = {
    "texts of two answers differ by": Formula(sp.Symbol("T_1(v+gap)-T_1(v)"), "=", LEAK * STEP),
    "accuracy without vision": Formula(sp.Symbol("accuracy"), "=", 1 / K),
}


@about(
    {
        "texts of two answers differ by": Formula(sp.Symbol("T_1(v+gap)-T_1(v)"), "=", None),
        "accuracy without vision": Formula(sp.Symbol("accuracy"), "=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """T_1 = leak v differs for different answers, so H(Y|T_1) = 0 = I(Y;V_1|T_1).

    Without vision the input of the suffix is the same for all answers: accuracy 1/k.
    """
    v = sp.Symbol("v", real=True)
    apart, accuracy = claim.values()
    same_guess = {k: sp.Rational(sum(y == 0 for y in range(k)), k) for k in range(2, 7)}
    return collect(
        {
            "leak (v + gap) - leak v is the claimed difference": is_zero(
                LEAK * (v + STEP) - LEAK * v - apart.right
            ),
            "it is not 0": apart.right.is_nonzero is True,
            "one guess for all of 2 to 6 answers has the claimed accuracy": all(
                is_zero(share - accuracy.right.subs(K, k)) for k, share in same_guess.items()
            ),
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
    domain="any distinct v and nonzero leak; the accuracy by SymPy for two to six answers",
    formulas=FORMULAS,
    argument="Different answers have different T_1, so H(Y|T_1) = 0 and I(Y;V_1|T_1) = 0. After "
    "the exit the suffix gets the same input for every answer and gives one guess, right for "
    "one of k.",
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
