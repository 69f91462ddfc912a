"""`skipit rules` and `skipit methods`: tables that need neither a model nor torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vlm_bridge.cli.as_json import show
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
    return _table(
        RULES.values(),
        ("name", "modes", "stacks", "requires", "condition", "origin", "source", "deviation"),
    )


def methods() -> Any:
    """List the published methods of `skipit method`.

    Columns, separated by tabs: name, settings, what the method requires, its source, and how it
    deviates from the publication.

    Example: `skipit methods`
    """
    return _table(METHODS.values(), ("name", "settings", "requires", "source", "deviation"))


def _table(registry: Iterable[object], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Show these attributes of every rule or method, and return them."""
    rows = [{column: getattr(entry, column) for column in columns} for entry in registry]
    lines = [columns, *(map(_cell, row.values()) for row in rows)]
    show("\n".join("\t".join(cells) for cells in lines))
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={number:g}" for name, number in value.items())
    return value if isinstance(value, str) else ", ".join(value)
