"""A margin above twice the largest change of a logit keeps the argmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement
from theory.statements._proofs import about, collect, is_nonnegative

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits before and after a change.

    Attributes:
        before: logits of the full model, shape (k,), k >= 2.
        after: logits of the skipped model, shape (k,).
        largest: claimed largest change of a logit.
    """

    before: Array
    after: Array
    largest: float

    @property
    def best(self) -> int:
        """The argmax of the full model."""
        return int(np.argmax(self.before))

    @property
    def margin(self) -> float:
        """Largest logit minus the second largest, of the full model."""
        return float(self.before[self.best] - np.delete(self.before, self.best).max())


def generate(rng: np.random.Generator) -> Logits:
    """A change of at most just below half of the margin, in the worst direction or any."""
    before = rng.standard_normal(int(rng.integers(2, 9))) * 10.0 ** rng.uniform(-1, 1)
    case = Logits(before, before, 0.0)
    largest = float(rng.uniform(0.0, 0.499)) * case.margin
    signs = np.where(np.arange(before.size) == case.best, -1.0, 1.0)
    change = signs if rng.random() < 0.5 else rng.uniform(-1, 1, before.size)
    return Logits(before, before + largest * change, largest)


def slack(case: Logits) -> float:
    """The margin that is left to the same answer; negative if another answer is ahead."""
    return float(case.after[case.best] - np.delete(case.after, case.best).max())


def witness() -> Logits:
    """The best logit falls and the second rises by a hair less than half of the margin."""
    change = 1.0 - 1e-9
    return Logits(np.array([1.0, -1.0]), np.array([1.0 - change, change - 1.0]), change)


LARGEST = sp.Symbol("d", nonnegative=True)
FORMULAS: Formulas = {
    "lost margin": Formula(sp.Symbol("m-m'"), "<=", 2 * LARGEST),
}


@about({"lost margin": Formula(sp.Symbol("m-m'"), "<=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """The best logit falls by at most d and any other rises by at most d."""
    right = claim["lost margin"].right
    return collect(
        {"m - m' <= |dz_a| + |dz_b| <= 2 d": is_nonnegative(right - 2 * LARGEST)}, "sympy"
    )


def decode(vector: Array) -> Logits:
    """Five logits with a margin, and a change below half of it."""
    before, change = 3.0 * np.tanh(vector[:5]), np.tanh(vector[5:10])
    before[np.argmax(before)] += 0.01
    largest = 0.499 * Logits(before, before, 0.0).margin
    return Logits(before, before + largest * change, largest)


def small_margin() -> Counterexample:
    """A margin of 1, less than twice the change."""
    return Counterexample(
        Logits(np.array([1.0, 0.0]), np.array([0.4, 0.6]), 0.6),
        "logits (1, 0) become (.4, .6): no logit changes by more than .6, but the margin was 1",
    )


def two_logits_measured() -> Counterexample:
    """The change is measured at the two largest logits alone, and a third one jumps ahead."""
    return Counterexample(
        Logits(np.array([2.0, 1.0, 0.0]), np.array([2.0, 1.0, 3.0]), 0.0),
        "the two largest logits do not change, but a third one rises from 0 to 3",
    )


STATEMENT = Statement(
    id="S17",
    title="a margin above twice the largest change of a logit keeps the answer",
    setting="logits z of the full and z' of the skipped model over k tokens; m the margin of the "
    "largest over the second largest of z",
    claim="argmax z' = argmax z if m > 2 d, with d = max_j |z'_j - z_j|; then m' >= m - 2 d",
    source="folklore; randomised smoothing and Lipschitz-margin training use it (Tsuzuku et al. "
    "2018, arXiv 1802.04034, proposition 1)",
    evidence="symbolic",
    domain="all logits and changes, any number of tokens",
    formulas=FORMULAS,
    argument="The logit of the argmax falls by at most d and any other rises by at most d, so "
    "their difference stays at least m - 2 d > 0.",
    generate=generate,
    slack=slack,
    witness=witness,
    witness_slack=1e-8,
    hypotheses=(
        Hypothesis(
            "margin above twice the change",
            "m > 2 d",
            holds=lambda case: case.margin > 2.0 * case.largest,
            counterexample=small_margin,
        ),
        Hypothesis(
            "every logit is measured",
            "d >= |z'_j - z_j| for every token j",
            holds=lambda case: bool(
                np.abs(case.after - case.before).max() <= case.largest * (1 + 1e-12) + 1e-15
            ),
            counterexample=two_logits_measured,
        ),
    ),
    notes=(
        "The factor 2 is optimal: at m = 2 d both logits can meet. S6 bounds d by K B without "
        "running the skipped model; S7 bounds the change of probabilities.",
        "It speaks of one token. A greedy answer stays as it is if every token of it has such a "
        "margin, each with d measured after the same prefix.",
    ),
    proof=proof,
    search=Search(10, decode),
)
