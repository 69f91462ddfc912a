"""The command line `skipit`: a thin layer over the library. Bad input is one line, exit code 2."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from vlm_bridge.cli.lazy import COMMANDS, Command, LazyGroup
from vlm_bridge.errors import BridgeError

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Which layers of a vision-language model can be skipped, how sure is that, and what "
    "does it save?\n\n"
    "Start with `demo`, or with `run` or `survey` on a model of yours. Step by step: `profile` and "
    "`slopes` measure redundancy; `sweep` tries every single skip; `search`, or `plan` and then "
    "`certify`, finds a plan that is safe; `compare` and `cost` measure what it loses and saves, "
    "`controls` whether another plan would do as well; `prune` exports it as a smaller model, and "
    "`monitor` watches it in service.\n\n"
    "Layers count from 0, ratios are skipped/full, intervals and certificates count images.",
)


def read_version() -> str:
    """The version of the package, read from the source of `estimators` without importing it."""
    spec = find_spec("estimators")
    source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
    return "".join(re.findall(r'^__version__ = "(.+)"', source, re.MULTILINE))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"skipit {read_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of `skipit` itself."""


def _placeholder() -> None:
    """Function of every command until it is called."""


for _name, (_, _line) in COMMANDS.items():
    app.command(_name, cls=Command, help=_line, short_help=_line)(_placeholder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a `BridgeError` becomes one line and exit code 2."""
    # Commands print what the library logs, before they load a model.
    logging.getLogger("vlm_bridge").addHandler(logging.NullHandler())
    try:
        app(args=list(arguments) if arguments is not None else None)
    except BridgeError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"skipit: {line}\n")
        raise SystemExit(2) from None
