"""Removing vision keys at one attention head changes its output by exactly a (o_V - o_T)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import collect

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """One query of one head: scores (keys,), values (keys, dim), how many keys are vision.

    `softmax` False means weights exp(score) / keys that nothing renormalises.
    """

    scores: Array
    values: Array
    vision: int
    softmax: bool = True

    def output(self, first: int = 0) -> Array:
        """Attention over the keys from `first` on."""
        weights = np.exp(self.scores)
        total = weights[first:].sum() if self.softmax else float(len(weights))
        return np.asarray((weights[first:] / total) @ self.values[first:])

    @property
    def a(self) -> float:
        """VAR: the attention mass on vision keys."""
        weights = np.exp(self.scores)
        return float(weights[: self.vision].sum() / weights.sum())

    @property
    def vision_output(self) -> Array:
        """o_V: attention over vision keys alone."""
        weights = np.exp(self.scores[: self.vision])
        return np.asarray((weights / weights.sum()) @ self.values[: self.vision])

    @property
    def text_output(self) -> Array:
        """o_T: attention over text keys alone."""
        weights = np.exp(self.scores[self.vision :])
        return np.asarray((weights / weights.sum()) @ self.values[self.vision :])

    @property
    def diameter(self) -> float:
        """The largest distance between two values."""
        gaps = self.values[:, None, :] - self.values[None, :, :]
        return float(np.linalg.norm(gaps, axis=2).max())


def generate(rng: np.random.Generator) -> Head:
    """Random scores and values; VAR from nearly 0 to nearly 1."""
    vision, text, dim = (int(n) for n in rng.integers(1, 6, 3))
    scores = rng.standard_normal(vision + text)
    scores[:vision] += rng.uniform(-5, 5)
    return Head(scores, rng.standard_normal((vision + text, dim)), vision)


def slack(head: Head) -> float:
    """A times the diameter minus the change, or minus the error of the identity."""
    change = head.output() - head.output(head.vision)
    exact = head.a * (head.vision_output - head.text_output)
    error = float(np.linalg.norm(change - exact))
    return min(head.a * head.diameter - float(np.linalg.norm(change)), -error)


def one_key_each() -> Head:
    """One vision and one text key, at distance 2."""
    return Head(np.zeros(2), np.array([[1.0], [-1.0]]), 1)


def identity() -> sp.Expr:
    """Change minus a (o_V - o_T), in the masses and weighted sums of both kinds of keys."""
    w_v, w_t = sp.symbols("w_V w_T", positive=True)
    s_v, s_t = sp.symbols("s_V s_T", real=True)  # sum of weight times value
    a = w_v / (w_v + w_t)
    change = (s_v + s_t) / (w_v + w_t) - s_t / w_t
    return sp.simplify(change - a * (s_v / w_v - s_t / w_t))


def proof() -> ProofCheck:
    """Coordinate by coordinate; o_V and o_T lie in the hull of the values, hence the diameter."""
    return collect({"change = a (o_V - o_T)": identity() == 0}, "sympy")


STATEMENT = Statement(
    id="S8",
    title="removing vision keys moves a head by VAR times a difference of values",
    setting="one query of one head; a = VAR < 1; o_V, o_T the attention outputs over vision and "
    "over text keys alone",
    claim="o - o_without = a (o_V - o_T), so |o - o_without| <= a diam(values)",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all scores and values",
    generate=generate,
    slack=slack,
    witness=one_key_each,
    hypotheses=(
        Hypothesis(
            "softmax",
            "the weights of the remaining keys are renormalised",
            holds=lambda head: head.softmax,
            counterexample=lambda: Counterexample(
                replace(one_key_each(), values=np.ones((2, 1)), softmax=False),
                "equal values have diameter 0, but unnormalised weights halve the output",
            ),
        ),
    ),
    notes=("Low VAR is sufficient, not necessary: equal outputs give no change at a -> 1 (O2).",),
    proof=proof,
    symbolic=identity,
)
