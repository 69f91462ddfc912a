"""`SymbolicPid`, symbolic pmfs, and symbolic entropies with 0 log 0 = 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from scipy.special import xlogy

ATOMS = ("redundant", "unique_1", "unique_2", "synergistic")
MEASURES = ("broja", "imin", "mmi")

_ROUNDING = 1e-12
#: Largest pmf, and number of cells that are not zero, whose expressions SymPy simplifies in
#: minutes.
_MOST_CELLS = 4096
_MOST_POSITIVE = 256

#: Array of SymPy expressions p[x1, x2, y].
SymbolicPmf = NDArray[np.object_]


class xlogx(sp.Function):  # type: ignore[misc]
    """x log x, and 0 at x = 0, in nats.

    Example:
        >>> xlogx(sp.Integer(0)), xlogx(sp.Rational(1, 2))
        (0, -log(2)/2)
    """

    nargs = 1

    @classmethod
    def eval(cls, x: Any) -> Any:
        """Value if x is a number."""
        if x.is_zero or x == 1:
            return sp.Integer(0)
        return x * sp.log(x) if x.is_number else None

    def fdiff(self, argindex: int = 1) -> Any:
        """Derivative: log x + 1."""
        return sp.log(self.args[0]) + 1

    def _eval_rewrite_as_log(self, x: Any, **_: Any) -> Any:
        return x * sp.log(x)


@dataclass(frozen=True)
class SymbolicPid:
    """Four atoms as SymPy expressions, in nats.

    Attributes:
        redundant: information about Y shared by both sources.
        unique_1: information in the first source only.
        unique_2: information in the second source only.
        synergistic: information in both sources jointly, but in neither alone.
        measure: definition of the PID, "broja", "imin" or "mmi".
        parameters: free symbols, in the order of the arguments of `lambdify()`.
        assumed: conditions of the closed form that SymPy does not prove.

    Example:
        >>> from theory.symbolic_pid import symbolic_pid, symbolic_pmf
        >>> e = sp.Symbol("e", positive=True)
        >>> half = sp.Rational(1, 2)
        >>> p = symbolic_pmf({(0, 0, 0): half - e, (0, 1, 0): e, (1, 1, 1): half})
        >>> symbolic_pid(p, measure="broja").unique_2
        0
    """

    redundant: Any
    unique_1: Any
    unique_2: Any
    synergistic: Any
    measure: str
    parameters: tuple[Any, ...]
    assumed: tuple[str, ...] = ()

    @property
    def atoms(self) -> tuple[Any, Any, Any, Any]:
        """The four expressions, in the order of `ATOMS`."""
        return self.redundant, self.unique_1, self.unique_2, self.synergistic

    def lambdify(self) -> Callable[..., NDArray[np.float64]]:
        """Numerical function of the parameters (numbers or arrays that broadcast).

        It returns the atoms in nats, array of shape (4, ...), in the order of `ATOMS`.
        """
        modules = [{"xlogx": _xlogx}, "numpy"]
        inner = sp.lambdify(self.parameters, self.atoms, modules=modules, cse=True)

        def atoms(*values: Any) -> NDArray[np.float64]:
            given = [np.asarray(value, dtype=np.float64) for value in values]
            if len(given) != len(self.parameters):
                names = ", ".join(map(str, self.parameters))
                raise ValueError(f"give one value for each of ({names}), got {len(given)}")
            with np.errstate(divide="ignore", invalid="ignore"):
                # numpy evaluates all pieces of a Piecewise, including those that do not apply.
                values_of_atoms = inner(*given)
            arrays = [np.asarray(atom, dtype=np.float64) for atom in values_of_atoms]
            return np.stack(np.broadcast_arrays(*arrays))

        return atoms


def symbolic_pmf(cells: Any) -> SymbolicPmf:
    """A joint pmf p[x1, x2, y] of SymPy expressions.

    Args:
        cells: a nested sequence or array of shape (a, b, k), or {(x1, x2, y): probability} with
            integer symbols; other cells are zero.

    Returns:
        Array of shape (a, b, k) of SymPy expressions.

    Raises:
        ValueError: not three axes, a negative number, too many cells, or SymPy cannot show that
            the sum is 1.

    Example:
        >>> a = sp.Symbol("a", positive=True)
        >>> symbolic_pmf([[[a, 0], [0, 1 - a]]]).shape
        (1, 2, 2)
    """
    if isinstance(cells, dict):
        if not cells or any(np.shape(where) != (3,) for where in cells):
            raise ValueError("cells by position are {(x1, x2, y): probability}, at least one")
        if np.min(list(cells)) < 0:
            raise ValueError(f"symbols count from 0, got {min(cells)}")
        shape = tuple(int(size) for size in np.max(list(cells), axis=0) + 1)
        _check_cells(shape, len(cells))
        p = np.full(shape, sp.Integer(0), dtype=object)
        for where, value in cells.items():
            p[where] = sp.sympify(value)
    else:
        p = np.array(cells, dtype=object)
        _check_cells(p.shape, int((p != 0).sum()))
        p = np.array([sp.sympify(x) for x in p.ravel()], dtype=object).reshape(p.shape)
    if p.ndim != 3 or not p.size:
        raise ValueError(f"a pmf of two sources and a target has three axes, got shape {p.shape}")
    for where, cell in np.ndenumerate(p):
        if cell.is_negative:
            raise ValueError(f"p{list(where)} is {cell}, which is negative")
    total = sp.simplify(sum(p.ravel()))
    if total != 1:
        raise ValueError(f"the cells sum to {total}, not to 1")
    return p


def _check_cells(shape: tuple[int, ...], positive: int) -> None:
    """Raise ValueError for a pmf that is too large to be simplified."""
    if math.prod(shape) > _MOST_CELLS or positive > _MOST_POSITIVE:
        raise ValueError(
            f"a symbolic pmf has at most {_MOST_CELLS:,} cells, {_MOST_POSITIVE} of them not zero; "
            f"got {' x '.join(map(str, shape))}, {positive:,} not zero: use numbers and "
            "estimators.pid_from_pmf"
        )


def parameters_of(p: SymbolicPmf, order: Sequence[Any] | None = None) -> tuple[Any, ...]:
    """Free symbols of a pmf, sorted by name, or in the given order.

    Raises:
        ValueError: a free symbol is missing in `order`.
    """
    free = set().union(*(cell.free_symbols for cell in p.ravel()))
    if order is None:
        return tuple(sorted(free, key=str))
    missing = sorted(map(str, free - set(order)))
    if missing:
        raise ValueError(f"the order of parameters lacks {', '.join(missing)}")
    return tuple(order)


def _xlogx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numerical x log x; negative rounding errors count as zero."""
    cell = np.where((x < 0.0) & (x > -_ROUNDING), 0.0, x)
    return np.asarray(xlogy(cell, cell))


def entropy(cells: Sequence[Any] | SymbolicPmf) -> Any:
    """Entropy -sum p log p of an array of expressions, in nats."""
    return -sp.Add(*(xlogx(cell) for cell in np.asarray(cells, dtype=object).ravel()))


def informations(p: SymbolicPmf) -> tuple[Any, Any, Any]:
    """I(Y; X1), I(Y; X2), I(Y; X1, X2) in nats."""
    target = entropy(p.sum(axis=(0, 1)))
    first = entropy(p.sum(axis=(1, 2))) + target - entropy(p.sum(axis=1))
    second = entropy(p.sum(axis=(0, 2))) + target - entropy(p.sum(axis=0))
    return first, second, entropy(p.sum(axis=2)) + target - entropy(p)


def from_redundancy(
    p: SymbolicPmf,
    redundant: Any,
    *,
    measure: str,
    parameters: tuple[Any, ...],
) -> SymbolicPid:
    """Four atoms from the redundancy, by the consistency equations."""
    first, second, total = informations(p)
    return SymbolicPid(
        redundant=redundant,
        unique_1=first - redundant,
        unique_2=second - redundant,
        synergistic=total - first - second + redundant,
        measure=measure,
        parameters=parameters,
    )
