"""Low VAR is not necessary: equal attention outputs give zero change at VAR close to 1."""

from __future__ import annotations

import numpy as np

from theory.statement import Statement
from theory.statements.s8_vision_keys import Head

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


STATEMENT = Statement(
    id="O2",
    title="low attention to vision is not necessary",
    setting="softmax attention at one query of one head; a = VAR",
    claim="there are heads with a > .9, and up to 1, that vision can leave without any change",
    source="constructed here, from S8",
    evidence="searched",
    domain="random heads of up to 5 + 5 keys with equal o_V and o_T",
    generate=generate,
    slack=slack,
    witness=lambda: Head(np.array([20.0, 0.0]), np.ones((2, 1)), 1),
    notes=("What counts is a |o_V - o_T|, not a.",),
)
