"""Certificates in exact arithmetic: a combination that proves, an entropy vector that refutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from theory.shannon.elemental import elementals
from theory.shannon.expression import Combination, Relation, Subset, add, show


@dataclass(frozen=True)
class Step:
    """One line of a certificate: a relation known to hold, times a rational number."""

    multiplier: Fraction
    relation: Relation

    def __str__(self) -> str:
        return f"{self.multiplier} x  [{self.relation.text}]"


@dataclass(frozen=True)
class ShannonCertificate:
    """`target` >= 0, written as a sum of relations that hold.

    Attributes:
        target: the combination of entropies that is >= 0.
        elementals: elemental inequalities with positive multipliers.
        constraints: what was given; multipliers of inequalities are positive, those of
            equalities have any sign.

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
        """Whether the sum is the target exactly and every step may be used; no floats."""
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
    """A point of the cone on which the claim fails: no Shannon-type proof can exist.

    It meets all elemental inequalities and everything that was given. It need not be the
    entropy vector of random variables: for four and more variables there are true inequalities
    that Shannon's do not imply (Zhang & Yeung 1998).

    Attributes:
        entropies: the value of each joint entropy, exact.
        value: of the claim's difference there; negative (or, for an equality, not 0).

    Example:
        >>> from theory import prove
        >>> print(prove("H(X) <= I(X;Y)").witness)
        H(X) = 1, H(Y) = 0, H(X,Y) = 1: the difference is -1
    """

    entropies: Mapping[Subset, Fraction]
    value: Fraction

    def check(self, claim: Relation, constraints: tuple[Relation, ...]) -> bool:
        """Whether it lies in the cone, meets what was given, and breaks the claim; no floats."""
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
        """The value of a combination of entropies at this point."""
        terms = (weight * self.entropies[subset] for subset, weight in combination.items())
        return sum(terms, Fraction(0))

    def __str__(self) -> str:
        ordered = sorted(self.entropies, key=lambda s: (len(s), sorted(s)))
        values = ", ".join(f"H({','.join(sorted(s))}) = {self.entropies[s]}" for s in ordered)
        return f"{values}: the difference is {self.value}"


def _items(relation: Relation) -> frozenset[tuple[Subset, Fraction]]:
    return frozenset(relation.difference.items())
