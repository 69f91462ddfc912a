"""The option `--json` of every command: the result alone on standard output."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Annotated, Any

import typer
from typer import Option

AsJson = Annotated[bool, Option("--json", help="Print JSON; notes go to standard error.")]

_wanted = ContextVar("_wanted", default=False)


def print_result(command: Callable[..., Any], as_json: bool, options: Mapping[str, Any]) -> None:
    """Run `command`; with `as_json` print the value it returns, unless that is None."""
    if not as_json:
        command(**options)
        return
    token = _wanted.set(True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = command(**options)
    finally:
        _wanted.reset(token)
    if result is not None:
        typer.echo(json.dumps(result, indent=1, allow_nan=False))


def show(text: str) -> None:
    """Print the result for people; `--json` prints it as JSON instead."""
    if not _wanted.get():
        typer.echo(text)
