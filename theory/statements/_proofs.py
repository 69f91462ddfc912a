"""Pieces that several proofs share: Shannon-type claims, and facts about one variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp

from theory.shannon import prove
from theory.statement import ProofCheck


def collect(checks: Mapping[str, bool], by: str) -> ProofCheck:
    """One check out of several; the detail names those that failed, or all of them."""
    failed = [name for name, passed in checks.items() if not passed]
    if failed:
        return ProofCheck(False, f"{by} does not show: {'; '.join(failed)}")
    return ProofCheck(True, f"{by}: {'; '.join(checks)}")


def both(*parts: ProofCheck) -> ProofCheck:
    """All parts of a proof as one."""
    failed = [part for part in parts if not part.proved]
    return ProofCheck(not failed, ". ".join(part.detail for part in failed or parts))


def shannon(*claims: tuple[str, str | Sequence[str]]) -> ProofCheck:
    """Each (claim, given) proved for all random variables, or what cannot be."""
    shown = {}
    for claim, given in claims:
        known = given if isinstance(given, str) else " and ".join(given)
        name = f"{claim} [{known}]" if known else claim
        shown[name] = prove(claim, given=given).proved
    return collect(shown, "shannon-lp")


def gibbs() -> ProofCheck:
    """Shows x - 1 - log x >= 0, with which H <= log N for N values (Gibbs' inequality).

    Convex with its minimum 0 at x = 1: with x = q/p it gives sum p log(p/q) >= 0, and q uniform
    on N values gives H(p) <= log N.
    """
    x = sp.Symbol("x", positive=True)
    gap = x - 1 - sp.log(x)
    return collect(
        {
            "x - 1 - log x is convex": sp.diff(gap, x, 2).is_positive is True,
            "flat at 1": sp.diff(gap, x).subs(x, 1) == 0,
            "and 0 there": gap.subs(x, 1) == 0,
        },
        "sympy",
    )


def rises_until(expression: sp.Expr, variable: sp.Symbol, end: sp.Expr) -> bool:
    """Whether an expression is concave on (0, 1) and flat at `end`: it rises up to there."""
    slope = sp.diff(expression, variable)
    curvature = sp.factor(sp.together(sp.diff(slope, variable) * variable * (1 - variable)))
    flat = sp.simplify(sp.expand_log(slope.subs(variable, end), force=True))
    return bool(curvature == -1 and flat == 0)
