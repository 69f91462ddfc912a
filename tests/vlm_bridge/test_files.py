"""Files are written whole or not at all, and trouble with them is said in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import check_writable, read_json, write_bytes, write_json


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that a failed write must leave as it is."""
    return write_bytes(tmp_path / "a.json", b"old")


def test_check_writable_makes_the_folder_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.json"
    assert check_writable(path) == path
    assert names(path.parent) == []


def test_check_writable_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match="is a folder; name a file to write"):
        check_writable(tmp_path)


@pytest.mark.parametrize("write", [check_writable, lambda path: write_bytes(path, b"new")])
def test_a_file_in_place_of_the_folder_is_named(old: Path, write: Any) -> None:
    with pytest.raises(BridgeError, match=r"cannot write to .*a\.json: "):
        write(old / "b.json")
    assert old.read_bytes() == b"old"


def test_write_bytes_replaces_and_leaves_nothing_else(old: Path) -> None:
    assert write_bytes(old, b"new") == old
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["a.json"]


def test_a_failed_write_keeps_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(TypeError):
        write_bytes(old, "text")  # type: ignore[arg-type]
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BridgeError, match="No space left"):
        write_bytes(old, b"new")
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["a.json"]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    data = {"a": [1, 2.5, None], "ρ": "−1"}
    assert read_json(write_json(tmp_path / "new" / "a.json", data), "data") == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_without_a_standard_form_is_refused(old: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(old, {"a": [1.0, value]})
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["a.json"]


def test_read_json_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match=r"no plan at .*gone\.json"):
        read_json(tmp_path / "gone.json", "plan")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", json.dumps({"a": 1}).encode()[:-1]])
def test_read_json_refuses_what_is_not_json(tmp_path: Path, data: bytes) -> None:
    path = write_bytes(tmp_path / "a.json", data)
    with pytest.raises(BridgeError, match=r"the plan at .*a\.json is not JSON"):
        read_json(path, "plan")
