"""Elemental inequalities, whose nonnegative combinations are the Shannon-type inequalities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from theory._validate import check_texts
from theory.shannon.expression import Relation, joint, mutual


def elementals(variables: Sequence[str]) -> tuple[Relation, ...]:
    """H(X_i | all others) >= 0, and I(X_i; X_j | X_K) >= 0 for i < j and K without i and j.

    For n variables these are n + C(n, 2) 2^(n-2) inequalities; none of them is redundant.

    Raises:
        TypeError: names that are no texts.

    Source:
        Yeung 1997, "A framework for linear information inequalities", Eq. 12 and 13.

    Example:
        >>> [relation.text for relation in elementals(["X", "Y"])]
        ['H(X|Y) >= 0', 'H(Y|X) >= 0', 'I(X;Y) >= 0']
    """
    if not isinstance(variables, str):  # a text is one variable per letter
        check_texts(variables, "variables", '"X"')
    relations = []
    for name in variables:
        others = [other for other in variables if other != name]
        condition = f"|{','.join(others)}" if others else ""
        relations.append(Relation(f"H({name}{condition}) >= 0", joint([name], given=others), False))
    for first, second in combinations(variables, 2):
        others = [other for other in variables if other not in (first, second)]
        for size in range(len(others) + 1):
            for given in combinations(others, size):
                condition = f"|{','.join(given)}" if given else ""
                text = f"I({first};{second}{condition}) >= 0"
                relations.append(Relation(text, mutual([[first], [second]], given=given), False))
    return tuple(relations)
