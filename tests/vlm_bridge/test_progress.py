"""Progress leaves the streams alone, so that a notebook kernel can write to them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import rich.console
from tqdm import tqdm

from vlm_bridge.runtime import progress
from vlm_bridge.runtime.progress import track, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tracking(title: str) -> AbstractContextManager[Any]:
    return track(title, 3)


@pytest.mark.parametrize("display", [tracking, waiting])
@pytest.mark.parametrize("in_a_kernel", [False, True])
def test_the_streams_are_the_same_while_progress_is_shown(
    display: Callable[[str], AbstractContextManager[Any]],
    in_a_kernel: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal, out = Terminal(), sys.stdout
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: in_a_kernel)
    with display("profile"):
        assert (sys.stdout, sys.stderr) == (out, terminal)
        for _ in tqdm(range(3), file=sys.stderr):
            pass
    assert "profile" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


@pytest.mark.parametrize("display", [tracking, waiting])
def test_nothing_is_shown_off_a_terminal(
    display: Callable[[str], AbstractContextManager[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with display("profile"):
        pass
    assert stream.getvalue() == ""


def test_a_log_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), iter([0.0, 59.0, 61.0, 62.0, 3700.0])
    monkeypatch.setattr(sys, "stderr", stream)
    with track("warm-up", 1):  # rich reads the clock too
        monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
        lines = track("slopes", 8)
        with lines as advance:
            for _ in range(4):
                advance(2)
    assert stream.getvalue() == "slopes: 4 of 8 after 0:01:01\nslopes: 8 of 8 after 1:01:40\n"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["reference", "reference-late-entry"])
def test_a_model_loads_in_a_kernel_with_an_empty_cache(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    cell = nbformat.v4.new_code_cell(f"import vlm_bridge as vb\nprint(vb.load({model!r}).name)")
    book = nbformat.v4.new_notebook(
        cells=[cell],
        metadata={"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}},
    )
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    assert f"{model}\n" in "".join(out.get("text", "") for out in book.cells[0].outputs)
    assert any(tmp_path.iterdir())
