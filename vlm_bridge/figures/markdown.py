"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def row(cells: Iterable[Any]) -> str:
    """A line of a table.

    >>> row([1, "a"])
    '| 1 | a |'
    """
    return f"| {' | '.join(map(str, cells))} |"


def table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """The lines of a table, without a blank line after it.

    >>> table(["a", "b"], [[1, 2]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    return [row(head), "|---" * len(head) + "|", *map(row, rows)]
