"""How a benchmark reports: JSON for a program, a table for people, and what it ran on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from vlm_bridge.runtime.machine import machine as machine


def report(title: str, rows: Sequence[dict[str, Any]], *, as_json: bool, **facts: Any) -> None:
    """Print rows with equal keys: all of them as JSON, or as a table.

    Args:
        title: what was measured.
        rows: one measurement each.
        as_json: JSON instead of a table.
        facts: what holds for all rows.
    """
    if as_json:
        body = {"title": title, "machine": machine(), **facts, "rows": list(rows)}
        print(json.dumps(body, indent=1))
        return
    show(title, rows)
    for name, value in {**facts, **machine()}.items():
        _console().print(f"{name}: {value}", highlight=False)


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows with equal keys as a table."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    _console().print(table)


def paired(ratios: Sequence[float]) -> dict[str, float]:
    """Median of paired ratios and the middle half of them."""
    quarters = statistics.quantiles(ratios, n=4)
    return {"ratio": statistics.median(ratios), "low": quarters[0], "high": quarters[2]}


def _console() -> Console:
    return Console(width=max(100, Console().width))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
