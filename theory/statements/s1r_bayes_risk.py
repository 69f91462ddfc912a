"""R*(H_l) <= R*(H_{l+1}): no layer lowers the Bayes risk."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.pmf import Pmf, as_pmf
from theory.statement import (
    RECONSTRUCTION,
    Counterexample,
    Hypothesis,
    ProofCheck,
    Statement,
)
from theory.statements._enumerate import bayes_risk, compositions
from theory.statements.s1_data_processing import generate as generate_pmf
from theory.statements.s1_data_processing import markov

#: Probabilities in the enumeration are multiples of 1/TOTAL.
TOTAL = 6


@dataclass(frozen=True)
class Task:
    """A joint pmf of (Y, H, K) and a loss table, shape (actions, k)."""

    p: Pmf
    loss: NDArray[np.float64]


def generate(rng: np.random.Generator) -> Task:
    """A layer as in S1 and a random loss table of any sign."""
    p = generate_pmf(rng)
    return Task(p, rng.standard_normal((int(rng.integers(2, 5)), p.shape[0])))


def slack(task: Task) -> float:
    """Bayes risk after the layer minus Bayes risk before it."""
    after = bayes_risk(task.p.sum(axis=1), task.loss)
    return after - bayes_risk(task.p.sum(axis=2), task.loss)


FORMULAS: Formulas = {
    "right answers per 6": Formula(sp.Symbol("after"), "<=", sp.Symbol("before")),
}


def enumerate_all(claim: Formulas) -> ProofCheck:
    """All pmfs of (Y, H) on 2 x 3 cells, all 27 layers on 3 states, 0-1 loss, in integers.

    For 0-1 loss 1 - R* = sum_h max_y p(y, h), an integer multiple of 1/TOTAL.
    """
    (formula,) = claim.values()
    layers = np.array(list(product(range(3), repeat=3)))
    transitions = np.eye(3, dtype=np.int64)[layers]  # (27, h, k)
    cases = 0
    for cells in compositions(TOTAL, 6):
        counts = np.array(cells).reshape(2, 3)
        before = int(counts.max(axis=0).sum())
        after = (counts @ transitions).max(axis=1).sum(axis=1)  # (27,)
        if not all(formula.at(after=a, before=before) for a in set(after.tolist())):
            return ProofCheck(False, f"violated at counts {cells}")
        cases += len(layers)
    return ProofCheck(True, f"enumeration: {cases} pairs of pmf and layer, integer arithmetic")


STATEMENT = Statement(
    id="S1r",
    title="no layer lowers the Bayes risk",
    setting="finite alphabets; R* the Bayes risk for any loss table",
    claim="R*(H_l) <= R*(H_{l+1})",
    source=f"{RECONSTRUCTION}; Blackwell 1953",
    evidence="exhaustive",
    domain="every pmf of (Y, H_l) on 2 x 3 cells with probabilities in multiples of 1/6, every "
    "layer on 3 states, 0-1 loss; in addition random pmfs, noisy layers and losses",
    formulas=FORMULAS,
    argument="For 0-1 loss 1 - R* is the share of right answers, sum_h max_y p(y,h). For other "
    "distributions and losses (not machine-checked): a predictor from H_{l+1} is a randomised "
    "predictor from H_l, by the Markov chain (Blackwell).",
    generate=generate,
    slack=slack,
    witness=lambda: Task(
        as_pmf(np.eye(2)[:, :, None] * np.eye(2)[None, :, :]), 1.0 - np.eye(2)
    ),  # the identity layer
    hypotheses=(
        Hypothesis(
            "Markov",
            "Y -> H_l -> H_{l+1}: given the full state, the next state is independent of Y",
            holds=lambda task: markov(task.p),
            counterexample=lambda: Counterexample(
                Task(as_pmf(np.eye(2)[:, None, :]), 1.0 - np.eye(2)),
                "a layer that reads the answer lowers the error from 1/2 to 0",
            ),
        ),
    ),
    proof=enumerate_all,
)
