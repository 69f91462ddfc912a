"""Progress bars for long work, shown on a terminal only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich import progress as rich_progress
from rich.console import Console

from vlm_bridge.runtime.distributed import is_main


@contextlib.contextmanager
def track(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, by rank 0 on a terminal; yields a function that advances it."""
    console = Console(stderr=True)
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    hidden = not (console.is_terminal and is_main())
    with rich_progress.Progress(*columns, console=console, disable=hidden) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
