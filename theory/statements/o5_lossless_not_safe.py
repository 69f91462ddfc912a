"""Bayes-lossless is not safe: I(Y;V_1|T_1) = 0, and the fixed tail loses everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theory.pmf import as_pmf, information
from theory.statement import Statement
from theory.statements._pairs import Array


@dataclass(frozen=True)
class Leak:
    """Vision holds the answer v; layer 0 adds leak * v to the text; the tail reads vision.

    Attributes:
        v: values of the vision state, one for each answer, distinct; all equally likely.
        leak: any number but 0.
    """

    v: Array
    leak: float

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

    Y is read off V and T as the position of their value; after the exit the tail sees 0.
    """
    k = len(case.v)
    _, text = np.unique(case.text, return_inverse=True)
    joint = np.zeros((k, k, k))
    joint[np.arange(k), np.arange(k), text] = 1.0
    left = information(as_pmf(joint), [0], [1], given=[2])
    lost = case.right(case.v) - case.right(np.zeros(k))
    return min(-abs(left), lost - (1 - 1 / k))


STATEMENT = Statement(
    id="O5",
    title="lossless for the best predictor is not safe for the model",
    setting="k answers held by vision; a layer that leaks any multiple of vision into text; a "
    "tail that reads vision; exit after that layer",
    claim="I(Y;V_1|T_1) = 0, and accuracy falls from 1 to 1/k",
    source="constructed here",
    evidence="searched",
    domain="2 to 6 answers, leaks from 1e-6 to 1 of either sign",
    generate=generate,
    slack=slack,
    witness=lambda: Leak(np.array([1.0, 2.0]), 1e-6),
    notes=(
        "A generic real-valued layer is injective on a finite data set, so I(Y;V_l|T_l) is 0 at "
        "every l >= 1 whatever the model does. On real states the informational condition means "
        "something only as usable information of a named family of probes (S14).",
    ),
)
