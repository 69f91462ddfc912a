"""The command line `skipit`: thin over the library, one line and exit code 2 on bad input."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from vlm_bridge.cli.confirming import confirm
from vlm_bridge.cli.method import method, methods
from vlm_bridge.cli.model import cost, describe, prune
from vlm_bridge.cli.options import grouped
from vlm_bridge.cli.path import certify, compare, plan, profile, sweep
from vlm_bridge.cli.reproducing import reproduce
from vlm_bridge.cli.results import demo, report, rules, verify
from vlm_bridge.cli.searching import search
from vlm_bridge.cli.slopes import slopes
from vlm_bridge.errors import BridgeError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which layers of a vision-language model can I skip, how do I know, what will it cost?\n\n"
    "The path: `profile` -> `plan` -> `certify`; `demo` walks it once on the reference VLM.\n\n"
    "Layers are 0-based, ratios are skipped/full, intervals and certificates are by image.",
)
for _command in (
    *(demo, describe, profile, plan, certify, search, compare),
    *(sweep, slopes, cost, prune, rules, methods, method, confirm, reproduce, verify, report),
):
    app.command()(grouped(_command))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a `BridgeError` becomes one line and exit code 2."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except BridgeError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"skipit: {line}\n")
        raise SystemExit(2) from None
