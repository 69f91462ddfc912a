"""`Ledger`: what certificates have spent on which images, in a file of JSON lines."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.distributed import sharing
from vlm_bridge.runtime.files import read_bytes, write_bytes
from vlm_bridge.runtime.ledger_entries import (
    TEXTS,
    Entry,
    checksum,
    covers,
    entry_of,
    family_of,
    listed,
    share,
    spent_by,
)
from vlm_bridge.runtime.locking import locked

#: Largest ledger that is read or written.
MAX_LEDGER_BYTES = 2**28


@dataclass(frozen=True)
class Spending:
    """What a ledger grants to one search or certification.

    Attributes:
        delta: probability of error that it may use; at most what was asked for.
        before: delta spent on these images by others.
        total: delta that may be spent on them altogether.
        path: of the ledger.
    """

    delta: float
    before: float
    total: float
    path: Path

    def __str__(self) -> str:
        return (
            f"by the ledger {self.path}, delta {self.delta:g} of {self.total:g} is spent here on "
            f"this data and {self.before:g} before"
        )


class NothingLeft(BridgeError):
    """All delta of these images is spent; only a run that is in the ledger costs nothing."""


class _Content(NamedTuple):
    """What a file holds: its total, entries, last checksum, and number of bytes of whole lines."""

    total: float | None = None
    entries: Sequence[Entry] = ()
    last: str = ""
    whole: int = 0
    newline: str = ""  # what the last line lacks


class Ledger:
    """A file that knows which images have certified something, and at which delta.

    The promise: certificates that are linked by shared images are a family, whatever model or plan
    they are about. Of each family, any certificate at all is wrong with probability at most the
    ledger's total delta. This is the union bound: the deltas of a family add up to at most the
    total. A search or certification gets the delta that it asks for, or what is left of the total,
    or is refused if nothing is left. Deltas are spent before an answer of a skipping model is
    looked at, so a run that is killed, or whose certificate does not hold, has spent its delta too.
    The same run again (same weights, questions, plans and settings) costs nothing, because it can
    only repeat its result. An anytime certificate that adds images keeps its delta, since it is
    wrong at any time at all with that probability: it counts once, with all of its images.

    What it cannot see, every certificate assumes: that a plan does not depend on earlier results on
    these images. A plan that names them (`SkipPlan.provenance`) is refused. For plans in words the
    promise holds if they were written down before the first result on these images was read.

    The file only grows. Every line carries a checksum that covers all lines before it. A lock
    file beside it (`.lock`) admits one process at a time.

    Args:
        path: the file; made by the first spending.
        delta: total of each family. None: that of the file or, for a new file, the delta that the
            first spending asks for.

    Raises:
        BridgeError: delta outside (0, 1).

    Example:
        >>> import tempfile
        >>> ledger = Ledger(Path(tempfile.mkdtemp()) / "ledger.jsonl", delta=0.05)
        >>> run = {"what": "search", "model": "m", "fingerprint": "f"}
        >>> ledger.spend(["a", "b"], 0.03, key="1", **run).delta
        0.03
        >>> ledger.spend(["b", "c"], 0.03, key="2", **run).delta
        0.02
        >>> ledger.spend(["c"], 0.03, key="3", **run)
        Traceback (most recent call last):
        vlm_bridge.runtime.ledger.NothingLeft: the ledger ...ledger.jsonl leaves no delta ...
    """

    def __init__(self, path: str | Path, *, delta: float | None = None) -> None:
        total = None if delta is None else share(delta, "the total delta of a ledger")
        self.path, self.delta = Path(path), total

    @classmethod
    def of(cls, ledger: Ledger | str | Path) -> Self | Ledger:
        """A ledger itself, or that of a file."""
        return ledger if isinstance(ledger, Ledger) else cls(ledger)

    def spend(
        self,
        images: Collection[str],
        delta: float,
        *,
        key: str,
        what: str,
        model: str,
        fingerprint: str,
    ) -> Spending:
        """Spend up to `delta` on some images; under `torchrun` rank 0 does so for all ranks.

        Args:
            images: their identities; see `vlm_bridge.data.image_ids`.
            delta: wanted probability of error, in (0, 1).
            key: of the run; an entry with this key is returned as it is.
            what: kind of run, as "search".
            model: name of the model.
            fingerprint: of the model.

        Raises:
            BridgeError: nothing is left, there are no images, an argument is of another type or
                out of range, the file is no ledger, is broken or of another total, or it cannot be
                written.
        """
        run = {"key": key, "what": what, "model": model, "fingerprint": fingerprint}
        return self._on_one_rank(self._spend, images, delta, **run)

    def granted(self, images: Collection[str], delta: float, **run: str) -> Spending:
        """What `spend` with these arguments would return; nothing is spent or written.

        Raises:
            BridgeError: as `spend`.
        """
        return self._on_one_rank(self._granted, images, delta, **run)

    def _on_one_rank(
        self,
        count: Callable[[Entry], Spending],
        images: Collection[str],
        delta: float,
        **run: str,
    ) -> Spending:
        """What `count` makes of a spending, on rank 0 for all ranks."""
        if not images:
            raise BridgeError("a ledger counts images, and there are none")
        known = images if isinstance(images, str) else list(images)
        entry = entry_of({**run, "images": known, "delta": delta}, "a spending")
        with sharing() as ranks:
            mine = count(entry) if ranks.rank == 0 else None
            spending = ranks.gather(mine)[0]
        assert spending is not None
        return spending

    def _spend(self, entry: Entry) -> Spending:
        with locked(self.path, "ledger"):
            return self._spend_alone(entry)

    def _granted(self, entry: Entry) -> Spending:
        try:
            return self._share_of(entry, self._read())[0]
        except OSError as error:
            raise BridgeError(f"cannot use the ledger {self.path}: {error.strerror}") from None

    def _spend_alone(self, entry: Entry) -> Spending:
        """`spend`, while no other process reads or writes the file."""
        content = self._read()
        spending, is_new = self._share_of(entry, content)
        if content.total is None:
            content = self._append(content, {"type": "Ledger", "delta": spending.total})
        if is_new:
            body = {name: getattr(entry, name) for name in TEXTS}
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            body |= {"images": sorted(entry.images), "delta": spending.delta, "at": now}
            self._append(content, body)
        return spending

    def _share_of(self, entry: Entry, content: _Content) -> tuple[Spending, bool]:
        """What the ledger grants to an entry, and whether the entry is new."""
        total = (self.delta or entry.delta) if content.total is None else content.total
        if self.delta not in (None, total):
            raise BridgeError(
                f"the ledger {self.path} has a total delta of {total:g}, not {self.delta:g}; "
                "it was fixed when the ledger was made"
            )
        family = family_of(content.entries, entry.images)
        mine = [known for known in family if known.key == entry.key]
        others = [known for known in family if known.key != entry.key]
        before = spent_by(others)
        left = round(total - before, 12)
        if mine:
            if covers(mine, entry, self.path):
                return Spending(mine[0].delta, round(before, 12), total, self.path), False
            if mine[0].delta > left:
                raise NothingLeft(
                    f"the ledger {self.path} leaves {left:g} of {total:g} for this data: "
                    f"{listed(others)} used the images that are new here; add images that "
                    "nothing was certified on"
                )
            return Spending(mine[0].delta, round(before, 12), total, self.path), True
        if left <= 0:
            raise NothingLeft(
                f"the ledger {self.path} leaves no delta for this data: {listed(family)} "
                f"spent {before:g} of {total:g} on what they share; use new data, or plan "
                "ahead for several certificates: a new ledger (--ledger) with a larger total "
                "(--ledger-delta), named before the first result is read"
            )
        return Spending(min(entry.delta, left), round(before, 12), total, self.path), True

    def _append(self, content: _Content, body: dict[str, Any]) -> _Content:
        """Write a line behind the whole lines of the file; its content then, but for entries."""
        check = checksum(content.last, body)
        line = json.dumps({**body, "check": check}, allow_nan=False)
        data = f"{content.newline}{line}\n".encode()
        whole = content.whole + len(data)
        if whole > MAX_LEDGER_BYTES:
            raise BridgeError(f"the ledger {self.path} is full ({MAX_LEDGER_BYTES >> 20} MiB)")
        if not content.whole:  # half a first line would be no ledger, and refused ever after
            write_bytes(self.path, data)
            return content._replace(last=check, whole=whole)
        with self.path.open("ab") as handle:
            handle.truncate(content.whole)  # half a line of a killed process has granted nothing
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        return content._replace(last=check, whole=whole, newline="")

    def _read(self) -> _Content:
        """The content of the file; a last line without a newline counts if it is complete."""
        if not self.path.exists():
            return _Content()
        data = read_bytes(self.path, "ledger", limit=MAX_LEDGER_BYTES)
        lines, whole, newline = data.split(b"\n"), len(data), ""
        if not lines[-1]:
            lines.pop()
        elif len(lines) > 1 and not _is_json(lines[-1]):
            whole -= len(lines.pop())
        else:
            newline = "\n"
        total: float | None = None
        entries: list[Entry] = []
        last = ""
        for number, line in enumerate(lines, start=1):
            body = self._parsed(line, number, last)
            last = body.pop("check")
            where = f"{self.path}:{number}"
            if number > 1:
                entries.append(entry_of(body, where))
            elif body.get("type") == "Ledger":
                total = share(body.get("delta"), f"{where}: the total delta")
            else:
                raise BridgeError(f"{self.path} is no ledger; name another file")
        return _Content(total, entries, last, whole, newline)

    def _parsed(self, line: bytes, number: int, last: str) -> dict[str, Any]:
        try:
            body = json.loads(line)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("check"), str):
            raise BridgeError(f"{self.path}:{number} is no line of a ledger; name another file")
        unchecked = {name: value for name, value in body.items() if name != "check"}
        if body["check"] != checksum(last, unchecked):
            raise BridgeError(
                f"{self.path}:{number}: this line, or one before it, was changed or taken out; "
                "what was spent is not known any more: restore the file, or use new data"
            )
        return body


def run_hash(**facts: Any) -> str:
    """The key of a run: SHA-256 of everything that determines its result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_json(line: bytes) -> bool:
    """Whether a line can be parsed; the line of a process killed while writing it cannot."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
