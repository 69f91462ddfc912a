"""The real tools of others, each in an environment of its own that a variable names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def in_environment(variable: str, *arguments: str) -> str:
    """What a command of that environment's Python prints; the test is skipped without one."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no Python with these packages")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.full
def test_caches_of_nnsight_and_transformer_lens_have_the_numbers_of_plain_hooks():
    said = in_environment("SKIPIT_LENS_PYTHON", "-m", "tests.vlm_bridge.lens_worker")
    for tool, by_form in json.loads(said.splitlines()[-1]).items():
        expected = by_form.pop("hooks")
        assert len(by_form) == 2
        for form, found in by_form.items():
            for measure, values in expected.items():
                assert len(values) == 3, (tool, form)
                assert found[measure] == pytest.approx(values, rel=1e-6), (tool, form, measure)
