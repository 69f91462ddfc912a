"""What is loaded before a model is asked for: nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import vlm_bridge as vb

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "scipy.stats", "matplotlib", "sympy"}


def loaded_after(statements: str) -> set[str]:
    """`sys.modules` of a fresh interpreter after `statements`."""
    code = f"import json, sys\n{statements}\nsys.stderr.write(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr))


def test_the_package_loads_nothing_heavy():
    assert not HEAVY & loaded_after("import vlm_bridge; dir(vlm_bridge)")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["--version"],
        ["rules"],
        ["rules", "--json"],
        ["methods"],
        ["scorers"],
        ["models"],
    ],
    ids=" ".join,
)
def test_the_command_line_loads_nothing_heavy(words):
    asked = f"from vlm_bridge.cli import main\ntry:\n    main({words})\nexcept SystemExit: pass"
    loaded = loaded_after(asked)
    assert "vlm_bridge.cli" in loaded
    assert not HEAVY & loaded


def test_every_name_is_there():
    assert len(set(vb.__all__)) == len(vb.__all__)
    assert set(vb.__all__) <= set(dir(vb))
    assert all(getattr(vb, name) is not None for name in vb.__all__)


@pytest.mark.parametrize("verb", ["answer", "certify", "compare", "profile", "prune", "search"])
def test_verbs_are_functions(verb):
    assert callable(getattr(vb, verb))
    assert getattr(vb, verb).__name__ == verb


def test_modules_are_there_by_import():
    assert "vlm_bridge.rules" in loaded_after("import vlm_bridge.rules; vlm_bridge.rules.RULES")


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vb.nothing
