"""`skipit rules` and `skipit methods`: tables that need neither a model nor torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from vlm_bridge.methods import METHODS
from vlm_bridge.rules import RULES

AsJson = Annotated[bool, typer.Option("--json", help="A list of objects instead of a table.")]


def rules(as_json: AsJson = False) -> None:
    """The rules `skipit plan --rule` knows: modes, what each reads, its condition and source.

    Columns, separated by tabs: name, modes (the first is the default), reads (nothing; forward
    pass; candidate runs; labels), the redundancy condition it amounts to, source.

    Example: `skipit rules`
    """
    _show(RULES.values(), ("name", "modes", "requires", "condition", "source"), as_json)


def methods(as_json: AsJson = False) -> None:
    """The published methods `skipit method` runs: settings, what each reads, source, deviation.

    Columns, separated by tabs: name, settings, reads, source, where it is not what was published.

    Example: `skipit methods`
    """
    _show(METHODS.values(), ("name", "settings", "requires", "source", "deviation"), as_json)


def _show(registry: Iterable[object], columns: tuple[str, ...], as_json: bool) -> None:
    """Print these attributes of every rule or method."""
    rows = [{column: getattr(entry, column) for column in columns} for entry in registry]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    typer.echo("\t".join(columns))
    for row in rows:
        typer.echo("\t".join(map(_cell, row.values())))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={number:g}" for name, number in value.items())
    return str(value) if isinstance(value, str) else ", ".join(value)
