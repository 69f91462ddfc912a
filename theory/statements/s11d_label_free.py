"""The accuracy drop is at most the disagreement, for any labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.pmf import Pmf, random_pmf, softmax_pmf
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement

_MOST = 5


@dataclass(frozen=True, eq=False)
class Answers:
    """Joint pmf of the true answer and both models' answers, with two score tables.

    Attributes:
        p: joint pmf p[true, full, skipped], shape (k, k, k).
        score_full: score of answer a of the full model for true answer y, [y, a], shape (k, k).
        score_skipped: score of answer a of the skipped model for true answer y.
    """

    p: Pmf
    score_full: NDArray[np.float64]
    score_skipped: NDArray[np.float64]


def generate(rng: np.random.Generator) -> Answers:
    """A random pmf with exact-match scores or random scores in [0, 1]."""
    k = int(rng.integers(2, 5))
    score = np.eye(k) if rng.random() < 0.5 else rng.random((k, k))
    return Answers(random_pmf(rng, (k, k, k)), score, score)


def slack(case: Answers) -> float:
    """P(answers differ) minus the expected drop of the score."""
    k = len(case.p)
    disagreement = float(case.p[:, ~np.eye(k, dtype=bool)].sum())
    full = float((case.p.sum(axis=2) * case.score_full).sum())
    skipped = float((case.p.sum(axis=1) * case.score_skipped).sum())
    return disagreement - (full - skipped)


def witness() -> Answers:
    """Every changed answer changes from right to wrong."""
    p = np.zeros((2, 2, 2))
    p[0, 0, 0], p[0, 0, 1] = 0.9, 0.1
    return Answers(p, np.eye(2), np.eye(2))


FORMULAS: Formulas = {  # 0 or 1 each: full right, skipped right, answers differ
    "one question": Formula(sp.Symbol("full") - sp.Symbol("skipped"), "<=", sp.Symbol("differ")),
}


def prove(claim: Formulas) -> ProofCheck:
    """1[a = y] - 1[b = y] <= 1[a != b] for all true answers y and answers a, b; then average."""
    (formula,) = claim.values()
    cases = 0
    for k in range(2, _MOST + 1):
        for y, a, b in product(range(k), repeat=3):
            right = {"full": int(a == y), "skipped": int(b == y)}
            if not formula.at(**right, differ=int(a != b)):
                return ProofCheck(False, f"fails at y={y}, a={a}, b={b}")
            cases += 1
    return ProofCheck(
        True,
        f"{cases} triples; only equalities among a, b and y matter, so more classes add no case",
    )


def decode(vector: NDArray[np.float64]) -> Answers:
    """Three classes with exact-match scores."""
    return Answers(softmax_pmf(vector, (3, 3, 3)), np.eye(3), np.eye(3))


def unequal_scores() -> Counterexample:
    """A judge that favours the full model."""
    case = replace(witness(), score_skipped=0.5 * np.eye(2))
    return Counterexample(
        case,
        "a judge that gives the skipped model half a point for the same answer: the score drops by "
        ".55, but only 10 % of the answers differ",
    )


def wide_scores() -> Counterexample:
    """Two points for a right answer."""
    case = replace(witness(), score_full=2.0 * np.eye(2), score_skipped=2.0 * np.eye(2))
    return Counterexample(
        case, "two points for a right answer: the score drops by .2, but 10 % of answers differ"
    )


STATEMENT = Statement(
    id="S11d",
    title="the accuracy drop is at most the disagreement",
    setting="two models answer the same questions with one of k answers",
    claim="score(full) - score(skipped) <= P(answers differ)",
    source="folklore; basis of label-free certificates",
    evidence="exhaustive",
    domain=f"exact match, all triples of answers with up to {_MOST} classes; random graded scores",
    formulas=FORMULAS,
    argument="Average over questions. Only equalities among the three answers matter, so more "
    "classes add no case. Graded scores in [0, 1] change by at most 1 where the answers differ, "
    "and not at all elsewhere.",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            name="equal answers scored equally",
            text="the score depends on the answer, not on the model that gave it",
            holds=lambda case: bool(np.array_equal(case.score_full, case.score_skipped)),
            counterexample=unequal_scores,
        ),
        Hypothesis(
            name="scores in [0, 1]",
            text="the scores lie in an interval of length 1",
            holds=lambda case: bool(
                max(np.ptp(case.score_full), np.ptp(case.score_skipped)) <= 1.0 + 1e-12
            ),
            counterexample=wide_scores,
        ),
    ),
    notes=("The bound holds for any reference answer Y, such as the label or the full answer.",),
    proof=prove,
    search=Search(27, decode),
)
