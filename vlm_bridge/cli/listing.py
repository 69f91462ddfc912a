"""`skipit rules` and `skipit methods`: tables that need neither a model nor torch."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from vlm_bridge.cli.facts import METHOD_FACTS, RULE_FACTS

AsJson = Annotated[bool, typer.Option("--json", help="A list of objects instead of a table.")]


def rules(as_json: AsJson = False) -> None:
    """The rules `skipit plan --rule` knows: modes, what each reads, its condition and source.

    Columns, separated by tabs: name, modes (the first is the default), reads (nothing; forward
    pass; candidate runs; labels), the redundancy condition it amounts to, source.

    Example: `skipit rules`
    """
    _show(RULE_FACTS, as_json)


def methods(as_json: AsJson = False) -> None:
    """The published methods `skipit method` runs: settings, what each reads, source, deviation.

    Columns, separated by tabs: name, settings, reads, source, where it is not what was published.

    Example: `skipit methods`
    """
    _show(METHOD_FACTS, as_json)


def _show(rows: tuple[dict[str, Any], ...], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    typer.echo("\t".join(rows[0]))
    for row in rows:
        typer.echo("\t".join(map(_cell, row.values())))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={number:g}" for name, number in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
