"""The accuracy drop is at most the disagreement, whatever the labels are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from theory.pmf import Pmf, random_pmf, softmax_pmf
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement

_MOST = 5


@dataclass(frozen=True, eq=False)
class Answers:
    """True answer, full and skipped model's answers, and how answers are scored.

    Attributes:
        p: joint pmf p[true, full, skipped], shape (k, k, k).
        score_full: score of answer a where y is true, shape (k, k), [y, a].
        score_skipped: the same for the skipped model.
    """

    p: Pmf
    score_full: NDArray[np.float64]
    score_skipped: NDArray[np.float64]


def generate(rng: np.random.Generator) -> Answers:
    """A random pmf; exact matches score 1, or any graded score in [0, 1]."""
    k = int(rng.integers(2, 5))
    score = np.eye(k) if rng.random() < 0.5 else rng.random((k, k))
    return Answers(random_pmf(rng, (k, k, k)), score, score)


def slack(case: Answers) -> float:
    """P(answers differ) minus the expected drop of the score."""
    k = len(case.p)
    apart = float(case.p[:, ~np.eye(k, dtype=bool)].sum())
    full = float((case.p.sum(axis=2) * case.score_full).sum())
    skipped = float((case.p.sum(axis=1) * case.score_skipped).sum())
    return apart - (full - skipped)


def witness() -> Answers:
    """Every change is from right to wrong."""
    p = np.zeros((2, 2, 2))
    p[0, 0, 0], p[0, 0, 1] = 0.9, 0.1
    return Answers(p, np.eye(2), np.eye(2))


def prove() -> ProofCheck:
    """Every true answer and pair of answers: 1[a = y] - 1[b = y] <= 1[a != b]; then average."""
    cases = 0
    for k in range(2, _MOST + 1):
        for y, a, b in product(range(k), repeat=3):
            if (a == y) - (b == y) > (a != b):
                return ProofCheck(False, f"fails at y={y}, a={a}, b={b}")
            cases += 1
    return ProofCheck(
        True,
        f"{cases} triples; only whether a, b and y are equal matters, so more classes add none",
    )


def decode(vector: NDArray[np.float64]) -> Answers:
    """Three classes, exact matches."""
    return Answers(softmax_pmf(vector, (3, 3, 3)), np.eye(3), np.eye(3))


def graded_apart() -> Counterexample:
    """A judge who is kinder to the full model."""
    case = replace(witness(), score_skipped=0.5 * np.eye(2))
    return Counterexample(
        case,
        "a judge that gives the skipped model half a point for the same answer: the score drops "
        "by .55 while 10 % of the answers differ",
    )


def wide_scores() -> Counterexample:
    """Two points for a right answer."""
    case = replace(witness(), score_full=2.0 * np.eye(2), score_skipped=2.0 * np.eye(2))
    return Counterexample(
        case, "two points for a right answer: the score drops by .2 while 10 % of answers differ"
    )


STATEMENT = Statement(
    id="S11d",
    title="no labels are needed to bound a drop",
    setting="two models answer the same questions with one of k answers",
    claim="score(full) - score(skipped) <= P(answers differ)",
    source="folklore; used by label-free certificates",
    evidence="exhaustive",
    domain=f"exact match, every triple of up to {_MOST} classes; graded scores are sampled",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            name="equal answers scored equally",
            text="the score depends on the answer, not on who gave it",
            holds=lambda case: bool(np.array_equal(case.score_full, case.score_skipped)),
            counterexample=graded_apart,
        ),
        Hypothesis(
            name="scores in [0, 1]",
            text="scores lie in an interval of length 1",
            holds=lambda case: bool(
                max(np.ptp(case.score_full), np.ptp(case.score_skipped)) <= 1.0 + 1e-12
            ),
            counterexample=wide_scores,
        ),
    ),
    notes=("Label-free only in this sense: Y may be the full model's own answer, or the truth.",),
    proof=prove,
    search=Search(27, decode),
)
