"""The elemental inequalities: every Shannon-type inequality is a nonnegative sum of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from theory.shannon.expression import Relation, joint, mutual


def elementals(variables: Sequence[str]) -> tuple[Relation, ...]:
    """H(X_i | all others) >= 0 and I(X_i; X_j | X_K) >= 0 for all i < j and K without them.

    There are n + C(n, 2) 2^(n-2) of them for n variables, and no fewer would do.

    Source:
        Yeung 1997, "A framework for linear information inequalities", Eq. 12 and 13.

    Example:
        >>> [relation.text for relation in elementals(["X", "Y"])]
        ['H(X|Y) >= 0', 'H(Y|X) >= 0', 'I(X;Y) >= 0']
    """
    found = []
    for name in variables:
        others = [other for other in variables if other != name]
        condition = f"|{','.join(others)}" if others else ""
        found.append(Relation(f"H({name}{condition}) >= 0", joint([name], others), False))
    for first, second in combinations(variables, 2):
        others = [other for other in variables if other not in (first, second)]
        for size in range(len(others) + 1):
            for given in combinations(others, size):
                condition = f"|{','.join(given)}" if given else ""
                text = f"I({first};{second}{condition}) >= 0"
                found.append(Relation(text, mutual([[first], [second]], given), False))
    return tuple(found)
