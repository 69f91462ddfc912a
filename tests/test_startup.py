"""What start-up loads, and that the benchmark of it runs; how long it takes, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import startup

ROOT = Path(__file__).resolve().parent.parent
#: Each costs as much to import as one of our packages, or far more.
SLOW = (
    "scipy.stats",
    "scipy.optimize",
    "scipy.spatial",
    "scipy.sparse",
    "sympy",
    "matplotlib",
    "torch",
)


@pytest.mark.parametrize("package", ["estimators", "theory"])
def test_import_loads_nothing_slow(package: str) -> None:
    code = f"import json, sys, {package}; print(json.dumps(list(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout))
    assert package in loaded
    assert not loaded.intersection(SLOW), "import it inside the function that uses it"


def test_benchmark_measures_a_fresh_process() -> None:
    seconds = startup.cpu_seconds(("-c", "pass"), runs=2)
    assert seconds.low <= seconds.median
    assert seconds.median > 0


def test_benchmark_says_which_command_fails() -> None:
    with pytest.raises(SystemExit, match="no_such_module"):
        startup.cpu_seconds(("-c", "import no_such_module"), runs=1)


def test_benchmark_prints_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "TARGETS", {"pass": (("-c", "pass"), 60.0)})
    startup.main(["--json", "--runs", "1"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["start"] == "pass"
    assert row["target_s"] == 60.0
    assert row["met"] is True
