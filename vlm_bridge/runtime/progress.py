"""Progress of long work: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator

from rich import progress as rich_progress
from rich.console import Console

from vlm_bridge.runtime.distributed import is_main

#: Seconds between two lines where standard error is no terminal.
LINE_S = 60.0


@contextlib.contextmanager
def track(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, by rank 0; yields a function that advances it.

    In a log file it is a line a minute, and nothing of what takes less.
    """
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with _display(*columns, transient=False) as bar:
        task = bar.add_task(title, total=total)
        begun = last = time.monotonic()

        def advance(count: int) -> None:
            nonlocal last
            bar.advance(task, count)
            now = time.monotonic()
            if bar.disable and is_main() and now - last >= LINE_S:
                last, took = now, datetime.timedelta(seconds=round(now - begun))
                done = round(bar.tasks[0].completed)
                sys.stderr.write(f"{title}: {done} of {total} after {took}\n")

        yield advance


@contextlib.contextmanager
def waiting(title: str) -> Iterator[None]:
    """A spinner on standard error while the block runs, by rank 0 on a terminal."""
    columns = (rich_progress.SpinnerColumn(), rich_progress.TextColumn("{task.description}"))
    with _display(*columns, transient=True) as spinner:
        spinner.add_task(title, total=None)
        yield


def _display(*columns: rich_progress.ProgressColumn, transient: bool) -> rich_progress.Progress:
    """A display that leaves standard output and error as they are.

    In a notebook rich would replace standard error, to which the bars of transformers write, and
    the two would call each other without end.
    """
    console = Console(stderr=True, force_jupyter=False)
    return rich_progress.Progress(
        *columns,
        console=console,
        transient=transient,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not (console.is_terminal and is_main()),
    )
