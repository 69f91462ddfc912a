"""Building blocks of proofs: Shannon-type claims and inequalities of one variable.

A proof takes the formulas of its statement as its argument. `about` compares their relation and the
side that names what they are about with the definition; the proof derives the other side and
compares it. So a formula altered on either side or in its relation is not proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import sympy as sp

from theory.formula import Formula, Formulas
from theory.shannon import prove
from theory.statement import ProofCheck

Proof = Callable[[Formulas], ProofCheck]


def about(definitions: Mapping[str, Formula]) -> Callable[[Proof], Proof]:
    """Let a proof refuse formulas that are not about what its statement defines.

    Args:
        definitions: by name of the formula, its relation and the side that names what it is about;
            None is the side that the proof derives.
    """

    def guard(proof: Proof) -> Proof:
        @wraps(proof)
        def guarded(claim: Formulas) -> ProofCheck:
            for name, definition in definitions.items():
                if name not in claim:
                    return ProofCheck(False, f"the claim has no formula '{name}'")
                if not claim[name].states(definition):
                    return ProofCheck(
                        False, f"{name}: {claim[name]} is not what the proof is about"
                    )
            return proof(claim)

        return guarded

    return guard


def collect(checks: Mapping[str, bool], by: str) -> ProofCheck:
    """Combine named checks; the detail lists the failed checks, or all if none failed."""
    failed = [name for name, passed in checks.items() if not passed]
    if failed:
        return ProofCheck(False, f"{by} does not prove: {'; '.join(failed)}")
    return ProofCheck(True, f"{by}: {'; '.join(checks)}")


def both(*parts: ProofCheck) -> ProofCheck:
    """Combine the parts of a proof."""
    failed = [part for part in parts if not part.proved]
    return ProofCheck(not failed, ". ".join(part.detail for part in failed or parts))


def shannon(claims: Formulas) -> ProofCheck:
    """Prove each `EntropyFormula` for all random variables; other formulas are left out."""
    entropic = [c for c in claims.values() if not isinstance(c, Formula)]
    return collect({str(c): prove(c.text, given=c.given).proved for c in entropic}, "shannon-lp")


def gibbs() -> ProofCheck:
    """Prove x - 1 - log x >= 0, which implies H <= log N for N values (Gibbs' inequality).

    The function is convex with minimum 0 at x = 1. For x = q/p it gives sum p log(p/q) >= 0, and
    for q uniform on N values H(p) <= log N.
    """
    x = sp.Symbol("x", positive=True)
    gap = x - 1 - sp.log(x)
    return collect(
        {
            "x - 1 - log x is convex": sp.diff(gap, x, 2).is_positive is True,
            "its derivative is 0 at 1": sp.diff(gap, x).subs(x, 1) == 0,
            "its value is 0 at 1": gap.subs(x, 1) == 0,
        },
        "sympy",
    )


def at_a_point(expression: Any) -> complex | None:
    """Value at fixed distinct points in (0, 1), or integers from 2 on; None where undefined."""
    symbols = sorted(expression.free_symbols, key=str)
    point = {
        symbol: sp.Integer(2 + i) if symbol.is_integer else sp.Rational(2 * i + 3, 5 * i + 11)
        for i, symbol in enumerate(symbols)
    }
    try:
        return complex(expression.evalf(30, subs=point))
    except TypeError:
        return None


def is_zero(expression: Any) -> bool:
    """Whether SymPy simplifies an expression to 0; a value other than 0 at a point excludes it."""
    expression = sp.sympify(expression)
    value = at_a_point(expression)
    if value is not None and abs(value) > 1e-12:
        return False
    expanded = sp.expand_log(sp.expand(expression), force=True)
    return bool(sp.simplify(expanded) == 0 or sp.simplify(expression) == 0)


def is_nonnegative(expression: Any) -> bool:
    """Whether SymPy shows an expression to be >= 0 for all values that its symbols may take."""
    expression = sp.sympify(expression)
    value = at_a_point(expression)
    if value is not None and value.real < -1e-12:
        return False
    return any(
        form.is_nonnegative is True
        for form in (expression, sp.factor(expression), sp.expand(expression))
    ) or is_zero(expression)


def sign_between(expression: Any, variable: sp.Symbol, low: Any, high: Any) -> int:
    """1 if an expression is >= 0 on (low, high), -1 if <= 0, 0 if SymPy shows neither.

    The variable is replaced by (low + high r)/(1 + r), or low + r for an infinite end, with r > 0.
    """
    r = sp.Symbol("r_", positive=True)
    inside = low + r if high == sp.oo else (low + high * r) / (1 + r)
    moved = sp.factor(expression.subs(variable, inside))
    if is_nonnegative(moved):
        return 1
    return -1 if is_nonnegative(-moved) else 0


def nonnegative(gap: Any, variable: sp.Symbol, low: Any, high: Any) -> bool:
    """Whether gap >= 0 on (low, high), from its curvature and its ends.

    A concave gap is nonnegative if its limits at both ends are. A convex gap is nonnegative if it
    is at an end, and does not fall from there into the interval.
    """
    for share in (sp.Rational(1, 7), sp.Rational(4, 5)):
        value = at_a_point(gap.subs(variable, low + share * (high - low)))
        if value is not None and value.real < -1e-12:
            return False
    curvature = sign_between(sp.diff(gap, variable, 2), variable, low, high)
    ends = [sp.limit(gap, variable, end, side) for end, side in ((low, "+"), (high, "-"))]
    above = [is_nonnegative(sp.simplify(end)) for end in ends]
    if curvature == -1 or is_zero(sp.diff(gap, variable, 2)):
        return all(above)
    slope = sp.diff(gap, variable)
    rises = is_nonnegative(sp.simplify(sp.limit(slope, variable, low, "+")))
    falls = is_nonnegative(-sp.simplify(sp.limit(slope, variable, high, "-")))
    return curvature == 1 and ((above[0] and rises) or (above[1] and falls))


def increases_until(expression: sp.Expr, variable: sp.Symbol, end: sp.Expr) -> bool:
    """Whether an expression is concave on (0, 1) and stationary at `end`: it increases up to it."""
    slope = sp.diff(expression, variable)
    curvature = sp.factor(sp.together(sp.diff(slope, variable) * variable * (1 - variable)))
    slope_at_end = sp.simplify(sp.expand_log(slope.subs(variable, end), force=True))
    return bool(curvature.is_negative and slope_at_end == 0)
