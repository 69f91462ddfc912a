"""Formulas with one thing changed, so that they are false: a side, an exponent, the relation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import sympy as sp

from theory.formula import EntropyFormula, Formula

UNKNOWN = sp.Symbol("unknown")


def raised(expression: Any) -> Any:
    """The expression with the exponent of its first power raised by one, else its square."""
    powers = sorted((p for p in expression.atoms(sp.Pow) if p.exp != -1), key=str)
    if not powers:
        return expression**2
    return expression.xreplace({powers[0]: powers[0].base ** (powers[0].exp + 1)})


def altered(formula: Formula | EntropyFormula) -> Iterator[tuple[str, Any]]:
    """(what was changed, formula) for every alteration; each makes the formula false."""
    if isinstance(formula, EntropyFormula):
        yield from altered_text(formula)
        return
    yield from altered_names(formula)
    named = isinstance(formula.right, sp.Symbol) and not isinstance(formula.left, sp.Symbol)
    side = "left" if named and formula.relation != "=" else "right"
    claimed = sp.sympify(getattr(formula, side))

    def with_(expression: Any) -> Formula:
        return replace(formula, **{side: expression})

    if claimed == 0:
        yield "0 becomes 1", with_(sp.Integer(1))
        return
    tighter = 2 if side == "left" else sp.Rational(1, 2)
    yield f"factor {tighter}", with_(tighter * claimed)
    yield "sign", with_(-claimed if side == "right" else claimed + 1)
    if formula.relation == "=":
        yield "factor 3", with_(3 * claimed)
        yield "one more", with_(claimed + 1)
        if claimed != 1:
            yield "exponent", with_(raised(claimed))
        yield "inequality in place of equality", replace(formula, relation="<=")


def altered_names(formula: Formula) -> Iterator[tuple[str, Formula]]:
    """Alterations of the relation, and of the left side where a proof might leave it unread."""
    left, right = map(sp.sympify, (formula.left, formula.right))
    yield "left, factor 2", replace(formula, left=2 * left)
    yield "left, one more", replace(formula, left=left + 1)
    yield "left, unknown symbol", replace(formula, left=UNKNOWN)
    yield "right, unknown symbol", replace(formula, right=UNKNOWN)
    if formula.relation != "<":
        yield "strict", replace(formula, relation="<")
    if formula.relation == "=":
        yield "left, sign", replace(formula, left=-left)
    else:
        yield "sides swapped", replace(formula, left=right, right=left)
        yield "equality in place of inequality", replace(formula, relation="=")


def altered_text(formula: EntropyFormula) -> Iterator[tuple[str, EntropyFormula]]:
    """Alterations of a Shannon-type claim."""
    left, relation, right = re.split(r"\s(<=|>=|=)\s", formula.text)
    if right == "0":
        reversed_ = "<=" if relation == ">=" else ">="
        if relation == "=":
            yield "one more entropy", replace(formula, text=f"{left} = H(Y)")
        else:
            yield "direction", replace(formula, text=f"{left} {reversed_} 0")
        return
    yield "sign", replace(formula, text=f"{left} {relation} -1 ({right})".replace("-1", "-"))
    yield "factor 1/2", replace(formula, text=f"{left} {relation} 1/2 ({right})")
    if relation == "=":
        yield "factor 2", replace(formula, text=f"{left} = 2 ({right})")
