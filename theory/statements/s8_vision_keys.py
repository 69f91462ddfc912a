"""Removing the vision keys of an attention head changes its output by a (o_V - o_T)."""

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
    """One query of one head: scores (keys,), values (keys, dim) and the number of vision keys.

    If not `softmax`, the weights are exp(score) / keys without renormalisation. `shift` is added to
    the score of the last key when vision is removed, as by recomputed positions.
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
        """VAR, the attention mass on vision keys."""
        weights = np.exp(self.scores)
        return float(weights[: self.vision].sum() / weights.sum())

    @property
    def vision_output(self) -> Array:
        """Attention output o_V over vision keys alone."""
        weights = np.exp(self.scores[: self.vision])
        return np.asarray((weights / weights.sum()) @ self.values[: self.vision])

    @property
    def text_output(self) -> Array:
        """Attention output o_T over text keys alone."""
        weights = np.exp(self.scores[self.vision :])
        return np.asarray((weights / weights.sum()) @ self.values[self.vision :])

    @property
    def diameter(self) -> float:
        """Largest distance between two values."""
        gaps = self.values[:, None, :] - self.values[None, :, :]
        return float(np.linalg.norm(gaps, axis=2).max())


def generate(rng: np.random.Generator) -> Head:
    """Random scores and values; VAR from nearly 0 to nearly 1."""
    vision, text, dim = (int(n) for n in rng.integers(1, 6, 3))
    scores = rng.standard_normal(vision + text)
    scores[:vision] += rng.uniform(-5, 5)
    return Head(scores, rng.standard_normal((vision + text, dim)), vision)


def slack(head: Head) -> float:
    """Minimum of a diam(values) - |change| and minus the error of the identity."""
    change = head.output() - head.output(head.vision)
    exact = head.a * (head.vision_output - head.text_output)
    error = float(np.linalg.norm(change - exact))
    return min(head.a * head.diameter - float(np.linalg.norm(change)), -error)


def one_key_each() -> Head:
    """One vision and one text key, at distance 2."""
    return Head(np.zeros(2), np.array([[1.0], [-1.0]]), 1)


def identity() -> sp.Expr:
    """Change minus a (o_V - o_T), in the total weights and weighted sums of vision and text."""
    w_v, w_t = sp.symbols("w_V w_T", positive=True)
    s_v, s_t = sp.symbols("s_V s_T", real=True)  # sum of weight times value
    a = w_v / (w_v + w_t)
    change = (s_v + s_t) / (w_v + w_t) - s_t / w_t
    return sp.simplify(change - a * (s_v / w_v - s_t / w_t))


def proof() -> ProofCheck:
    """Identity for each coordinate; o_V - o_T is a weighted mean of differences of values."""
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


def recomputed_positions() -> Head:
    """Small VAR, two text keys with values +-1, and a shifted score of the second."""
    values = np.array([[0.0], [1.0], [-1.0]])
    return Head(np.array([-5.0, 0.0, 0.0]), values, 1, shift=1.0)


STATEMENT = Statement(
    id="S8",
    title="removing vision keys changes a head by VAR times a difference of outputs",
    setting="one query of one head; a = VAR < 1; o and o_without the outputs with and without "
    "the vision keys; o_V and o_T the attention outputs over vision keys alone and over text keys "
    "alone",
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
                "for equal values the diameter is 0, but without renormalisation the output is "
                "halved",
            ),
        ),
        Hypothesis(
            "unchanged scores",
            "the scores and values of the remaining keys do not change (positions are kept)",
            holds=lambda head: head.shift == 0.0,
            counterexample=lambda: Counterexample(
                recomputed_positions(),
                "VAR = .003 and diameter 2, but recomputed positions change the output by .46",
            ),
        ),
    ),
    notes=(
        "A low VAR is sufficient, not necessary: for o_V = o_T the output does not change (O2).",
    ),
    proof=proof,
    symbolic=identity,
)
