"""The audited requests of a monitor: an append-only file beside its state."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.audit import request_digest

#: A line is the digest of an id, a blank, 1 if the answer changed, else 0, and a line feed.
_DIGEST = len(request_digest("any"))
_LINE = _DIGEST + 3
#: The chain of no lines.
START = "0" * 64

#: Digest of an id (`request_digest`), and whether its answer changed.
Outcome = tuple[str, bool]


def chained(chain: str, outcomes: Iterable[Outcome]) -> str:
    """The checksum of some lines and all before them: of each, SHA-256 of the last one and it.

    Example:
        >>> both = [("a" * 24, True), ("b" * 24, False)]
        >>> chained(chained(START, both[:1]), both[1:]) == chained(START, both)
        True
    """
    link = bytes.fromhex(chain)
    for outcome in outcomes:
        link = hashlib.sha256(link + _line(outcome)).digest()
    return link.hex()


class Seen:
    """The lines of the file that its monitor has counted, in memory.

    Lines behind those that the state counts are of a writer that was killed before it stored its
    state: they are not read, and the next writer removes them. Who reads or writes holds the lock
    of the monitor.

    Args:
        path: of the monitor; the file is `<its name>.seen`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.seen")
        self._changed: dict[bytes, bool] = {}
        self._chain = START

    def __len__(self) -> int:
        return len(self._changed)

    def get(self, digest: str) -> bool | None:
        """Whether the answer of a request changed; None if it was not seen."""
        return self._changed.get(bytes.fromhex(digest))

    def check_new(self) -> None:
        """Raise a `BridgeError` if there are lines, for a monitor that has no state yet."""
        if self.path.exists():
            raise BridgeError(
                f"{self.path} lies beside no monitor; restore the state that belongs to it, or "
                "delete it, or name another file for the monitor"
            )

    def read_up_to(self, count: int, chain: str) -> None:
        """Read the lines that are not in memory yet, up to line `count`.

        Raises:
            BridgeError: there are fewer, or their checksum is not `chain`.
        """
        if len(self) and not self._is(count, chain):
            self._read_rest(count)
        if not self._is(count, chain):  # the first time, or another monitor is in its place
            self._changed, self._chain = {}, START
            self._read_rest(count)
        if not self._is(count, chain):
            raise BridgeError(
                f"{self.path} was changed since it was written, or is of another monitor; restore "
                "it, or start another monitor"
            )

    def _is(self, count: int, chain: str) -> bool:
        return (len(self), self._chain) == (count, chain)

    def _read_rest(self, count: int) -> None:
        """Read lines up to `count` behind those in memory, if there are fewer."""
        if len(self) < count:
            data = self._bytes(len(self) * _LINE, count * _LINE)
            lines = (data[at : at + _LINE] for at in range(0, len(data), _LINE))
            self._remember([_outcome(line, self.path) for line in lines])

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Write lines behind those in memory, on the disk when this returns."""
        with self.path.open("r+b" if self.path.exists() else "w+b") as handle:
            handle.truncate(len(self) * _LINE)
            handle.seek(0, os.SEEK_END)
            handle.write(b"".join(map(_line, outcomes)))
            handle.flush()
            os.fsync(handle.fileno())

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Take lines that were appended, and whose state was stored, into memory."""
        self._remember(outcomes)

    def _remember(self, outcomes: Sequence[Outcome]) -> None:
        self._chain = chained(self._chain, outcomes)
        self._changed.update((bytes.fromhex(digest), changed) for digest, changed in outcomes)

    def _bytes(self, start: int, stop: int) -> bytes:
        try:
            with self.path.open("rb") as handle:
                handle.seek(start)
                data = handle.read(stop - start)
        except FileNotFoundError:
            data = b""
        if len(data) < stop - start:
            raise BridgeError(
                f"{self.path} lacks requests that its monitor has counted; restore it, or start "
                "another monitor"
            )
        return data


def _line(outcome: Outcome) -> bytes:
    digest, changed = outcome
    return f"{digest} {changed:d}\n".encode("ascii")


def _outcome(line: bytes, path: Path) -> Outcome:
    """What a line says; `_line` must give the same line."""
    outcome = line[:_DIGEST].decode("ascii", "replace"), line[_DIGEST + 1 : _DIGEST + 2] == b"1"
    try:
        bytes.fromhex(outcome[0])
        same = _line(outcome) == line
    except ValueError:
        same = False
    if not same:
        raise BridgeError(f"{path} holds other lines than those of a monitor: {line!r:.60}")
    return outcome
