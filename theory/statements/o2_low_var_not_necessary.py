"""A low VAR is not necessary: for equal attention outputs the change is 0 at any VAR."""

from __future__ import annotations

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements import s8_vision_keys as s8
from theory.statements._pairs import EXACT
from theory.statements._proofs import about, both, collect, is_zero
from theory.statements.s8_vision_keys import Head

#: Threshold for a high VAR.
HIGH = 0.9


def generate(rng: np.random.Generator) -> Head:
    """Random keys with VAR above HIGH; vision values are shifted so that o_V = o_T."""
    vision, text, dim = (int(n) for n in rng.integers(1, 6, 3))
    scores = rng.standard_normal(vision + text)
    values = rng.standard_normal((vision + text, dim))
    while Head(scores, values, vision).a < HIGH:
        scores[:vision] += 1.0
    head = Head(scores, values, vision)
    values[:vision] += head.text_output - head.vision_output
    return Head(scores, values, vision)


def slack(head: Head) -> float:
    """Minimum of VAR - HIGH and minus the change of the output."""
    change = head.output() - head.output(head.vision)
    return min(head.a - HIGH, -float(np.linalg.norm(change)))


A = sp.Symbol("a", positive=True)
FORMULAS: Formulas = {
    **s8.FORMULAS,
    "change at o_V = o_T": Formula(sp.Symbol("o-o_without"), "=", sp.Integer(0)),
    "VAR of one vision key of score log(a/(1-a)) and one text key of score 0": Formula(
        sp.Symbol("VAR"), "=", A
    ),
}


@about(
    {
        "change at o_V = o_T": Formula(sp.Symbol("o-o_without"), "=", None),
        "VAR of one vision key of score log(a/(1-a)) and one text key of score 0": Formula(
            sp.Symbol("VAR"), "=", None
        ),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """By S8 the change a (o_V - o_T) is 0 for equal outputs, and a takes every value in (0, 1)."""
    *_, still, reached = claim.values()
    weight = sp.exp(sp.log(A / (1 - A)))
    same = claim["change"].right.subs(s8.O_V, s8.O_T)
    exact = collect(
        {
            "the change is the claimed one at o_V = o_T": is_zero(same - still.right),
            "VAR is the claimed one": is_zero(weight / (weight + 1) - reached.right),
        },
        "sympy",
    )
    return both(s8.proof(claim), exact)


STATEMENT = Statement(
    id="O2",
    title="a low attention mass on vision is not necessary",
    setting="softmax attention at one query of one head; a = VAR",
    claim="there are heads with a > .9, and a arbitrarily close to 1, whose output does not change "
    "when vision is removed",
    source="constructed in this project, from S8",
    evidence="symbolic",
    domain="all heads with equal o_V and o_T, every a in (0, 1)",
    formulas=FORMULAS,
    argument="Values can be chosen freely, so o_V = o_T is possible at every score.",
    generate=generate,
    slack=slack,
    witness=lambda: Head(np.array([20.0, 0.0]), np.ones((2, 1)), 1),
    hypotheses=(
        Hypothesis(
            "equal outputs",
            "o_V = o_T, the attention outputs over vision keys alone and over text keys alone",
            holds=lambda head: bool(np.linalg.norm(head.vision_output - head.text_output) <= EXACT),
            counterexample=lambda: Counterexample(
                Head(np.array([20.0, 0.0]), np.array([[1.0], [-1.0]]), 1),
                "for values 1 and -1 and a = 1 - 2e-9, removing vision changes the output by 2",
            ),
        ),
    ),
    proof=proof,
    notes=("The change of the output is a |o_V - o_T|; a alone does not determine it.",),
)
