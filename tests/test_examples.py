"""Each file of examples/ runs as its users run it: as a script, from another folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs_and_says_what_it_showed(example: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", str(example)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip(), "the example printed nothing"


def test_the_readme_of_the_examples_names_each_of_them() -> None:
    text = (ROOT / "examples" / "README.md").read_text()
    assert {path.name for path in EXAMPLES} == {path.name for path in EXAMPLES if path.name in text}
