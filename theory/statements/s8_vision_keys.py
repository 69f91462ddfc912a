"""Removing the vision keys of an attention head changes its output by a (o_V - o_T)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import about, collect, is_nonnegative, is_zero

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


W_V, W_T, DIAMETER = sp.symbols("w_V w_T diam", positive=True)
O_V, O_T = sp.symbols("o_V o_T", real=True)
VAR = W_V / (W_V + W_T)
FORMULAS: Formulas = {  # w_V and w_T are the sums of exp(score) over vision and text keys
    "change": Formula(sp.Symbol("o-o_without"), "=", VAR * (O_V - O_T)),
    "bound": Formula(sp.Symbol("|o-o_without|"), "<=", VAR * DIAMETER),
}


@about(
    {
        "change": Formula(sp.Symbol("o-o_without"), "=", None),
        "bound": Formula(sp.Symbol("|o-o_without|"), "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """Identity for each coordinate; o_V - o_T is a weighted mean of differences of values."""
    p, q, u, v, w = sp.symbols("p q u v w")  # two vision values u, v and two text values w, 0
    mean = p * q * (u - w) + p * (1 - q) * u + (1 - p) * q * (v - w) + (1 - p) * (1 - q) * v
    full, without = (W_V * O_V + W_T * O_T) / (W_V + W_T), W_T * O_T / W_T
    change = claim["change"]
    return collect(
        {
            "o - o_without = a (o_V - o_T)": is_zero(full - without - change.right),
            "o_V - o_T = sum_ij p_i q_j (v_i - v_j), here for two keys each": is_zero(
                p * u + (1 - p) * v - q * w - mean
            ),
            "the bound is at least a diam": is_nonnegative(claim["bound"].right - VAR * DIAMETER),
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
    formulas=FORMULAS,
    argument="The identity holds for each coordinate of the values. o_V - o_T is a mean of "
    "differences v_i - v_j, with weights p_i q_j that sum to 1, so its norm is at most "
    "diam(values); SymPy expands it for two keys of each kind.",
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
)
