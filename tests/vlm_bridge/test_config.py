"""`--config`: options from a TOML file, read strictly and written so that they are read again."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.command_line import run
from vlm_bridge.cli.config import _toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


@given(VALUES | st.lists(TEXT))
def test_what_is_written_is_read(value):
    assert tomllib.loads(f"a = {_toml(value)}") == {"a": value}


HOSTILE = {
    "epsilom = 0.1": "no option 'epsilom'; the nearest is 'epsilon'",
    "max_new_tokens = 3": "the nearest is 'max-new-tokens'",
    "dry-run = true": "no option 'dry-run'",
    "[search]\nepsilon = 0.1": "'search' is a section",
    "epsilon = 'a'": "epsilon takes a number, got 'a'",
    "epsilon = true": "epsilon takes a number, got True",
    "pairs = 2.5": "pairs takes a whole number, got 2.5",
    "null = 1": "null takes true or false, got 1",
    "mode = 'block'": "mode takes a list, of which each is text",
    "mode = [1]": "mode takes a list, of which each is text",
    "rule = ['a']": "rule takes text",
    "epsilon = 0.1\nepsilon = 0.2": "is not TOML",
    "\x00": "is not TOML",
    "a = " + "[" * 5000: "is not TOML",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:20])
def test_a_wrong_file_is_refused_by_name(text, tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text(text)
    assert run("run", "model", "--config", file, "--data", "d", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"skipit: {file}")
    assert HOSTILE[text] in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_values_out_of_range_and_files_that_are_none(tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text("model = 'm'\ndata = 'd'\npairs = 0")
    assert run("run", "--config", file) == 2
    assert "Invalid value for '--pairs'" in capsys.readouterr().err
    assert run("run", "m", "--config", tmp_path / "none.toml") == 2
    assert "no configuration at" in capsys.readouterr().err
    file.write_bytes(b"model = '\xff'")
    assert run("run", "--config", file) == 2
    assert "is not TOML" in capsys.readouterr().err
