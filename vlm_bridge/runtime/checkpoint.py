"""Checkpoints: finished batches in JSON lines, from which a rerun continues.

The first line identifies the run; one line per finished batch follows, with its checksum. Rank 0
writes the named file, every other rank a file beside it; a rerun reads them all, so the number of
ranks may change.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.distributed import Ranks
from vlm_bridge.runtime.files import check_writable, read_bytes, write_bytes
from vlm_bridge.runtime.strict_json import parse_json

#: Largest checkpoint that is read.
MAX_CHECKPOINT_BYTES = 2**30


def kept_in(checkpoint: Path | None) -> str:
    """End of a `RankError`: which results are saved, and how to continue."""
    if checkpoint is None:
        return "finished batches are not saved, because no checkpoint was given"
    return f"finished batches are saved in {checkpoint}; the same command resumes from there"


def beside(path: Path, rank: int) -> Path:
    """The file to which a rank writes: `path` itself for rank 0.

    >>> beside(Path("out/checkpoint.jsonl"), 2).name
    'checkpoint-rank2.jsonl'
    """
    return path if rank == 0 else path.with_name(f"{path.stem}-rank{rank}{path.suffix}")


def of_all_ranks(path: Path) -> list[Path]:
    """The existing files among `path` and those that other ranks wrote beside it."""
    start, end = f"{path.stem}-rank", path.suffix
    beside_it = path.parent.iterdir() if path.parent.is_dir() else ()
    others = (
        file
        for file in beside_it
        if file.name.startswith(start)
        and file.name.endswith(end)
        and file.name[len(start) : len(file.name) - len(end)].isdecimal()
    )
    return [file for file in (path, *sorted(others)) if file.is_file()]


class Checkpoint:
    """Finished batches of a run by number, and the file to which this rank adds its own.

    A file only grows, but for half a line that a killed run left at its end: whenever a run stops,
    or the disk is full, the batches whose lines were written are kept.
    """

    def __init__(self, path: Path | None, key: dict[str, Any], ranks: Ranks) -> None:
        self.done: dict[int, Any] = {}
        self._places: dict[int, str] = {}
        self._mine: Path | None = None
        if path is None:
            return
        for file in of_all_ranks(path):
            for place, (number, result) in _read(file, key).items():
                self.done[number] = result
                self._places[number] = f"{file}:{place}"
        self._mine = check_writable(beside(path, ranks.rank))
        ranks.gather(b"")  # no rank writes before all have read
        self._begin(self._mine, key)

    def _begin(self, mine: Path, key: dict[str, Any]) -> None:
        """Make this rank's file end with a whole line, to which `add` can append."""
        whole = _whole(_bytes_of(mine)) if mine.is_file() else b""
        if not whole:
            write_bytes(mine, f"{json.dumps(key)}\n".encode())
            return
        try:
            os.truncate(mine, len(whole))
        except OSError as error:
            raise BridgeError(f"cannot write {mine}: {error.strerror}") from None

    def check(self, is_result: Callable[[int, Any], bool]) -> None:
        """Refuse a stored batch of which `is_result`, of its number and its result, is False."""
        for number, result in self.done.items():
            if not is_result(number, result):
                raise BridgeError(
                    f"{self._places[number]} holds no result of a batch of this run; "
                    "delete the file"
                )

    def add(self, number: int, result: Any) -> None:
        """Append one finished batch to this rank's file.

        Raises:
            BridgeError: the file cannot be written; it keeps the batches added before.
        """
        if self._mine is None:
            return
        try:
            with self._mine.open("a", encoding="utf-8") as handle:
                handle.write(_line(number, result))
        except OSError as error:
            raise BridgeError(
                f"cannot write {self._mine}: {error.strerror}; the batches finished before are "
                "kept there, and the same command resumes from them"
            ) from None


def _line(number: int, result: Any) -> str:
    """The line of a finished batch: its number, its result, and the checksum of both."""
    return json.dumps([number, result, _checksum(number, result)]) + "\n"


def _checksum(number: int, result: Any) -> int:
    return zlib.crc32(json.dumps([number, result]).encode())


def _bytes_of(path: Path) -> bytes:
    return read_bytes(path, "checkpoint", limit=MAX_CHECKPOINT_BYTES)


def _whole(data: bytes) -> bytes:
    """The whole lines of a file; a killed run may leave half a line, which is no line."""
    return data[: data.rfind(b"\n") + 1]


def difference(stored: Any, key: dict[str, Any]) -> str:
    """In which fields the stored key of a run differs from the key of this run, with both values.

    >>> difference({"model": "a", "fingerprint": "0" * 64}, {"model": "a", "fingerprint": "1" * 64})
    'fingerprint 000000000000 there, 111111111111 here'
    """
    there = stored if isinstance(stored, dict) else {}

    def short(value: Any) -> str:
        text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
        return text[:12] if len(text) > 40 else text

    return ", ".join(
        f"{short(name)} {short(there.get(name))} there, {short(key.get(name))} here"
        for name in dict.fromkeys((*key, *there))
        if json.dumps(there.get(name)) != json.dumps(key.get(name))
    )


def _read(path: Path, key: dict[str, Any]) -> dict[int, tuple[int, Any]]:
    """Number and result of the finished batches in a file, by line.

    A file of another run or with a broken line is refused.
    """
    done: dict[int, tuple[int, Any]] = {}
    data = _bytes_of(path)
    try:
        lines = _whole(data).decode().split("\n")[:-1]
    except UnicodeDecodeError:
        lines = []
    if data and not lines:
        raise BridgeError(f"{path} is no checkpoint; choose another folder or delete it")
    for place, line in enumerate(lines, start=1):
        broken = f"{path}:{place} is no line of a checkpoint; choose another folder or delete it"
        try:
            stored = parse_json(line, allow_nan=True)
        except ValueError as error:
            raise BridgeError(f"{broken} ({error})") from None
        if place == 1:
            if json.dumps(stored, sort_keys=True) != json.dumps(key, sort_keys=True):
                raise BridgeError(
                    f"{path} belongs to another run ({difference(stored, key)}); "
                    "choose another folder or delete it"
                )
            continue
        if not isinstance(stored, list) or len(stored) != 3 or type(stored[0]) is not int:
            raise BridgeError(broken)
        number, result, checksum = stored
        if checksum != _checksum(number, result):
            raise BridgeError(f"{path}:{place} was changed since it was written; delete the file")
        done[place] = number, result
    return done
