"""What commands leave behind: under `torchrun`, rank 0 alone writes and speaks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from vlm_bridge.runtime.checkpoint import of_all_ranks
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, write_json


def say(line: str) -> None:
    """One line on standard output."""
    if is_main():
        typer.echo(line)


def save(path: Path, data: Any) -> None:
    """JSON into a file."""
    if is_main():
        write_json(path, data)


@contextlib.contextmanager
def resumable(out: Path, suffix: str = ".jsonl") -> Iterator[Path]:
    """A checkpoint beside `out` for a long run; it goes when the run has ended well.

    A killed run leaves it, and the same command continues from there.
    """
    check_writable(out)
    checkpoint = out.with_name(f"{out.stem}-checkpoint{suffix}")
    yield checkpoint
    if is_main():
        for part in of_all_ranks(checkpoint):
            part.unlink()
