"""A page as blocks, which become Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vlm_bridge.figures.markdown import plain, table


@dataclass(frozen=True)
class Block:
    """A heading, a paragraph, a list or a table: one of the fields is set.

    Attributes:
        heading: its text.
        text: a paragraph.
        points: the points of a list.
        head: the names of a table's columns.
        rows: its cells; the first of each row names the row.
    """

    heading: str = ""
    text: str = ""
    points: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def to_markdown(blocks: Iterable[Block], heading: str = "#") -> list[str]:
    """The lines of a page, with a blank line between blocks.

    Example:
        >>> to_markdown([Block(heading="a"), Block(head=("b", "c"), rows=(("1", "2"),))])
        ['# a', '', '| b | c |', '|---|---|', '| 1 | 2 |']
    """
    lines: list[str] = []
    for block in blocks:
        lines += [""] if lines else []
        if block.head:
            lines += table(block.head, block.rows)
        elif block.points:
            lines += [f"- {plain(point)}" for point in block.points]
        else:
            lines.append(
                f"{heading} {plain(block.heading)}" if block.heading else plain(block.text)
            )
    return lines
