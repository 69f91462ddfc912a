"""What commands write and print; under `torchrun` only rank 0 does either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from vlm_bridge.cli.quoted import quoting
from vlm_bridge.runtime.checkpoint import of_all_ranks
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, write_json


def say(line: str) -> None:
    """Print one line on standard output; with `--json` on standard error."""
    if is_main():
        typer.echo(line)


def note(line: str) -> None:
    """Print one line on standard error."""
    if is_main():
        typer.echo(line, err=True)


def save(path: Path, data: Any) -> Any:
    """Write a result, with its sources, into a file and return it; None in ranks but 0."""
    if not is_main():
        return None
    with_sources = [quoting(one) for one in data] if isinstance(data, list) else quoting(data)
    write_json(path, with_sources)
    return with_sources


@contextlib.contextmanager
def resumable(out: Path, suffix: str = ".jsonl") -> Iterator[Path]:
    """A checkpoint file beside `out`, deleted at the end of the block, which writes `out`.

    A run that ends before leaves it, and the same command continues from there.
    """
    check_writable(out)
    checkpoint = out.with_name(f"{out.stem}-checkpoint{suffix}")
    yield checkpoint
    if is_main():
        for part in of_all_ranks(checkpoint):
            part.unlink()
