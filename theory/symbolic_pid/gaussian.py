"""Closed-form PID of a scalar Gaussian target."""

from __future__ import annotations

from typing import Any

import sympy as sp

from theory.symbolic_pid.expressions import SymbolicPid


def gaussian_pid(yv: Any, yt: Any, vt: Any) -> SymbolicPid:
    """Atoms of three jointly Gaussian scalars from their correlations; MMI and BROJA coincide.

        redundant = min(I_V, I_T),  I_V = -log(1 - yv^2)/2,
        I_VT = log((1 - vt^2)/(1 - yv^2 - yt^2 - vt^2 + 2 yv yt vt))/2

    Args:
        yv: correlation of the target and the first source, number or expression.
        yt: correlation of the target and the second source.
        vt: correlation of the sources.

    Raises:
        ValueError: the correlation matrix is not positive definite.

    Source:
        Barrett 2015, arXiv 1411.2832, section III.

    Example:
        >>> r = sp.Symbol("r", real=True)
        >>> gaussian_pid(r, r, 0).unique_1
        0
    """
    a, b, c = (sp.sympify(x) for x in (yv, yt, vt))
    determinant = 1 - a**2 - b**2 - c**2 + 2 * a * b * c
    minors = (1 - a**2, 1 - b**2, 1 - c**2, determinant)
    if any(minor.is_number and not minor > 0 for minor in minors):
        raise ValueError(f"no three variables have correlations {yv}, {yt}, {vt}")
    i_v, i_t = (-sp.log(1 - x**2) / 2 for x in (a, b))
    i_vt = sp.log((1 - c**2) / determinant) / 2
    shared = sp.Min(i_v, i_t)
    return SymbolicPid(
        redundant=shared,
        unique_1=i_v - shared,
        unique_2=i_t - shared,
        synergistic=i_vt - i_v - i_t + shared,
        measure="broja",
        parameters=tuple(sorted(determinant.free_symbols, key=str)),
        assumed=("the covariance is positive definite at the values used",),
    )
