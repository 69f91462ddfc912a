"""Files are written whole or not at all, and trouble with them is said in one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import Estimate
from tests.imports import ROOT
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.checkpoint import Checkpoint
from vlm_bridge.runtime.distributed import Ranks
from vlm_bridge.runtime.files import (
    check_writable,
    new_folder,
    read_checked,
    read_json,
    read_record,
    safe_name,
    write_bytes,
    write_checked,
    write_json,
    write_record,
)


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


def special(folder: Path) -> dict[str, Path]:
    """Paths that no write may replace: pipe, device, socket, link to a file, broken link."""
    made = {name: folder / name for name in ("pipe", "link", "broken", "socket")}
    os.mkfifo(made["pipe"])
    (folder / "target").write_bytes(b"old")
    made["link"].symlink_to(folder / "target")
    made["broken"].symlink_to(folder / "nothing")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(folder):
        server.bind("socket")
    return {**made, "device": Path(os.devnull)}


@pytest.mark.parametrize("name", ["pipe", "link", "broken", "socket", "device"])
@pytest.mark.parametrize("write", [check_writable, lambda path: write_bytes(path, b"new")])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, name: str, write: Any) -> None:
    path = special(tmp_path)[name]
    before = os.lstat(path)
    with pytest.raises(BridgeError, match=r"is a link, which|is a device or pipe"):
        write(path)
    after = os.lstat(path)
    assert (before.st_mode, before.st_ino, before.st_rdev) == (
        after.st_mode,
        after.st_ino,
        after.st_rdev,
    )
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "nothing").exists()


def test_a_checkpoint_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "nothing")
    with pytest.raises(BridgeError, match="is a link"):
        Checkpoint(tmp_path / "c.jsonl", {}, Ranks(0, 1, None, None, ""))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BridgeError, match="cannot write"):
        write_bytes(tmp_path / name, b"")


def test_a_folder_with_content_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(BridgeError, match="cannot write the folder"):
        with new_folder(tmp_path / "full") as partial:
            (partial / "b").touch()
    assert names(tmp_path / "full") == ["a"]
    assert names(tmp_path) == ["full"]


@given(st.text(max_size=200))
def test_a_safe_name_is_no_path_and_keeps_texts_apart(text: str) -> None:
    name = safe_name(text)
    assert name == Path(name).name
    assert name not in ("", ".", "..")
    assert name.isascii()
    assert len(name) < 120
    assert name == text or safe_name(f"{text}!") != name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "the name 'a' occurs twice in an object"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits is too large"),
        ('"\\ud800"', "holds half a surrogate pair"),
        ("[" * 200 + "]" * 200, "nested deeper than 100"),
        ("[" * 100_000, "nested deeper than 100"),
        ('{"a":' * 100_000, "nested deeper than 100"),
    ],
)
def test_json_that_would_be_read_as_something_else_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BridgeError, match=rf"the plan at .*a\.json is not JSON: .*{says}"):
        read_json(tmp_path / "a.json", "plan")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": "\xef\xbb\xbf"}')
    assert read_json(tmp_path / "a.json", "plan") == {"a": "\ufeff"}


def test_a_file_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as handle:
        handle.truncate(2**40)
    with pytest.raises(BridgeError, match=r"the plan at .* is larger than 64 MiB"):
        read_json(tmp_path / "a.json", "plan")


@pytest.mark.slow
def test_what_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    """In a process of its own, whose memory is limited."""
    (tmp_path / "a.json").write_bytes(b"[" + b"[]," * 20_000_000 + b"0]")
    (tmp_path / "plan.json").write_text(
        json.dumps(
            {"type": "SkipPlan", "schema_version": SkipPlan.SCHEMA_VERSION, "mode": "block"}
        )[:-1]
        + ', "n_layers": 1000000, "layers": ['
        + ",".join(map(str, range(1_000_000)))
        + "]}"
    )
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from vlm_bridge.errors import BridgeError\n"
        "from vlm_bridge.plan.skip_plan import SkipPlan\n"
        "from vlm_bridge.runtime.files import read_json\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))\n"
        "both = (lambda: read_json(Path('a.json'), 'list'), lambda: SkipPlan.read('plan.json'))\n"
        "for read in both:\n"
        "    try:\n"
        "        read()\n"
        "    except BridgeError as error:\n"
        "        print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines() == [
        "the list at a.json does not fit into memory",
        "plan.json does not hold a plan: no decoder is so deep; "
        "n_layers is 1 to 10000, got 1000000",
    ], run.stderr


def test_a_result_that_was_changed_is_refused(tmp_path: Path) -> None:
    made = Estimate(value=0.5, interval=(0.4, 0.6), n=9, method="m")
    path = write_record(tmp_path / "a.json", made)
    assert read_record(path, Estimate, "estimate") == made
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(content))
        with contextlib.suppress(BridgeError):
            assert read_record(path, Estimate, "estimate") == made
    path.write_text(json.dumps(made.to_json()))  # written without checksum, by hand
    assert read_record(path, Estimate, "estimate") == made


def test_checked_content_needs_its_checksum(tmp_path: Path) -> None:
    path = write_checked(tmp_path / "a.json", {"order": [0, 1]})
    assert read_checked(path, "outcomes") == {"order": [0, 1]}
    for content, says in (
        (path.read_text().replace("[0, 1]", "[1, 0]"), "was changed since it was written"),
        ('{"order": [0, 1]}', "has no checksum"),
        ("[0, 1]", "is not a JSON object"),
    ):
        path.write_text(content)
        with pytest.raises(BridgeError, match=rf"the outcomes at .*a\.json {says}"):
            read_checked(path, "outcomes")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[0]", ":2 is no line of a checkpoint"),
        ("[0, 1]", ":2 is no line of a checkpoint"),
        ("[0.0, 1, 2]", ":2 is no line of a checkpoint"),
        ("[true, 1, 2]", ":2 is no line of a checkpoint"),
        ('{"0": 1}', ":2 is no line of a checkpoint"),
        ("[0, [1.0", ":2 is no line of a checkpoint"),
        ("[0, 1, 2]", ":2 was changed since it was written"),
        ("\xff", "is no checkpoint"),
    ],
)
def test_a_checkpoint_line_that_is_no_batch_is_refused(
    tmp_path: Path, line: str, says: str
) -> None:
    path, ranks = tmp_path / "c.jsonl", Ranks(0, 1, None, None, "")
    Checkpoint(path, {"run": float("nan")}, ranks)  # a key that is not equal to itself
    assert Checkpoint(path, {"run": float("nan")}, ranks).done == {}
    with path.open("ab") as handle:
        handle.write(line.encode("latin-1") + b"\n")
    with pytest.raises(BridgeError, match=says):
        Checkpoint(path, {"run": float("nan")}, ranks)
