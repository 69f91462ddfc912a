"""BROJA in closed form, for ordered sources and for binary variables.

The union information of BROJA is min I_Q(Y; X1, X2) over all Q with the marginals (X1, Y) and
(X2, Y) of p. It determines the atoms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from theory.symbolic_pid.expressions import (
    SymbolicPid,
    SymbolicPmf,
    entropy,
    informations,
    parameters_of,
)

# Tolerance for rounding of a conditional probability. Cases that it decides have informations that
# differ by no more than rounding.
_ROUNDING = sp.Rational(1, 10**13)


class NotOrderedError(ValueError):
    """No channel was found that maps the first source to the second."""


def broja_ordered(p: SymbolicPmf, *, channel: Any = None, parameters: Any = None) -> SymbolicPid:
    """BROJA if X2 is a garbling of X1: unique_2 = 0 and redundant = I(Y; X2).

    Args:
        p: pmf from `symbolic_pmf`.
        channel: k[x1][x2], rows summing to 1, with p(x2, y) = sum_x1 p(x1, y) k[x1][x2]. None
            means p(x2 | x1), which is valid if X2 - X1 - Y is a Markov chain.
        parameters: order of the free symbols; sorted by name if None.

    Returns:
        The atoms. Nonnegativity of the channel is listed in `assumed` unless SymPy proves it.

    Raises:
        ValueError: the channel has a wrong shape or a negative number.
        NotOrderedError: the channel does not map the first source to the second.

    Source:
        Bertschinger et al. 2014, arXiv 1311.2852, Lemma 6 (Blackwell's order).

    Example:
        >>> from theory.symbolic_pid import symbolic_pmf
        >>> e = sp.Symbol("e", positive=True)
        >>> half = sp.Rational(1, 2)
        >>> p = symbolic_pmf({(0, 0, 0): half, (1, 1, 1): (1 - e) / 2, (1, 0, 1): e / 2})
        >>> broja_ordered(p).synergistic
        0
    """
    first, second = p.sum(axis=1), p.sum(axis=0)
    pair = p.sum(axis=2)
    if channel is None:
        totals = pair.sum(axis=1, keepdims=True)
        k = np.array(
            [[cell / total for cell in row] for row, (total,) in zip(pair, totals, strict=True)]
        )
    else:
        k = np.array(channel, dtype=object)
        if k.shape != pair.shape:
            raise ValueError(f"the channel must have shape {pair.shape}, got {k.shape}")
    for where, entry in np.ndenumerate(k):
        if sp.sympify(entry).is_negative:
            raise ValueError(f"channel{list(where)} is {entry}, which is negative")
    rows = [sp.simplify(sum(row) - 1) for row in k]
    mapped = first.T @ k  # (y, x2)
    gaps = [sp.simplify(gap) for gap in (mapped - second.T).ravel()]
    if any(rows) or any(gaps):
        which = "p(x2 | x1)" if channel is None else "the channel given"
        raise NotOrderedError(
            f"{which} does not turn the first source into the second; exchange the sources, or "
            "pass channel=k with p(x2, y) = sum_x1 p(x1, y) k[x1][x2]"
        )
    i1, i2, i12 = informations(p)
    nonnegative = all(sp.sympify(entry).is_nonnegative for entry in k.ravel())
    return SymbolicPid(
        redundant=i2,
        unique_1=sp.simplify(i1 - i2),
        unique_2=sp.Integer(0),
        synergistic=sp.simplify(i12 - i1),
        measure="broja",
        parameters=parameters_of(p, parameters),
        assumed=()
        if nonnegative
        else ("the channel's entries are nonnegative at the values used",),
    )


def broja_binary(p: SymbolicPmf, *, parameters: Any = None) -> SymbolicPid:
    """BROJA for binary sources and a binary target, as a piecewise closed form.

        union = I(Y; X1)                 if X2 is a garbling of X1
                I(Y; X2)                 if X1 is a garbling of X2
                min_z I_{Q_z}(Y; X1, X2) otherwise

    where Q_z has the marginals (X1, Y) and (X2, Y) of p and gives the pair z = (x1, x2) probability
    0: its cells adjacent to z are P(x1, y) and P(x2, y), its cell opposite to z is
    P(y) - P(x1, y) - P(x2, y). The minimum runs over the (at most four) pairs z for which these
    cells are nonnegative.

    Derivation: with r_x = Q(y | x), the derivative of I_Q along the single feasible direction
    within y is log(r_00 r_11 / (r_01 r_10)). At an interior optimum both derivatives vanish, so
    {r_00, r_11} = {r_01, r_10}: Y is independent of one source given the other, and that source
    is a garbling of the other. At a cell that is zero for exactly one y the derivative is
    infinite and points to the interior, so an optimum on the boundary has a cell that is zero for
    both y.

    Args:
        p: pmf from `symbolic_pmf`, of shape (2, 2, 2).
        parameters: order of the free symbols; sorted by name if None.

    Raises:
        ValueError: p has another shape.

    Source:
        Optimisation problem: Bertschinger et al. 2014, arXiv 1311.2852. Location of the optima
        in the binary case: Rauh, Schünemann & Jost 2021, arXiv 1912.12505. The form above was
        derived in this project and is tested against an interior-point solver.

    Example:
        >>> from theory.symbolic_pid import symbolic_pmf
        >>> e = sp.Symbol("e", positive=True)
        >>> f = (1 - e) / 2
        >>> xor = symbolic_pmf({(0, 0, 0): f, (1, 1, 0): e / 2, (0, 1, 1): f, (1, 0, 1): e / 2})
        >>> broja_binary(xor).lambdify()(0.5).round(4).tolist()
        [0.0, 0.0, 0.0, 0.6931]
    """
    if p.shape != (2, 2, 2):
        raise ValueError(f"the binary closed form needs shape (2, 2, 2), got {p.shape}")
    i1, i2, i12 = informations(p)
    first, second = p.sum(axis=1), p.sum(axis=0)  # [x, y]
    candidates = [_without_pair(first, second, pair) for pair in np.ndindex(2, 2)]
    union = sp.Piecewise(
        (i1, _is_garbling(second, first)),
        (i2, _is_garbling(first, second)),
        (sp.Min(*candidates, evaluate=False), True),
    )
    return SymbolicPid(
        redundant=i1 + i2 - union,
        unique_1=union - i2,
        unique_2=union - i1,
        synergistic=i12 - union,
        measure="broja",
        parameters=parameters_of(p, parameters),
    )


def _is_garbling(noisy: SymbolicPmf, clean: SymbolicPmf) -> Any:
    """Whether a binary channel maps `clean[x, y]` to `noisy[x, y]`.

    The channel is unique unless `clean` is independent of y, in which case `noisy` must be
    independent of y too. With a_y, b_y the conditional probabilities of symbol 0, its parameters
    are n / D with D = a_0 - a_1; the conditions are multiplied by D^2 to avoid a division by 0.
    """
    (a0, a1), (b0, b1) = clean[0], noisy[0]
    c0, c1 = clean.sum(axis=0)
    d = a0 * c1 - a1 * c0
    k00 = b0 * (c1 - a1) - b1 * (c0 - a0)  # k(0 | 0) times D
    k01 = b1 * a0 - b0 * a1  # k(0 | 1) times D
    slack = (_ROUNDING * c0 * c1) ** 2
    inside = [sp.Ge(n * d, -slack) & sp.Ge(d * d - n * d, -slack) for n in (k00, k01)]
    solvable = sp.Ge(d * d, slack) | sp.Le((b0 * c1 - b1 * c0) ** 2, slack)
    return sp.And(*inside, solvable)


def _without_pair(first: SymbolicPmf, second: SymbolicPmf, pair: tuple[int, int]) -> Any:
    """I_Q for the Q that gives `pair` probability 0; infinite if no such Q exists."""
    row, column = pair
    target = first.sum(axis=0)
    rest = target - first[row] - second[column]  # the opposite cell, for each y
    cells = [*first[row], *second[column], *rest]
    pairs = [first[row].sum(), second[column].sum(), rest.sum()]
    allowed = sp.And(
        *(sp.Ge(cell, -_ROUNDING * mass) for cell, mass in zip(rest, target, strict=True))
    )
    return sp.Piecewise((entropy(pairs) + entropy(target) - entropy(cells), allowed), (sp.oo, True))
