"""Proves Shannon-type inequalities for all distributions, or shows that no such proof exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from theory.shannon.certificate import ShannonCertificate, Step, Witness
from theory.shannon.constraints import parse_constraints
from theory.shannon.elemental import elementals
from theory.shannon.expression import (
    Combination,
    Relation,
    Subset,
    add,
    parse_relation,
    show,
)
from theory.shannon.rational import rounded, solve

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: With n variables there are 2^n - 1 joint entropies and n + C(n, 2) 2^(n-2) inequalities.
MAX_VARIABLES = 10


@dataclass(frozen=True)
class Proof:
    """What the prover found out about one claim.

    Attributes:
        claim: as it was written.
        given: what was assumed, as written.
        proved: whether Shannon's inequalities imply the claim, for all random variables.
        certificate: if proved, the sum that shows it; checked in exact arithmetic.
        converse: for an equality that is proved, the certificate of the other direction.
        witness: if not, a point of the cone where the claim fails; checked in exact arithmetic.

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
                f"witness of the cone: {self.witness}"
            )
        parts = [f"proved: {self.claim}{given}", str(self.certificate)]
        return "\n".join([*parts, str(self.converse)] if self.converse else parts)


def prove(claim: str, given: str | Sequence[str] = ()) -> Proof:
    """Prove a linear inequality or equality between Shannon quantities, for all distributions.

    The claim holds for all random variables if it is a nonnegative combination of elemental
    inequalities plus a combination of what is given. A linear program looks for one; its
    solution is rounded to rationals and checked in exact arithmetic, so nothing rests on
    floats. Where there is none, the program's other side gives a point of the cone on which
    the claim fails, checked likewise.

    Args:
        claim: such as "I(X;Z) <= I(X;Y)"; see `theory.shannon.parse_relation`.
        given: Markov chains "X -> Y -> Z", functions "Z = f(X,Y)", independence "X _|_ Y | Z",
            relations "I(X;Y) = 0"; one text or several; see `theory.shannon.parse_constraints`.

    Returns:
        Proof. The unit of entropy plays no role.

    Raises:
        ExpressionError: text that is not understood; the message points at the place.
        ValueError: too many variables.
        ArithmeticError: the linear program gave nothing that could be made exact.

    Source:
        Yeung 1997, "A framework for linear information inequalities" (ITIP).

    Example:
        >>> bool(prove("I(X;Z) <= I(X;Y)", given="X->Y->Z"))
        True
        >>> proof = prove("I(X;Z) <= I(X;Y)")
        >>> proof.proved, proof.witness.value < 0
        (False, True)
    """
    relation = parse_relation(claim)
    constraints = parse_constraints(given)
    names = sorted(relation.variables.union(*(c.variables for c in constraints)))
    if len(names) > MAX_VARIABLES:
        raise ValueError(
            f"{len(names)} variables ({', '.join(names)}) have {2 ** len(names) - 1} joint "
            f"entropies; at most {MAX_VARIABLES} variables are supported. Join variables that "
            "always occur together into one"
        )
    if not relation.difference:  # both sides are the same
        nothing = ShannonCertificate({}, (), ())
        return Proof(relation.text, tuple(c.text for c in constraints), True, nothing, None, None)
    known = (*elementals(names), *constraints)
    texts = tuple(c.text for c in constraints)
    directions = [relation.difference]
    if relation.equality:
        directions.append(add((-1, relation.difference)))
    found: list[ShannonCertificate] = []
    for target in directions:
        certificate = _certify(target, known, names)
        if certificate is None:
            witness = _refute(target, relation, known, names)
            return Proof(relation.text, texts, False, None, None, witness)
        found.append(certificate)
    converse = found[1] if relation.equality else None
    return Proof(relation.text, texts, True, found[0], converse, None)


