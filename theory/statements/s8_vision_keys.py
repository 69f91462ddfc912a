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

    `softmax` False means weights exp(score) / keys that nothing renormalises. `shift` is added
    to the score of the last key once vision is gone: positions counted anew.
    """

    scores: Array
    values: Array
    vision: int
    softmax: bool = True
    shift: float = 0.0

    def output(self, first: int = 0) -> Array:
        """Attention over the keys from `first` on."""
        weights = np.exp(self.scores)
        if first:
            weights[-1] *= np.exp(self.shift)
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
    """Coordinate by coordinate; o_V - o_T is a mean of differences of values."""
    p, q, u, v, w = sp.symbols("p q u v w")  # two vision values u, v and two text values w, 0
    mean = p * q * (u - w) + p * (1 - q) * u + (1 - p) * q * (v - w) + (1 - p) * (1 - q) * v
    return collect(
        {
            "change = a (o_V - o_T)": identity() == 0,
            "o_V - o_T = sum_ij p_i q_j (v_i - v_j)": sp.expand(p * u + (1 - p) * v - q * w - mean)
            == 0,
        },
        "sympy",
    )


def counted_anew() -> Head:
    """Little VAR, two text keys with values +-1, the second one's score raised by the exit."""
    values = np.array([[0.0], [1.0], [-1.0]])
    return Head(np.array([-5.0, 0.0, 0.0]), values, 1, shift=1.0)


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
        Hypothesis(
            "scores stay",
            "the scores and values of the remaining keys are the same (positions are kept)",
            holds=lambda head: head.shift == 0.0,
            counterexample=lambda: Counterexample(
                counted_anew(), "VAR .003 times diameter 2, but new positions move the head by .46"
            ),
        ),
    ),
    notes=("Low VAR is sufficient, not necessary: equal outputs give no change at a -> 1 (O2).",),
    proof=proof,
    symbolic=identity,
)
