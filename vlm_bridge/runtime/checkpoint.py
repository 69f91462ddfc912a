"""Checkpoints: finished batches in JSON lines, from which a rerun continues.

The first line identifies the run; one line per finished batch follows. Rank 0 writes the named
file, every other rank a file beside it; a rerun reads them all, so the number of ranks may change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.distributed import Ranks


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
    beside_it = path.parent.glob(f"{path.stem}-rank*{path.suffix}")
    return [file for file in (path, *sorted(beside_it)) if file.is_file()]


class Checkpoint:
    """Finished batches of a run by number, and the file to which this rank adds its own."""

    def __init__(self, path: Path | None, key: dict[str, Any], ranks: Ranks) -> None:
        self.done: dict[int, Any] = {}
        self._mine: Path | None = None
        if path is None:
            return
        for file in of_all_ranks(path):
            self.done |= _read(file, key)
        self._mine = beside(path, ranks.rank)
        ranks.gather(b"")  # no rank writes before all have read
        text = self._mine.read_text(encoding="utf-8") if self._mine.is_file() else ""
        whole_lines = text[: text.rfind("\n") + 1]  # a killed run may leave half a line
        self._mine.parent.mkdir(parents=True, exist_ok=True)
        self._mine.write_text(whole_lines or json.dumps(key) + "\n", encoding="utf-8")

    def add(self, number: int, result: Any) -> None:
        """Append one finished batch to this rank's file."""
        if self._mine is not None:
            with self._mine.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps([number, result]) + "\n")


def difference(stored: Any, key: dict[str, Any]) -> str:
    """In which fields the stored key of a run differs from the key of this run, with both values.

    >>> difference({"model": "a", "fingerprint": "0" * 64}, {"model": "a", "fingerprint": "1" * 64})
    'fingerprint 000000000000 there, 111111111111 here'
    """
    there = stored if isinstance(stored, dict) else {}

    def short(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return text[:12] if len(text) > 40 else text

    return ", ".join(
        f"{name} {short(there.get(name))} there, {short(key.get(name))} here"
        for name in dict.fromkeys((*key, *there))
        if there.get(name) != key.get(name)
    )


def _read(path: Path, key: dict[str, Any]) -> dict[int, Any]:
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    if not lines:
        return {}
    try:
        stored_key, *rows = (json.loads(line) for line in lines)
    except json.JSONDecodeError:
        raise BridgeError(f"{path} is no checkpoint; choose another folder or delete it") from None
    if stored_key != key:
        raise BridgeError(
            f"{path} belongs to another run ({difference(stored_key, key)}); "
            "choose another folder or delete it"
        )
    return {int(number): result for number, result in rows}