def _certify(
    target: Combination, known: Sequence[Relation], names: Sequence[str]
) -> ShannonCertificate | None:
    """The dual program: multipliers with sum = target, as few and small as possible."""
    from scipy.optimize import linprog  # slow to import

    subsets = _subsets(names)
    matrix = _matrix([relation.difference for relation in known], subsets)
    free = [relation.equality for relation in known]
    solution = linprog(
        np.concatenate([np.ones(len(known)), np.ones(sum(free))]),
        A_eq=_stack(matrix, free).T,
        b_eq=_vector(target, subsets),
        bounds=(0, None),
        method="highs-ds",
    )
    if solution.status == 2:  # infeasible: not Shannon-type
        return None
    if solution.status != 0:
        raise ArithmeticError(f"the linear program for {show(target)} >= 0: {solution.message}")
    values = np.array(solution.x[: len(known)])
    values[np.flatnonzero(free)] -= solution.x[len(known) :]
    support = [i for i in range(len(known)) if abs(values[i]) > 1e-9]
    columns = [known[i].difference for i in support]
    for multipliers in (rounded([values[i] for i in support]), solve(columns, target)):
        if multipliers is None:
            continue
        pairs = zip(multipliers, support, strict=True)
        steps = [(i, Step(m, known[i])) for m, i in pairs if m]
        count = len(elementals(names))
        certificate = ShannonCertificate(
            target,
            tuple(step for i, step in steps if i < count),
            tuple(step for i, step in steps if i >= count),
        )
        if certificate.check():
            return certificate
    raise ArithmeticError(f"no exact certificate for {show(target)} >= 0 near the float one")


def _refute(
    target: Combination, claim: Relation, known: Sequence[Relation], names: Sequence[str]
) -> Witness:
    """The primal program: the most negative point of the cone with H(all) <= 1."""
    from scipy.optimize import linprog  # slow to import
    from scipy.sparse import csr_array

    subsets = _subsets(names)
    matrix = _matrix([relation.difference for relation in known], subsets)
    equal = np.array([relation.equality for relation in known])
    whole = csr_array(_vector({frozenset(names): Fraction(1)}, subsets)[None, :])
    solution = linprog(
        _vector(target, subsets),
        A_ub=_concatenate([-matrix[~equal], whole]),
        b_ub=np.concatenate([np.zeros(int((~equal).sum())), [1.0]]),
        A_eq=matrix[equal] if equal.any() else None,
        b_eq=np.zeros(int(equal.sum())) if equal.any() else None,
        bounds=(None, None),
        method="highs-ds",
    )
    if solution.status != 0:
        raise ArithmeticError(f"the linear program for {show(target)} < 0: {solution.message}")
    constraints = tuple(known[len(elementals(names)) :])
    for values in (rounded(solution.x), _exact_vertex(solution.x, known, subsets)):
        if values is None:
            continue
        scale = np.lcm.reduce([value.denominator for value in values])
        entropies = {s: value * int(scale) for s, value in zip(subsets, values, strict=True)}
        value = Witness(entropies, Fraction(0)).evaluate(claim.difference)
        witness = Witness(entropies, value)
        if witness.check(claim, constraints):
            return witness
    raise ArithmeticError(f"no exact witness against {show(target)} >= 0 near the float one")


def _exact_vertex(
    point: NDArray[np.float64], known: Sequence[Relation], subsets: Sequence[Subset]
) -> list[Fraction] | None:
    """The exact point at which the relations that are tight at a float point are equalities."""
    at = dict(zip(subsets, point, strict=True))
    tight = [
        relation.difference
        for relation in known
        if abs(sum(float(w) * at[s] for s, w in relation.difference.items())) < 1e-7
    ]
    # Transposed: unknowns are the entropies, one equation for each tight relation, and H(all) = 1.
    equations = [*tight, {subsets[-1]: Fraction(1)}]
    rows = [frozenset([str(k)]) for k in range(len(equations))]
    columns = [
        {row: e[subset] for row, e in zip(rows, equations, strict=True) if subset in e}
        for subset in subsets
    ]
    return solve(columns, {rows[-1]: Fraction(1)})


def _subsets(names: Sequence[str]) -> list[Subset]:
    sizes = range(1, len(names) + 1)
    return [frozenset(chosen) for size in sizes for chosen in combinations(names, size)]


def _vector(combination: Combination, subsets: Sequence[Subset]) -> NDArray[np.float64]:
    return np.array([float(combination.get(subset, 0)) for subset in subsets])


def _matrix(combinations_: Sequence[Combination], subsets: Sequence[Subset]) -> csr_array:
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
    """The rows, and those of equalities once more negated: their multipliers have any sign."""
    return _concatenate([matrix, -matrix[np.flatnonzero(free)]]) if any(free) else matrix


def _concatenate(parts: Sequence[csr_array]) -> csr_array:
    from scipy.sparse import csr_array, vstack

    return csr_array(vstack(parts))
