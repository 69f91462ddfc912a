"""`Ledger`: what certificates have spent on which images, in a file of JSON lines."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.runtime.distributed import sharing
from vlm_bridge.runtime.files import check_writable

#: How long another process may hold the ledger; it needs milliseconds.
LOCK_S = 60.0
_FIELDS = {"what": str, "model": str, "fingerprint": str, "key": str, "images": list, "at": str}


@dataclass(frozen=True)
class Spending:
    """What a ledger grants to one search or certification.

    Attributes:
        delta: probability of error that it may use; at most what was asked for.
        before: delta spent on these images by others.
        total: delta that may be spent on them altogether.
    """

    delta: float
    before: float
    total: float

    def __str__(self) -> str:
        return (
            f"by the ledger, delta {self.delta:g} of {self.total:g} is spent here on these images "
            f"and {self.before:g} before"
        )


@dataclass(frozen=True)
class _Entry:
    what: str
    model: str
    fingerprint: str
    key: str
    images: frozenset[str]
    delta: float


class Ledger:
    """A file that knows which images have certified something, and at which delta.

    The promise: certificates that are linked by shared images are a family, whatever model or plan
    they are about. Of each family, any certificate at all is wrong with probability at most the
    ledger's total delta. This is the union bound: the deltas of a family add up to at most the
    total. A search or certification gets the delta that it asks for, or what is left of the total,
    or is refused if nothing is left. Deltas are spent before an answer is looked at, so a run that
    is killed, or whose certificate does not hold, has spent its delta too. The same run again (same
    weights, questions, plans and settings) costs nothing, because it can only repeat its result.

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
        vlm_bridge.errors.BridgeError: the ledger ledger.jsonl leaves no delta for these images: ...
    """

    def __init__(self, path: str | Path, *, delta: float | None = None) -> None:
        if delta is not None and not 0 < delta < 1:
            raise BridgeError(f"the total delta of a ledger must lie in (0, 1), got {shown(delta)}")
        self.path, self.delta = Path(path), delta

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
            BridgeError: nothing is left, there are no images, the file is broken or of another
                total, or it cannot be written.
        """
        if not images:
            raise BridgeError("a ledger counts images, and there are none")
        entry = _Entry(what, model, fingerprint, key, frozenset(images), delta)
        with sharing() as ranks:
            mine = self._spend(entry) if ranks.rank == 0 else None
            spending = ranks.gather(mine)[0]
        assert spending is not None
        return spending

    def _spend(self, entry: _Entry) -> Spending:
        check_writable(self.path)
        try:
            with FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=LOCK_S):
                return self._spend_alone(entry)
        except Timeout:
            raise BridgeError(
                f"another process holds the ledger {self.path} for more than {LOCK_S:g} s"
            ) from None
        except OSError as error:
            raise BridgeError(f"cannot use the ledger {self.path}: {error.strerror}") from None

    def _spend_alone(self, entry: _Entry) -> Spending:
        """`spend`, while no other process reads or writes the file."""
        total, entries, last, whole = self._read()
        if total is None:
            total = self.delta or entry.delta
            last, whole = self._append(0, "", {"type": "Ledger", "delta": total})
        if self.delta not in (None, total):
            raise BridgeError(
                f"the ledger {self.path} has a total delta of {total:g}, not {self.delta:g}; "
                "it was fixed when the ledger was made"
            )
        family = _family(entries, entry.images)
        repeated = next((known for known in family if known.key == entry.key), None)
        if repeated is not None:
            others = math.fsum(known.delta for known in family if known is not repeated)
            return Spending(repeated.delta, round(others, 12), total)
        before = math.fsum(known.delta for known in family)
        left = round(total - before, 12)
        if left <= 0:
            raise BridgeError(
                f"the ledger {self.path.name} leaves no delta for these images: {_listed(family)} "
                f"spent {before:g} of {total:g} on images that they share; use new images"
            )
        granted = min(entry.delta, left)
        body = {name: getattr(entry, name) for name in ("what", "model", "fingerprint", "key")}
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        body |= {"images": sorted(entry.images), "delta": granted, "at": now}
        self._append(whole, last, body)
        return Spending(granted, round(before, 12), total)

    def _append(self, whole: int, last: str, body: dict[str, Any]) -> tuple[str, int]:
        """Write a line behind the first `whole` bytes; its checksum, and the bytes then."""
        check = _checksum(last, body)
        line = json.dumps({**body, "check": check}, allow_nan=False) + "\n"
        with self.path.open("ab") as handle:
            handle.truncate(whole)  # a killed process may leave half a line, which granted nothing
            handle.write(line.encode())
            handle.flush()
            os.fsync(handle.fileno())
        return check, whole + len(line.encode())

    def _read(self) -> tuple[float | None, list[_Entry], str, int]:
        """Total, entries, last checksum, and number of bytes of the whole lines."""
        if not self.path.exists():
            return None, [], "", 0
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        total: float | None = None
        entries: list[_Entry] = []
        last = ""
        for number, line in enumerate(content[:whole].split(b"\n")[:-1], start=1):
            body = self._parsed(line, number, last)
            last = body.pop("check")
            if number == 1:
                if body.get("type") != "Ledger":
                    raise BridgeError(f"{self.path} is no ledger; name another file")
                total = self._share(body.get("delta"), number)
            else:
                entries.append(self._entry(body, number))
        return total, entries, last, whole

    def _parsed(self, line: bytes, number: int, last: str) -> dict[str, Any]:
        try:
            body = json.loads(line)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("check"), str):
            raise BridgeError(f"{self.path}:{number} is no line of a ledger; name another file")
        unchecked = {name: value for name, value in body.items() if name != "check"}
        if body["check"] != _checksum(last, unchecked):
            raise BridgeError(
                f"{self.path}:{number}: this line, or one before it, was changed or taken out; "
                "what was spent is not known any more: restore the file, or use new images"
            )
        return body

    def _entry(self, body: dict[str, Any], number: int) -> _Entry:
        for name, kind in _FIELDS.items():
            if not isinstance(body.get(name), kind):
                raise BridgeError(f"{self.path}:{number}: '{name}' is {shown(body.get(name))}")
        return _Entry(
            what=body["what"],
            model=body["model"],
            fingerprint=body["fingerprint"],
            key=body["key"],
            images=frozenset(str(image) for image in body["images"]),
            delta=self._share(body.get("delta"), number),
        )

    def _share(self, value: Any, number: int) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise BridgeError(f"{self.path}:{number}: 'delta' is {shown(value)}, not in (0, 1)")
        return float(value)


def run_hash(**facts: Any) -> str:
    """The key of a run: SHA-256 of everything that determines its result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _family(entries: Iterable[_Entry], images: frozenset[str]) -> list[_Entry]:
    """The entries that are linked to `images` by shared images, directly or by other entries."""
    family: list[_Entry] = []
    left, linked = list(entries), images
    while found := [entry for entry in left if entry.images & linked]:
        family += found
        left = [entry for entry in left if not entry.images & linked]
        linked = linked.union(*(entry.images for entry in found))
    return family


def _listed(entries: list[_Entry]) -> str:
    """The runs of some entries, at most three of them."""

    def words() -> Iterator[str]:
        for entry in entries[:3]:
            yield f"a {entry.what} of {entry.model} ({entry.fingerprint[:12]})"
        if len(entries) > 3:
            yield f"{len(entries) - 3} more"

    return ", ".join(words())


def _checksum(last: str, body: dict[str, Any]) -> str:
    text = last + json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
