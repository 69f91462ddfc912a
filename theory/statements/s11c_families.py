"""Bonferroni, Holm and fixed sequences keep the chance of any false promise at delta."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from theory.certificates.families import CONTROLS, rejected
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement

_MOST = 4


@dataclass(frozen=True)
class Family:
    """A joint distribution of p-values on a grid, and which plans are unsafe.

    Attributes:
        control: one of `CONTROLS`.
        delta: promised family-wise error rate.
        unsafe: for each plan, whether its null hypothesis is true.
        cells: possible vectors of p-values.
        weights: their probabilities.
        order: "fixed", or "by p-value": the sequence starts with the smallest.
    """

    control: str
    delta: float
    unsafe: tuple[bool, ...]
    cells: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    order: str = "fixed"


def thresholds(m: int, delta: float) -> tuple[float, ...]:
    """All levels a p-value of m plans is compared with, and 1."""
    return (*(delta / (m - i) for i in range(m)), 1.0)


def is_valid(case: Family) -> bool:
    """P(p_j <= g) <= g for every unsafe plan and every g of the grid."""
    cells, weights = np.array(case.cells), np.array(case.weights)
    grid = np.unique(cells)
    return all(
        float(weights[cells[:, j] <= g].sum()) <= g * (1.0 + 1e-9)
        for j, unsafe in enumerate(case.unsafe)
        if unsafe
        for g in grid
    )


def generate(rng: np.random.Generator) -> Family:
    """A random joint pmf on the thresholds, mixed with "nothing refuted" until it is valid."""
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
    """Delta minus the exact probability that an unsafe plan is promised."""
    error = sum(
        weight
        for cell, weight in zip(case.cells, case.weights, strict=True)
        if any(case.unsafe[j] for j in _promised(case, cell))
    )
    return case.delta - error


def _promised(case: Family, cell: tuple[float, ...]) -> list[int]:
    order = list(range(len(cell)))
    if case.order == "by p-value":
        order.sort(key=lambda j: cell[j])
    found = rejected([cell[j] for j in order], case.delta, control=case.control)
    return [order[i] for i in found]


def witness() -> Family:
    """Two unsafe plans that are never refuted together: the union bound is met."""
    delta = 0.1
    cells = ((delta / 2, 1.0), (1.0, delta / 2), (1.0, 1.0))
    return Family("bonferroni", delta, (True, True), cells, (delta / 2, delta / 2, 1.0 - delta))


def prove() -> ProofCheck:
    """Every number of plans up to 4, set of unsafe ones and pattern of p-values.

    A false promise implies p_j <= g for some pair (j, g) of a list whose levels g sum to delta:
    all unsafe plans at delta / m (Bonferroni) or delta / m_0 (Holm, m_0 unsafe ones), the first
    unsafe plan at delta (fixed sequence). Then P(false promise) <= sum P(p_j <= g) <= delta for
    every joint distribution. Only comparisons with thresholds count, so patterns are finite.
    """
    patterns = 0
    for m in range(1, _MOST + 1):
        delta = 0.12
        for unsafe in product((False, True), repeat=m):
            bad = [j for j in range(m) if unsafe[j]]
            for control in CONTROLS:
                level = {
                    "bonferroni": delta / m,
                    "holm": delta / max(len(bad), 1),
                    "fixed-sequence": delta,
                }[control]
                watched = bad[:1] if control == "fixed-sequence" else bad
                for cell in product(thresholds(m, delta), repeat=m):
                    false = any(unsafe[j] for j in rejected(cell, delta, control=control))
                    if false and not any(cell[j] <= level for j in watched):
                        return ProofCheck(False, f"{control} fails at p = {cell}, unsafe {unsafe}")
                    patterns += 1
    return ProofCheck(True, f"{patterns} patterns of p-values, any joint distribution on them")


def pooled() -> Counterexample:
    """p-values that are too small, as question-level ones are."""
    case = replace(witness(), weights=(0.2, 0.2, 0.6))
    return Counterexample(
        case,
        "p-values that treat questions as images fall below delta/2 with 20 % each: an unsafe "
        "plan is promised 40 % of the time at a nominal 10 %",
    )


def sorted_sequence() -> Counterexample:
    """A sequence that starts with the smallest p-value."""
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
        "a sequence ordered by the p-values themselves promises an unsafe plan 20 % of the time "
        "at a nominal 10 %",
    )


STATEMENT = Statement(
    id="S11c",
    title="many plans, one promise",
    setting="m plans with one p-value each, dependent in any way; delta in (0, 1)",
    claim="P(any promised plan is unsafe) <= delta under Bonferroni, Holm and fixed sequences",
    source=(
        "Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052, Theorem 1; Holm 1979; "
        "Maurer et al. 1995"
    ),
    evidence="exhaustive",
    domain=f"every pattern of p-values of up to {_MOST} plans; all joint distributions on them",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            name="valid p-values",
            text="P(p_j <= g) <= g wherever plan j is unsafe",
            holds=is_valid,
            counterexample=pooled,
        ),
        Hypothesis(
            name="order fixed beforehand",
            text="the order of a fixed sequence does not depend on the p-values",
            holds=lambda case: case.order == "fixed" or case.control != "fixed-sequence",
            counterexample=sorted_sequence,
        ),
    ),
    superfluous=("independence of the p-values: the union bound needs none",),
    proof=prove,
)
