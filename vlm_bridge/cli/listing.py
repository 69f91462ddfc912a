"""`skipit rules`, `methods` and `scorers`: tables that need neither a model nor torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vlm_bridge.cli.as_json import show
from vlm_bridge.evaluate.scorers import scorers as every_scorer
from vlm_bridge.methods import METHODS
from vlm_bridge.rules import RULES


def rules() -> Any:
    """List the rules of `skipit plan --rule`.

    Columns, separated by tabs: name, modes (the first that the model has is the default), whose
    layers it ranks (those of the decoder, or of any stack), what the rule requires (nothing, a
    forward pass, candidate runs or labels), its redundancy condition, its origin (ours, published
    or control), its source, and how it deviates from the publication.

    Example: `skipit rules`
    """
    columns = ("name", "modes", "stacks", "requires", "condition", "origin", "source", "deviation")
    return _table(_rows(RULES.values(), columns))


def methods() -> Any:
    """List the published methods of `skipit method`.

    Columns, separated by tabs: name, settings, what the method requires, its source, and how it
    deviates from the publication.

    Example: `skipit methods`
    """
    columns = ("name", "settings", "requires", "source", "deviation")
    return _table(_rows(METHODS.values(), columns))


def scorers() -> Any:
    """List the scores that --scorer of `skipit compare` and `certify` takes.

    Columns, separated by tabs: name, range, whether `skipit certify --scorer` certifies the drop of
    its mean, the score in one line, and its source.

    The FILE of cider:FILE is a JSONL file of questions with `answer` or `answers`, such as --data
    takes, about other images than those that are scored.

    Example: `skipit scorers`
    """
    return _table(every_scorer())


def _rows(registry: Iterable[object], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """These attributes of every rule or method."""
    return [{column: getattr(entry, column) for column in columns} for entry in registry]


def _table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Show rows of the same columns, and return them."""
    lines = [rows[0].keys(), *(map(_cell, row.values()) for row in rows)]
    show("\n".join("\t".join(cells) for cells in lines))
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={number:g}" for name, number in value.items())
    return value if isinstance(value, str) else ", ".join(value)
