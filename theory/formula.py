"""Formulas that a proof receives: what the machine checks, apart from what is argued in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

RELATIONS = ("=", "<=", "<")


@dataclass(frozen=True)
class Formula:
    """A relation between two SymPy expressions.

    Attributes:
        left: left-hand side, a SymPy expression; None in a definition, see `states`.
        relation: "=", "<=" or "<".
        right: right-hand side, the same.

    Raises:
        ValueError: unknown relation.

    Example:
        >>> import sympy as sp
        >>> x = sp.Symbol("x", real=True)
        >>> print(Formula(2 * x, "<=", x**2 + 1), "; gap", Formula(2 * x, "<=", x**2 + 1).gap)
        2*x <= x**2 + 1 ; gap x**2 - 2*x + 1
    """

    left: Any
    relation: str
    right: Any

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise ValueError(
                f"unknown relation '{self.relation}'; choose from {', '.join(RELATIONS)}"
            )

    @property
    def gap(self) -> Any:
        """Right-hand side minus left-hand side."""
        return self.right - self.left

    def at(self, **values: Any) -> bool:
        """Whether the relation holds at integer or rational values of all symbols, exactly.

        False if a symbol has no value.

        Example:
            >>> import sympy as sp
            >>> Formula(sp.Symbol("a"), "<=", sp.Symbol("b")).at(a=1, b=2)
            True
        """
        gap = _function(self, tuple(sorted(values)))(*(values[name] for name in sorted(values)))
        return bool({"=": gap == 0, "<=": gap >= 0, "<": gap > 0}[self.relation])

    def states(self, definition: Formula) -> bool:
        """Whether this has the relation of a definition, and its sides where they are not None.

        A proof derives the side that is None.

        Example:
            >>> import sympy as sp
            >>> x, y = sp.symbols("x y")
            >>> Formula(x, "<=", y).states(Formula(x, "<=", None))
            True
            >>> Formula(2 * x, "<=", y).states(Formula(x, "<=", None))
            False
        """
        pairs = ((self.left, definition.left), (self.right, definition.right))
        same = all(defined is None or bool(side == defined) for side, defined in pairs)
        return same and self.relation == definition.relation

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


@dataclass(frozen=True)
class EntropyFormula:
    """A relation between Shannon quantities of any random variables that meet the constraints.

    Attributes:
        text: the relation, as `theory.prove` reads it.
        given: the constraints, as `theory.prove` reads them.

    Example:
        >>> print(EntropyFormula("I(X;Z) <= I(X;Y)", ("X -> Y -> Z",)))
        I(X;Z) <= I(X;Y), given X -> Y -> Z
    """

    text: str
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}, given {' and '.join(self.given)}" if self.given else self.text


#: The formulas of one statement by name.
Formulas = Mapping[str, Any]

_functions: dict[tuple[Formula, tuple[str, ...]], Callable[..., Any]] = {}


def _function(formula: Formula, names: tuple[str, ...]) -> Callable[..., Any]:
    """The gap as a Python function of the named symbols, in exact integer arithmetic.

    It is NaN if the gap has other symbols, so that no relation holds.
    """
    import sympy as sp  # slow to import

    if (formula, names) not in _functions:
        symbols = [sp.Symbol(n) for n in names]
        other = sp.sympify(formula.gap).free_symbols - set(symbols)
        known = sp.lambdify(symbols, formula.gap, [])
        _functions[formula, names] = (lambda *_: math.nan) if other else known
    return _functions[formula, names]
