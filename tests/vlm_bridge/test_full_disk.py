"""A full disk or a kill loses no finished work, and leaves no file that stands in the way."""

from __future__ import annotations

import contextlib
import resource

import pytest

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.checkpoint import Checkpoint
from vlm_bridge.runtime.distributed import Ranks
from vlm_bridge.runtime.ledger import Ledger

RANKS = Ranks(0, 1, None, None, "")
KEY = {"run": "test"}


@contextlib.contextmanager
def room_for(size):
    """No file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_keeps_its_batches(tmp_path):
    path = tmp_path / "c.jsonl"
    book = Checkpoint(path, KEY, RANKS)
    for number in range(3):
        book.add(number, "right" * 20)
    whole = path.read_bytes()
    path.write_bytes(whole + b'[3, "ri')  # killed in the middle of a line
    with room_for(len(whole) // 2):
        book = Checkpoint(path, KEY, RANKS)  # writes nothing
        assert set(book.done) == {0, 1, 2}
        assert path.read_bytes() == whole
        with pytest.raises(BridgeError, match=r"cannot write .*c\.jsonl: File too large; the batc"):
            book.add(3, "right")
    with room_for(len(whole) + 5), pytest.raises(BridgeError, match="are kept there"):
        book.add(3, "right")
    assert path.read_bytes().startswith(whole)
    Checkpoint(path, KEY, RANKS).add(3, "right")
    assert set(Checkpoint(path, KEY, RANKS).done) == {0, 1, 2, 3}


def test_a_checkpoint_is_resumed_without_writing_it_anew(tmp_path):
    path = tmp_path / "c.jsonl"
    Checkpoint(path, KEY, RANKS).add(0, "right")
    before = path.stat()
    Checkpoint(path, KEY, RANKS)
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)


def test_a_checkpoint_begins_with_a_whole_line_or_not_at_all(tmp_path):
    path = tmp_path / "c.jsonl"
    with room_for(5), pytest.raises(BridgeError, match=r"cannot write .*c\.jsonl: File too large"):
        Checkpoint(path, KEY, RANKS)
    assert not list(tmp_path.iterdir())
    path.write_text("not written by a run")
    with pytest.raises(BridgeError, match="is no checkpoint; choose another folder or delete it"):
        Checkpoint(path, KEY, RANKS)
    assert path.read_text() == "not written by a run"


def test_a_ledger_begins_with_a_whole_line_or_not_at_all(tmp_path):
    ledger, run = Ledger(tmp_path / "l.jsonl"), {"what": "search", "model": "m", "fingerprint": "f"}
    with room_for(20), pytest.raises(BridgeError, match=r"cannot write .*l\.jsonl: File too large"):
        ledger.spend(["a"], 0.03, key="1", **run)
    assert not ledger.path.exists()
    assert ledger.spend(["a"], 0.03, key="1", **run).delta == 0.03
    whole = ledger.path.read_bytes()
    with room_for(len(whole) + 20), pytest.raises(BridgeError, match="cannot use the ledger"):
        ledger.spend(["b"], 0.03, key="2", **run)
    assert ledger.path.read_bytes().startswith(whole)
    assert ledger.spend(["b"], 0.03, key="2", **run).before == 0
    ledger.path.write_bytes(b"")  # as good as none
    assert ledger.spend(["a"], 0.03, key="1", **run).delta == 0.03
