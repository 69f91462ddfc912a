"""Execute the notebooks: `NN_claim.py` is the source, `NN_claim.ipynb` what it gave.

A source is a jupytext percent file. Its notebook is executed in an empty folder with the
interpreter that runs this script, and whatever would change from one run to the next (times,
progress, cell ids, kernel versions) is left out, so that the same results give the same file.

Usage: `make notebooks`, or for one of them

    .venv/bin/python notebooks/build.py notebooks/05_reference_vlm.py
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent

#: No cell may run longer, in seconds. A notebook is meant to take less than 120 in all.
CELL_TIMEOUT = 300

#: Outputs come out alike on every machine: two threads, fixed hashes, no terminal, no network.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "PYTHONHASHSEED": "0",
    "TERM": "dumb",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

#: Where an object lies in memory, as the default `repr` shows it.
ADDRESS = re.compile(r" at 0x[0-9a-f]+>")


def sources(folder: Path = FOLDER) -> list[Path]:
    """The notebook sources in `folder`, in order."""
    return sorted(folder.glob("[0-9]*.py"))


def read_source(path: Path) -> NotebookNode:
    """The notebook that a percent file describes, without outputs and with fixed cell ids."""
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


def execute(notebook: NotebookNode) -> NotebookNode:
    """Run every cell in an empty folder; raises `CellExecutionError` where one fails."""
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        executed: NotebookNode = client.execute()
    executed.metadata["language_info"] = {"name": "python"}
    for cell in executed.cells:
        if cell.cell_type == "code":  # progress goes to standard error
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/plain" in data:
                data["text/plain"] = ADDRESS.sub(">", data["text/plain"])
    return executed


def build(source: Path, target: Path) -> None:
    """Execute `source` and write the notebook to `target`."""
    notebook = execute(read_source(source))
    nbformat.validate(notebook)
    nbformat.write(notebook, target)


def main(arguments: list[str] | None = None) -> None:
    """Build the named notebooks, or all of them."""
    parser = argparse.ArgumentParser(description="Execute notebooks from their .py sources.")
    parser.add_argument("source", nargs="*", type=Path, help="default: every NN_claim.py here")
    parser.add_argument("--out", type=Path, help="folder for the .ipynb (default: beside it)")
    options = parser.parse_args(arguments)
    for source in options.source or sources():
        target = (options.out or source.parent) / f"{source.stem}.ipynb"
        build(source, target)
        sys.stdout.write(f"{source} -> {target}\n")


if __name__ == "__main__":
    main()
