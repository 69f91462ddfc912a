"""Bonferroni, Holm and fixed sequences control the family-wise error rate at delta."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

import numpy as np
import sympy as sp

from theory.certificates.families import CONTROLS, rejected
from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement

_MOST = 4


@dataclass(frozen=True)
class Family:
    """A discrete joint distribution of the p-values of several plans.

    Attributes:
        control: one of `CONTROLS`.
        delta: nominal family-wise error rate.
        unsafe: for each plan, whether its null hypothesis is true.
        cells: possible vectors of p-values.
        weights: probabilities of these vectors.
        order: order of a fixed sequence: "fixed", or "by p-value" (ascending).
    """

    control: str
    delta: float
    unsafe: tuple[bool, ...]
    cells: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    order: str = "fixed"


def thresholds(m: int, delta: float) -> tuple[float, ...]:
    """All levels with which the p-values of m plans are compared, and 1."""
    return (*(delta / (m - i) for i in range(m)), 1.0)


def is_valid(case: Family) -> bool:
    """Whether P(p_j <= g) <= g for every unsafe plan j and every g on the grid."""
    cells, weights = np.array(case.cells), np.array(case.weights)
    grid = np.unique(cells)
    return all(
        float(weights[cells[:, j] <= g].sum()) <= g * (1.0 + 1e-9)
        for j, unsafe in enumerate(case.unsafe)
        if unsafe
        for g in grid
    )


def generate(rng: np.random.Generator) -> Family:
    """Random joint pmf on the thresholds, mixed with p = 1 for all plans until it is valid."""
    m, delta = int(rng.integers(1, 4)), float(rng.choice([0.05, 0.1, 0.3]))
    unsafe = rng.random(m) < 0.7
    grid = thresholds(m, delta)
    cells = np.array(list(product(grid, repeat=m)))
    weights = rng.dirichlet(np.full(len(cells), 0.2))
    worst = max(
        (
            float(weights[cells[:, j] <= g].sum()) / g
            for j in np.flatnonzero(unsafe)
            for g in grid[:-1]
        ),
        default=1.0,
    )
    weights = weights / max(worst, 1.0)
    weights[-1] += 1.0 - weights.sum()
    return Family(
        str(rng.choice(CONTROLS)),
        delta,
        tuple(map(bool, unsafe)),
        tuple(map(tuple, cells.tolist())),
        tuple(weights.tolist()),
    )


def slack(case: Family) -> float:
    """Nominal minus exact probability that an unsafe plan is certified."""
    error = sum(
        weight
        for cell, weight in zip(case.cells, case.weights, strict=True)
        if any(case.unsafe[j] for j in _certified(case, cell))
    )
    return case.delta - error


def _certified(case: Family, cell: tuple[float, ...]) -> list[int]:
    """Indices of the plans that are certified at a vector of p-values."""
    order = list(range(len(cell)))
    if case.order == "by p-value":
        order.sort(key=lambda j: cell[j])
    positions = rejected([cell[j] for j in order], case.delta, control=case.control)
    return [order[i] for i in positions]


def witness() -> Family:
    """Two unsafe plans with disjoint rejections: the union bound is attained."""
    delta = 0.1
    cells = ((delta / 2, 1.0), (1.0, delta / 2), (1.0, 1.0))
    return Family("bonferroni", delta, (True, True), cells, (delta / 2, delta / 2, 1.0 - delta))


FORMULAS: Formulas = {
    name: Formula(sp.Symbol("error"), "<=", sp.Symbol("delta")) for name in CONTROLS
}


def prove(claim: Formulas) -> ProofCheck:
    """All numbers of plans up to 4, all sets of unsafe plans and all patterns of p-values.

    A false certificate implies p_j <= g for a pair (j, g) in a list whose levels sum to at most
    delta: all unsafe plans at delta / m (Bonferroni) or at delta / m_0 for m_0 unsafe plans (Holm),
    or the first unsafe plan at delta (fixed sequence). By the union bound its probability is at
    most delta under any joint distribution. Only comparisons with thresholds matter, so the number
    of patterns is finite.
    """
    patterns = 0
    for m in range(1, _MOST + 1):
        delta, exact = 0.12, Fraction(12, 100)
        for unsafe in product((False, True), repeat=m):
            null_plans = [j for j in range(m) if unsafe[j]]
            for control in CONTROLS:
                level = {
                    "bonferroni": delta / m,
                    "holm": delta / max(len(null_plans), 1),
                    "fixed-sequence": delta,
                }[control]
                tested = null_plans[:1] if control == "fixed-sequence" else null_plans
                share = {"bonferroni": m, "holm": max(len(null_plans), 1), "fixed-sequence": 1}
                error = len(tested) * exact / share[control]  # union bound
                if not claim[control].at(error=error, delta=exact):
                    return ProofCheck(False, f"{control}: the levels sum to {error}")
                for cell in product(thresholds(m, delta), repeat=m):
                    false = any(unsafe[j] for j in rejected(cell, delta, control=control))
                    if false and not any(cell[j] <= level for j in tested):
                        return ProofCheck(False, f"{control} fails at p = {cell}, unsafe {unsafe}")
                    patterns += 1
    return ProofCheck(True, f"{patterns} patterns of p-values; union bound over them")


def pooled() -> Counterexample:
    """P-values that are too small, as if questions were independent."""
    case = replace(witness(), weights=(0.2, 0.2, 0.6))
    return Counterexample(
        case,
        "p-values that treat questions as independent are below delta/2 with probability 20 % "
        "each: the error rate is 40 % at delta = 10 %",
    )


def sorted_sequence() -> Counterexample:
    """A sequence ordered by the p-values."""
    delta = 0.1
    cells = ((delta, 1.0), (1.0, delta), (1.0, 1.0))
    case = Family(
        "fixed-sequence",
        delta,
        (True, True),
        cells,
        (delta, delta, 1.0 - 2 * delta),
        order="by p-value",
    )
    return Counterexample(
        case,
        "a sequence in ascending order of the p-values has error rate 20 % at delta = 10 %",
    )


STATEMENT = Statement(
    id="S11c",
    title="family-wise error control for several plans",
    setting="m plans with one p-value each, under any dependence; delta in (0, 1)",
    claim="P(any certified plan is unsafe) <= delta for Bonferroni, Holm and fixed sequences",
    source=(
        "Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052, Theorem 1; Holm 1979; "
        "Maurer et al. 1995"
    ),
    evidence="exhaustive",
    domain=f"all patterns of p-values of up to {_MOST} plans, all joint distributions",
    formulas=FORMULAS,
    argument="A false certificate implies p_j <= g for one of the listed pairs (j, g), which "
    "the patterns show; the levels g of these pairs sum to at most delta, and by the union "
    "bound so does the probability, under any joint distribution. Only comparisons with the "
    "thresholds matter. More than 4 plans are argued in the same way, without enumeration.",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            name="valid p-values",
            text="P(p_j <= g) <= g for every g if plan j is unsafe",
            holds=is_valid,
            counterexample=pooled,
        ),
        Hypothesis(
            name="order fixed in advance",
            text="the order of a fixed sequence does not depend on the p-values",
            holds=lambda case: case.order == "fixed" or case.control != "fixed-sequence",
            counterexample=sorted_sequence,
        ),
    ),
    superfluous=("Independence of the p-values: the union bound does not require it.",),
    proof=prove,
)
