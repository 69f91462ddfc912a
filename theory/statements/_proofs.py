"""Building blocks of proofs: Shannon-type claims and inequalities of one variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp

from theory.shannon import prove
from theory.statement import ProofCheck


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


def shannon(*claims: tuple[str, str | Sequence[str]]) -> ProofCheck:
    """Prove each (claim, given) for all random variables."""
    proved = {}
    for claim, given in claims:
        constraints = given if isinstance(given, str) else " and ".join(given)
        name = f"{claim} [{constraints}]" if constraints else claim
        proved[name] = prove(claim, given=given).proved
    return collect(proved, "shannon-lp")


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


def increases_until(expression: sp.Expr, variable: sp.Symbol, end: sp.Expr) -> bool:
    """Whether an expression is concave on (0, 1) and stationary at `end`: it increases up to it."""
    slope = sp.diff(expression, variable)
    curvature = sp.factor(sp.together(sp.diff(slope, variable) * variable * (1 - variable)))
    slope_at_end = sp.simplify(sp.expand_log(slope.subs(variable, end), force=True))
    return bool(curvature == -1 and slope_at_end == 0)
