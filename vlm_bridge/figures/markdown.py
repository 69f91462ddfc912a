"""Tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def plain(value: Any) -> str:
    r"""A value in one line of Markdown: a name with a bar or an HTML tag stays a name.

    >>> print(plain("a|b"), plain("<script>"))
    a\|b &lt;script>
    """
    return _TAG.sub("&lt;", " ".join(str(value).split())).replace("|", r"\|")


def row(cells: Iterable[Any]) -> str:
    """A line of a table.

    >>> row([1, "a"])
    '| 1 | a |'
    """
    return f"| {' | '.join(map(plain, cells))} |"


def table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """The lines of a table, without a blank line after it.

    >>> table(["a", "b"], [[1, 2]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    return [row(head), "|---" * len(head) + "|", *map(row, rows)]
