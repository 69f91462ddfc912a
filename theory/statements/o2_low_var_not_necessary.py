"""Low VAR is not necessary: equal attention outputs give zero change at VAR close to 1."""

from __future__ import annotations

import numpy as np
import sympy as sp

from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import EXACT
from theory.statements._proofs import both, collect
from theory.statements.s8_vision_keys import Head
from theory.statements.s8_vision_keys import proof as exact_change

#: What counts as high.
HIGH = 0.9


def generate(rng: np.random.Generator) -> Head:
    """Random keys with VAR above HIGH; vision values moved so that o_V = o_T."""
    vision, text, dim = (int(n) for n in rng.integers(1, 6, 3))
    scores = rng.standard_normal(vision + text)
    values = rng.standard_normal((vision + text, dim))
    while Head(scores, values, vision).a < HIGH:
        scores[:vision] += 1.0
    head = Head(scores, values, vision)
    values[:vision] += head.text_output - head.vision_output
    return Head(scores, values, vision)


def slack(head: Head) -> float:
    """The smaller of VAR - HIGH and minus the change of the output."""
    change = head.output() - head.output(head.vision)
    return min(head.a - HIGH, -float(np.linalg.norm(change)))


def proof() -> ProofCheck:
    """By S8 the change is a (o_V - o_T), 0 for equal outputs; a takes every value in (0, 1)."""
    score = sp.Symbol("score", real=True)
    a = sp.exp(score) / (sp.exp(score) + 1)
    limits = [sp.limit(a, score, end) for end in (-sp.oo, sp.oo)]
    reached = collect({"a = e^s/(e^s + 1) goes from 0 to 1": limits == [0, 1]}, "sympy")
    return both(exact_change(), reached)


STATEMENT = Statement(
    id="O2",
    title="low attention to vision is not necessary",
    setting="softmax attention at one query of one head; a = VAR",
    claim="there are heads with a > .9, and up to 1, that vision can leave without any change",
    source="constructed here, from S8",
    evidence="symbolic",
    domain="all heads with equal o_V and o_T, every a in (0, 1)",
    generate=generate,
    slack=slack,
    witness=lambda: Head(np.array([20.0, 0.0]), np.ones((2, 1)), 1),
    hypotheses=(
        Hypothesis(
            "equal outputs",
            "o_V = o_T, the attention outputs over vision and over text keys alone",
            holds=lambda head: bool(np.linalg.norm(head.vision_output - head.text_output) <= EXACT),
            counterexample=lambda: Counterexample(
                Head(np.array([20.0, 0.0]), np.array([[1.0], [-1.0]]), 1),
                "values 1 and -1: at a = 1 - 2e-9 the exit moves the head by 2",
            ),
        ),
    ),
    proof=proof,
    notes=("What counts is a |o_V - o_T|, not a.",),
)
