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


class CheckFailed(Exception):
    """`--check` was given and a certificate does not hold; carries the result of the command."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def print_result(command: Callable[..., Any], as_json: bool, options: Mapping[str, Any]) -> None:
    """Run `command`; with `as_json` print the value it returns, unless that is None.

    A `CheckFailed` ends in exit code 1, after its result was printed.
    """
    failed = False
    token = _wanted.set(as_json)
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result = command(**options)
    except CheckFailed as error:
        failed, result = True, error.result
    finally:
        _wanted.reset(token)
    if as_json and result is not None:
        typer.echo(json.dumps(result, indent=1, allow_nan=False))
    if failed:
        raise typer.Exit(1)


def show(text: str) -> None:
    """Print the result for people; `--json` prints it as JSON instead."""
    if not _wanted.get():
        typer.echo(text)
