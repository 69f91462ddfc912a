"""The wheel outside the checkout: with numpy and scipy alone, and with every extra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = str(ROOT / "constraints.txt")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

pytestmark = pytest.mark.slow

ESTIMATE = """
import sys
import numpy as np
import estimators

rng = np.random.default_rng(0)
x = rng.normal(size=(500, 1))
found = estimators.mutual_information(x, x + rng.normal(size=(500, 1)))
assert abs(found.value - 0.5 * np.log(2)) < 0.1, found
gate = np.zeros((2, 2, 2))
gate[0, 0, 0] = gate[0, 1, 1] = gate[1, 0, 1] = gate[1, 1, 0] = 0.25  # XOR
pid = estimators.pid_from_pmf(gate)
assert abs(pid.synergistic - np.log(2)) < 1e-9, pid
both = estimators.pid_from_pmf_batch(np.stack([gate, gate]))
assert all(abs(one.synergistic - np.log(2)) < 1e-9 for one in both), both
print(estimators.__file__, estimators.__version__)
"""


@dataclass(frozen=True)
class Place:
    """A virtual environment and an empty folder to run in."""

    folder: Path

    def __post_init__(self) -> None:
        subprocess.run([sys.executable, "-m", "venv", self.environment], check=True)

    @property
    def environment(self) -> Path:
        return self.folder / "venv"

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """A command of the environment, run in an empty folder; what it wrote."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [self.environment / "bin" / command[0], *command[1:]],
            cwd=work,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    def pip(self, *arguments: str | Path) -> None:
        done = self.run("python", "-m", "pip", "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pinned wheels of numpy and scipy; proof that there is an index."""
    folder = tmp_path_factory.mktemp("index")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "1"]
    done = subprocess.run(
        [*command, "-c", CONSTRAINTS, "-d", folder, "numpy", "scipy"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no package index is reachable: numpy and scipy cannot be downloaded")
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a `build` folder in the checkout could leak into it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("estimators", "theory", "vlm_bridge"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # setuptools is pinned, so it is here: nothing has to be downloaded.
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", folder, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("skipit-*.whl")
    return built


@pytest.fixture(scope="module")
def base(index: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An environment with the wheel, numpy and scipy."""
    place = Place(tmp_path_factory.mktemp("base"))
    place.pip("install", "--no-index", "--find-links", index, "-c", CONSTRAINTS, wheel)
    return place


def test_estimators_need_numpy_and_scipy_only(base: Place) -> None:
    done = base.run("python", "-W", "error", "-c", ESTIMATE)
    assert done.returncode == 0, done.stderr
    assert str(base.environment) in done.stdout
    listed = base.run("python", "-m", "pip", "list", "--format=freeze").stdout.splitlines()
    names = {line.split("==")[0] for line in listed}
    assert names - {"pip", "setuptools", "wheel"} == {"numpy", "scipy", "skipit"}


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("import theory", "theory needs sympy: pip install 'skipit[theory]'"),
        (
            "import estimators.strategies",
            "estimators.strategies needs hypothesis: pip install 'skipit[testing]'",
        ),
        (
            "import numpy, estimators\n"
            "estimators.pid_from_pmf(numpy.full((2, 2, 2), 1 / 8), measure='dep')",
            "a measure of dit needs dit: pip install 'skipit[dit]'",
        ),
        (
            "import numpy, estimators\n"
            "x = numpy.random.default_rng(0).normal(size=(200, 1))\n"
            "estimators.mutual_information(x, x, method='infonce')",
            "a neural bound needs torch: pip install 'skipit[neural]'",
        ),
    ],
    ids=["theory", "testing", "dit", "neural"],
)
def test_what_is_missing_is_one_line(base: Place, statement: str, line: str) -> None:
    done = base.run("python", "-c", statement)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"estimators.extras.MissingExtra: {line}"


@pytest.mark.parametrize("command", [["python", "-m", "vlm_bridge"], ["skipit"]], ids=" ".join)
def test_the_command_line_says_what_is_missing(base: Place, command: list[str]) -> None:
    done = base.run(*command, "--help")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("skipit needs ")
    assert line.endswith(": pip install 'skipit[vlm]'")


@pytest.fixture
def complete(index: Path, wheel: Path, tmp_path: Path) -> Iterator[Place]:
    """An environment with the wheel and every extra, 1.2 GB; deleted after the test."""
    place = Place(tmp_path)
    install = ("install", "--no-compile", "-c", CONSTRAINTS)
    try:
        # As in the Makefile, the CPU build first: on Linux pip takes the CUDA build otherwise.
        cpu_build = ("--no-deps", "--index-url", CPU_INDEX, "--retries", "1", "--timeout", "10")
        if place.run("python", "-m", "pip", *install, *cpu_build, "torch").returncode:
            pytest.skip("no CPU build of torch is reachable")
        place.pip(*install, f"{wheel}[all]")
        yield place
    finally:
        shutil.rmtree(place.folder)


def test_all_extras_run_outside_the_checkout(complete: Place) -> None:
    """The command line, a reference model, an estimator and a statement, from the wheel alone.

    The installation takes 60 s of processor time where pip has the pinned wheels at hand.
    """
    compare = ("skipit", "compare", "reference-smolvlm", "block layers=3", "--data", "scenes:test")
    for command in (
        ("skipit", "--help"),
        ("python", "-m", "vlm_bridge", "rules"),
        (*compare, "--limit", "4"),
        ("python", "-W", "error", "-c", ESTIMATE),
        ("python", "-m", "theory", "verify", "S1", "--trials", "20"),
    ):
        done = complete.run(*command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    for package in ("estimators", "theory", "vlm_bridge"):
        where = complete.run("python", "-c", f"import {package}; print({package}.__file__)").stdout
        assert where.startswith(str(complete.environment))
