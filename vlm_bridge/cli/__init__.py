"""The command line `skipit`: thin over the library, one line and exit code 2 on bad input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from vlm_bridge.cli.lazy import COMMANDS, LazyGroup
from vlm_bridge.errors import BridgeError

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which layers of a vision-language model can I skip, how do I know, what will it cost?\n\n"
    "The path: `profile` -> `plan` -> `certify`; `demo` walks it once on the reference VLM.\n\n"
    "Layers are 0-based, ratios are skipped/full, intervals and certificates are by image.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"skipit {import_module('estimators').__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options of `skipit` itself."""


def _summary() -> None:
    """Stands for a command until it is called."""


for _name, (_, _line) in COMMANDS.items():
    app.command(_name, help=_line)(_summary)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a `BridgeError` becomes one line and exit code 2."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except BridgeError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"skipit: {line}\n")
        raise SystemExit(2) from None
