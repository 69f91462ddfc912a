"""Exact certificates: a linear combination that proves, or a point that excludes a proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from theory.shannon.elemental import elementals
from theory.shannon.expression import Combination, Relation, Subset, add, show

#: Up to this number of variables every rational point of the cone is, scaled, an entropy vector.
ENTROPIC_UP_TO = 3


@dataclass(frozen=True)
class Step:
    """One summand of a certificate: a valid relation times a rational number."""

    multiplier: Fraction
    relation: Relation

    def __str__(self) -> str:
        return f"{self.multiplier} x  [{self.relation.text}]"


@dataclass(frozen=True)
class ShannonCertificate:
    """Proof of `target` >= 0 as a sum of valid relations.

    Attributes:
        target: linear combination of entropies.
        elementals: elemental inequalities with positive multipliers.
        constraints: given relations, with positive multipliers for inequalities and multipliers
            of any sign for equalities.

    Example:
        >>> from theory import prove
        >>> print(prove("I(X;Z) <= I(X;Y)", given="X->Y->Z").certificate)
        H(Y) - H(Z) - H(X,Y) + H(X,Z) is the sum of
          1 x  [I(X;Y|Z) >= 0]
         -1 x  [X->Y->Z]  (0 = -H(Y) + H(X,Y) + H(Y,Z) - H(X,Y,Z))
    """

    target: Combination
    elementals: tuple[Step, ...]
    constraints: tuple[Step, ...]

    def check(self) -> bool:
        """Whether all steps are valid and sum exactly to the target; no floats are used."""
        steps = (*self.elementals, *self.constraints)
        names = sorted({name for step in steps for name in step.relation.variables})
        known = {frozenset(relation.difference.items()) for relation in elementals(names)}
        return (
            all(step.multiplier > 0 for step in self.elementals)
            and all(_items(step.relation) in known for step in self.elementals)
            and all(s.multiplier > 0 or s.relation.equality for s in self.constraints)
            and add(*((step.multiplier, step.relation.difference) for step in steps))
            == dict(self.target)
        )

    def __str__(self) -> str:
        lines = [f"{show(self.target)} is the sum of"]
        lines += [f"  {step}" for step in self.elementals]
        for step in self.constraints:
            sign = "=" if step.relation.equality else "<="
            lines.append(f" {step}  (0 {sign} {show(step.relation.difference)})")
        return "\n".join(lines if len(lines) > 1 else [f"{show(self.target)} is 0"])


@dataclass(frozen=True)
class Witness:
    """A point that satisfies Shannon's inequalities and violates the claim: no Shannon-type proof.

    The point satisfies all elemental inequalities and all given relations. For up to three
    variables it refutes the claim: a rational point is, up to a factor, the entropy vector of
    independent fair bits and a parity, since all 8 extreme rays are of this kind. For four or more
    variables it need not belong to random variables: there are valid inequalities that Shannon's
    inequalities do not imply (Zhang & Yeung 1998), so the claim stays undecided.

    Attributes:
        entropies: exact value of each joint entropy.
        value: value of the claim's difference at this point; negative, or nonzero for an
            equality.

    Example:
        >>> from theory import prove
        >>> witness = prove("H(X) <= I(X;Y)").witness
        >>> print(witness)
        H(X) = 1, H(Y) = 0, H(X,Y) = 1: the difference is -1
        >>> witness.refutes
        True
    """

    entropies: Mapping[Subset, Fraction]
    value: Fraction

    @property
    def refutes(self) -> bool:
        """Whether the claim is false for some random variables; if not, it stays undecided."""
        return len(frozenset().union(*self.entropies)) <= ENTROPIC_UP_TO

    def check(self, claim: Relation, constraints: tuple[Relation, ...]) -> bool:
        """Whether the point lies in the cone, satisfies the constraints and violates the claim."""
        names = sorted(frozenset().union(*self.entropies))
        at = self.evaluate
        return (
            all(at(relation.difference) >= 0 for relation in elementals(names))
            and all(at(c.difference) >= 0 for c in constraints)
            and all(at(c.difference) == 0 for c in constraints if c.equality)
            and at(claim.difference) == self.value
            and (self.value != 0 if claim.equality else self.value < 0)
        )

    def evaluate(self, combination: Combination) -> Fraction:
        """Value of a linear combination of entropies at this point."""
        terms = (weight * self.entropies[subset] for subset, weight in combination.items())
        return sum(terms, Fraction(0))

    def __str__(self) -> str:
        ordered = sorted(self.entropies, key=lambda s: (len(s), sorted(s)))
        values = ", ".join(f"H({','.join(sorted(s))}) = {self.entropies[s]}" for s in ordered)
        return f"{values}: the difference is {self.value}"


def _items(relation: Relation) -> frozenset[tuple[Subset, Fraction]]:
    """Coefficients of a relation as a hashable set."""
    return frozenset(relation.difference.items())
