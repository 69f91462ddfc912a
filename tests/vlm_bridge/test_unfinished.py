"""A checkpoint goes only after the result is written."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module

import pytest

from tests.vlm_bridge.command_line import run
from vlm_bridge import cli
from vlm_bridge.runtime.checkpoint import Checkpoint

PLAN = "freeze layers=1-2"
SHORT = ("--max-new-tokens", 2)
#: Module, what is killed in it, command, and the checkpoint that must be left.
CASES = {
    "certify": ("evaluating", "save", ("certify", PLAN, *SHORT), "r-checkpoint.jsonl"),
    "compare": ("evaluating", "save", ("compare", PLAN, *SHORT), "r-checkpoint.jsonl"),
    "slopes": ("slopes", "save", ("slopes", "--kind", "block", "--no-bound"), "r-checkpoint.jsonl"),
    "profile": ("profiling", "save", ("profile", "--no-null"), "r-checkpoint.safetensors"),
    "null model": ("profiling", "random_copy", ("profile",), "r-checkpoint.safetensors"),
    "figure": ("profiling", "plot_profile", ("profile",), "r-checkpoint.safetensors"),
}


class Killed(BaseException):
    """What no code catches."""


@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_before_its_end_keeps_its_checkpoint(
    case, folder, jsonl, tmp_path, monkeypatch
):
    module, name, (command, *words), left = CASES[case]
    out = tmp_path / "out" / "r.json"

    def killed(*_, **__):
        raise Killed

    options = ["--data", jsonl, "--limit", 2, "--out", out]
    with monkeypatch.context() as patched:
        patched.setattr(import_module(f"vlm_bridge.cli.{module}"), name, killed)
        with pytest.raises(Killed):
            cli.main([str(word) for word in (command, folder, *words, *options)])
    assert (out.parent / left).is_file()


def test_a_comparison_killed_while_it_measures_the_cost_continues(
    folder, jsonl, tmp_path, monkeypatch
):
    out = tmp_path / "out" / "r.json"
    words = ("compare", folder, PLAN, *SHORT, "--data", jsonl, "--limit", 2, "--out", out)

    def killed(*_, **__):
        raise Killed

    evaluating = import_module("vlm_bridge.cli.evaluating")
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "measure_cost", killed)
        with pytest.raises(Killed):
            cli.main([str(word) for word in words])
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "measure_cost", partial(evaluating.measure_cost, pairs=1))
        patched.setattr(Checkpoint, "add", killed)  # a batch that is run again would be added
        assert run(*words) == 0
    assert json.loads(out.read_text())["comparison"]["n_images"] == 2
    assert not list(out.parent.glob("*checkpoint*"))
