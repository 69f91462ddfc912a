"""Every notebook: source and executed notebook agree, it ends in an assert, and it runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))

#: Seconds for one notebook, start of the kernel included.
HARD_LIMIT = 900

each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def cells_of(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def committed(source: Path) -> nbformat.NotebookNode:
    target = source.with_suffix(".ipynb")
    assert target.is_file(), f"{target.name} is missing; run: make notebooks"
    return nbformat.read(target, as_version=4)


def test_there_are_notebooks() -> None:
    assert SOURCES, f"no NN_claim.py in {FOLDER}"


def test_no_notebook_without_a_source() -> None:
    orphans = [path.name for path in FOLDER.glob("*.ipynb") if not path.with_suffix(".py").exists()]
    assert not orphans, f"generated notebooks whose source is gone: {orphans}"


@each_notebook
def test_notebook_agrees_with_its_source(source: Path) -> None:
    expected = cells_of(jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent"))
    found = cells_of(committed(source))
    assert found == expected, f"{source.name} was changed since; run: make notebooks"


@each_notebook
def test_notebook_is_committed_executed(source: Path) -> None:
    code = [cell for cell in committed(source).cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1)), "not executed once from top to bottom"
    errors = [out for cell in code for out in cell.outputs if out.output_type == "error"]
    assert not errors


@each_notebook
def test_notebook_ends_in_an_assert(source: Path) -> None:
    code = [cell.source for cell in committed(source).cells if cell.cell_type == "code"]
    last = ast.parse(code[-1])
    assert any(isinstance(node, ast.Assert) for node in ast.walk(last)), code[-1]


@pytest.mark.slow
@each_notebook
def test_notebook_runs(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    run = subprocess.run(
        [sys.executable, FOLDER / "build.py", copy],
        capture_output=True,
        text=True,
        timeout=HARD_LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert cells_of(committed(copy)) == cells_of(committed(source))


@pytest.mark.slow
def test_the_first_load_works_in_a_kernel_with_an_empty_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    cell = nbformat.v4.new_code_cell('import vlm_bridge as vb\nprint(vb.load("reference").name)')
    book = nbformat.v4.new_notebook(cells=[cell])
    client = NotebookClient(
        book,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER.parent)}},
    )
    client.execute()
    said = [one["text"] for one in book.cells[0].outputs if one.get("name") == "stdout"]
    assert "".join(said) == "reference\n"
