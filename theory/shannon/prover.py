"""Proves Shannon-type inequalities for all distributions, or shows that they have no proof."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from theory._validate import check_text
from theory.shannon.certificate import ShannonCertificate, Step, Witness
from theory.shannon.constraints import parse_constraints
from theory.shannon.elemental import elementals
from theory.shannon.expression import (
    MAX_GROUPS,
    Combination,
    Relation,
    Subset,
    add,
    parse_relation,
    show,
)
from theory.shannon.rational import rounded, separate, solve

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: n variables have 2^n - 1 joint entropies and n + C(n, 2) 2^(n-2) elemental inequalities.
MAX_VARIABLES = MAX_GROUPS

#: Largest numerator and denominator of a coefficient.
MAX_COEFFICIENT = 10**9

#: Most variables for which a linear program that floats do not settle is solved on fractions.
EXACT_UP_TO = 5


@dataclass(frozen=True)
class Proof:
    """Result of trying to prove one claim.

    Attributes:
        claim: the claim as written.
        given: the constraints as written.
        proved: whether Shannon's inequalities and the constraints imply the claim.
        certificate: proof of the claim, checked in exact arithmetic; None if not proved.
        converse: proof of the other direction of an equality; None for an inequality.
        witness: point that satisfies Shannon's inequalities and violates the claim, checked in
            exact arithmetic; None if proved. It refutes the claim only if `witness.refutes`.

    Example:
        >>> proof = prove("H(X,Y) <= H(X) + H(Y)")
        >>> proof.proved, proof.certificate.check(), proof.witness
        (True, True, None)
    """

    claim: str
    given: tuple[str, ...]
    proved: bool
    certificate: ShannonCertificate | None
    converse: ShannonCertificate | None
    witness: Witness | None

    def __bool__(self) -> bool:
        return self.proved

    def __str__(self) -> str:
        given = f", given {' and '.join(self.given)}" if self.given else ""
        if self.witness is not None:
            return (
                f"not provable by Shannon inequalities: {self.claim}{given}\n"
                f"witness of the cone: {self.witness}\n"
                + (
                    "The claim is false: random variables have these entropies, up to a factor."
                    if self.witness.refutes
                    else "The claim is undecided: random variables need not have these entropies."
                )
            )
        parts = [f"proved: {self.claim}{given}", str(self.certificate)]
        return "\n".join([*parts, str(self.converse)] if self.converse else parts)


def prove(claim: str, *, given: str | Sequence[str] = ()) -> Proof:
    """Prove a linear inequality or equality between Shannon quantities, for all distributions.

    The claim holds for all random variables if it is a nonnegative combination of elemental
    inequalities plus a combination of the given relations. A linear program searches for such a
    combination. Its solution is rounded to rationals and checked in exact arithmetic; up to five
    variables, what floats do not settle is solved on fractions. If there is
    no combination, the dual program gives a point that satisfies Shannon's inequalities and
    violates the claim, also checked in exact arithmetic. Up to three variables it refutes the
    claim; beyond, the claim may still be true (`Witness.refutes`).

    Args:
        claim: such as "I(X;Z) <= I(X;Y)"; see `theory.shannon.parse_relation`.
        given: Markov chains "X -> Y -> Z", functions "Z = f(X,Y)", independence "X _|_ Y | Z",
            relations "I(X;Y) = 0"; one string or several; see `theory.shannon.parse_constraints`.

    Returns:
        Proof. It does not depend on the unit of entropy.

    Raises:
        ExpressionError: a text cannot be parsed; the message marks the position.
        TypeError: claim or given are not texts.
        ValueError: more than `MAX_VARIABLES` variables, or coefficients beyond 10^9.
        ArithmeticError: no solution of the linear program could be made exact (more than five
            variables).

    Source:
        Yeung 1997, "A framework for linear information inequalities" (ITIP).

    Example:
        >>> bool(prove("I(X;Z) <= I(X;Y)", given="X->Y->Z"))
        True
        >>> proof = prove("I(X;Z) <= I(X;Y)")
        >>> proof.proved, proof.witness.value < 0
        (False, True)
    """
    relation = parse_relation(check_text(claim, "claim", '"I(X;Z) <= I(X;Y)"'))
    constraints = parse_constraints(given)
    names = sorted(relation.variables.union(*(c.variables for c in constraints)))
    if len(names) > MAX_VARIABLES:
        raise ValueError(
            f"{len(names)} variables ({', '.join(names)}) have {2 ** len(names) - 1} joint "
            f"entropies; at most {MAX_VARIABLES} variables are supported. Join variables that "
            "always occur together into one"
        )
    for known_relation in (relation, *constraints):
        _check_coefficients(known_relation)
    if not relation.difference:  # both sides are identical
        trivial = ShannonCertificate({}, (), ())
        return Proof(relation.text, tuple(c.text for c in constraints), True, trivial, None, None)
    known = (*elementals(names), *constraints)
    texts = tuple(c.text for c in constraints)
    directions = [relation.difference]
    if relation.equality:
        directions.append(add((-1, relation.difference)))
    certificates: list[ShannonCertificate] = []
    for target in directions:
        found = _decide(target, relation, known, names)
        if isinstance(found, Witness):
            return Proof(relation.text, texts, False, None, None, found)
        certificates.append(found)
    converse = certificates[1] if relation.equality else None
    return Proof(relation.text, texts, True, certificates[0], converse, None)


def _check_coefficients(relation: Relation) -> None:
    """Raise ValueError if a coefficient is too large or too fine for a linear program."""
    for weight in relation.difference.values():
        if max(abs(weight.numerator), weight.denominator) > MAX_COEFFICIENT:
            raise ValueError(
                f"the coefficients in '{relation.text[:60]}' must have numerators and denominators "
                f"up to {MAX_COEFFICIENT}"
            )


def _decide(
    target: Combination, claim: Relation, known: Sequence[Relation], names: Sequence[str]
) -> ShannonCertificate | Witness:
    """Certificate of target >= 0, or a witness against it, by floats or else exactly."""
    try:
        return _certify(target, known, names) or _refute(target, claim, known, names)
    except ArithmeticError:  # coefficients that differ by more than the tolerance of floats
        if len(names) > EXACT_UP_TO:
            raise
    columns = [relation.difference for relation in known]
    free = [i for i, relation in enumerate(known) if relation.equality]
    found, point = separate([*columns, *(add((-1, columns[i])) for i in free)], target)
    if point is not None:
        return _witness([point.get(s, Fraction(0)) for s in _subsets(names)], claim, names)
    values = list(found or [])
    for i, opposite in zip(free, values[len(known) :], strict=True):
        values[i] -= opposite
    return _certificate(target, list(enumerate(values[: len(known)])), known, names)


def _certificate(
    target: Combination,
    multipliers: Sequence[tuple[int, Fraction]],
    known: Sequence[Relation],
    names: Sequence[str],
) -> ShannonCertificate:
    """Certificate, not checked, of multipliers of numbered relations."""
    count = len(elementals(names))
    steps = [(i, Step(m, known[i])) for i, m in multipliers if m]
    return ShannonCertificate(
        target,
        tuple(step for i, step in steps if i < count),
        tuple(step for i, step in steps if i >= count),
    )


def _witness(values: Sequence[Fraction], claim: Relation, names: Sequence[str]) -> Witness:
    """Witness, not checked, of entropies scaled to whole numbers."""
    scale = math.lcm(*(value.denominator for value in values))
    entropies = {s: value * scale for s, value in zip(_subsets(names), values, strict=True)}
    return Witness(entropies, Witness(entropies, Fraction(0)).evaluate(claim.difference))


def _certify(
    target: Combination, known: Sequence[Relation], names: Sequence[str]
) -> ShannonCertificate | None:
    """Multipliers of known relations that sum to the target, by linear programming, or None."""
    from scipy.optimize import linprog  # slow to import

    subsets = _subsets(names)
    matrix = _matrix([relation.difference for relation in known], subsets)
    free = [relation.equality for relation in known]
    scale = float(max(abs(weight) for weight in target.values()))
    solution = linprog(
        np.concatenate([np.ones(len(known)), np.ones(sum(free))]),
        A_eq=_stack(matrix, free).T,
        b_eq=_vector(target, subsets) / scale,
        bounds=(0, None),
        method="highs-ds",
    )
    if solution.status == 2:  # infeasible: no Shannon-type proof
        return None
    if solution.status != 0:
        raise ArithmeticError(
            f"the linear program for {show(target)} >= 0 failed: {solution.message}"
        )
    values = np.array(solution.x[: len(known)])
    values[np.flatnonzero(free)] -= solution.x[len(known) :]
    support = [i for i in range(len(known)) if abs(values[i]) > 1e-9]
    columns = [known[i].difference for i in support]
    for multipliers in (rounded([scale * values[i] for i in support]), solve(columns, target)):
        if multipliers is None:
            continue
        pairs = list(zip(support, multipliers, strict=True))
        certificate = _certificate(target, pairs, known, names)
        if certificate.check():
            return certificate
    raise ArithmeticError(f"found no exact certificate for {show(target)} >= 0")


def _refute(
    target: Combination, claim: Relation, known: Sequence[Relation], names: Sequence[str]
) -> Witness:
    """Point of the cone with joint entropy <= 1 that minimises the target."""
    from scipy.optimize import linprog  # slow to import
    from scipy.sparse import csr_array

    subsets = _subsets(names)
    matrix = _matrix([relation.difference for relation in known], subsets)
    is_equality = np.array([relation.equality for relation in known])
    joint_entropy = csr_array(_vector({frozenset(names): Fraction(1)}, subsets)[None, :])
    goal = _vector(target, subsets)
    solution = linprog(
        goal / np.abs(goal).max(),
        A_ub=_concatenate([-matrix[~is_equality], joint_entropy]),
        b_ub=np.concatenate([np.zeros(int((~is_equality).sum())), [1.0]]),
        A_eq=matrix[is_equality] if is_equality.any() else None,
        b_eq=np.zeros(int(is_equality.sum())) if is_equality.any() else None,
        bounds=(None, None),
        method="highs-ds",
    )
    if solution.status != 0:
        raise ArithmeticError(
            f"the linear program for {show(target)} < 0 failed: {solution.message}"
        )
    constraints = tuple(known[len(elementals(names)) :])
    for values in (rounded(solution.x), _exact_vertex(solution.x, known, subsets)):
        if values is None:
            continue
        witness = _witness(values, claim, names)
        if witness.check(claim, constraints):
            return witness
    raise ArithmeticError(f"found no exact witness against {show(target)} >= 0")


def _exact_vertex(
    point: NDArray[np.float64], known: Sequence[Relation], subsets: Sequence[Subset]
) -> list[Fraction] | None:
    """Exact solution of the relations that are tight at a float point, with joint entropy 1."""
    at = dict(zip(subsets, point, strict=True))
    tight = [
        relation.difference
        for relation in known
        if abs(sum(float(w) * at[s] for s, w in relation.difference.items())) < 1e-7
    ]
    # Unknowns are the entropies; equations are the tight relations and joint entropy = 1.
    equations = [*tight, {subsets[-1]: Fraction(1)}]
    rows = [frozenset([str(k)]) for k in range(len(equations))]
    columns = [
        {row: e[subset] for row, e in zip(rows, equations, strict=True) if subset in e}
        for subset in subsets
    ]
    return solve(columns, {rows[-1]: Fraction(1)})


def _subsets(names: Sequence[str]) -> list[Subset]:
    """Nonempty subsets of the variables, smaller ones first."""
    sizes = range(1, len(names) + 1)
    return [frozenset(subset) for size in sizes for subset in combinations(names, size)]


def _vector(combination: Combination, subsets: Sequence[Subset]) -> NDArray[np.float64]:
    """Coefficients of a combination as floats."""
    return np.array([float(combination.get(subset, 0)) for subset in subsets])


def _matrix(combinations_: Sequence[Combination], subsets: Sequence[Subset]) -> csr_array:
    """Coefficients of several combinations, one row for each."""
    from scipy.sparse import csr_array

    position = {subset: j for j, subset in enumerate(subsets)}
    entries = [
        (i, position[subset], float(weight))
        for i, combination in enumerate(combinations_)
        for subset, weight in combination.items()
    ]
    rows, columns, weights = zip(*entries, strict=True)
    return csr_array((weights, (rows, columns)), shape=(len(combinations_), len(subsets)))


def _stack(matrix: csr_array, free: Sequence[bool]) -> csr_array:
    """The rows, followed by the negated rows of equalities, whose multipliers have any sign."""
    return _concatenate([matrix, -matrix[np.flatnonzero(free)]]) if any(free) else matrix


def _concatenate(parts: Sequence[csr_array]) -> csr_array:
    """Stack sparse matrices vertically."""
    from scipy.sparse import csr_array, vstack

    return csr_array(vstack(parts))
