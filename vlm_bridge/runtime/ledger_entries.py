"""The entries of a ledger: their types, their checksums, and which are linked by images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError, shown

#: Fields of an entry that hold text.
TEXTS = ("what", "model", "fingerprint", "key")


@dataclass(frozen=True)
class Entry:
    """What one run has spent on which images."""

    what: str
    model: str
    fingerprint: str
    key: str
    images: frozenset[str]
    delta: float


def family_of(entries: Iterable[Entry], images: frozenset[str]) -> list[Entry]:
    """The entries that are linked to `images` by shared images, directly or by other entries."""
    family: list[Entry] = []
    left, linked = list(entries), images
    while found := [entry for entry in left if entry.images & linked]:
        family += found
        left = [entry for entry in left if not entry.images & linked]
        linked = linked.union(*(entry.images for entry in found))
    return family


def spent_by(entries: Iterable[Entry]) -> float:
    """Delta that some entries have spent; a run that has grown by images has spent it once."""
    return math.fsum({entry.key: entry.delta for entry in entries}.values())


def covers(mine: Sequence[Entry], entry: Entry, ledger: Path) -> bool:
    """Whether earlier entries of a run know all images of `entry`, and not just some of them.

    Raises:
        BridgeError: `entry` leaves some of theirs out; a run only grows.
    """
    seen = frozenset[str]().union(*(known.images for known in mine))
    if missing := seen - entry.images:
        raise BridgeError(
            f"the ledger {ledger} knows {len(missing)} more images of this certificate; it only "
            "grows: name them, too, in the order of before"
        )
    return entry.images == seen


def listed(entries: list[Entry]) -> str:
    """The runs of some entries, at most three of them."""

    def words() -> Iterator[str]:
        for entry in entries[:3]:
            yield f"a {entry.what} of {entry.model} ({entry.fingerprint[:12]})"
        if len(entries) > 3:
            yield f"{len(entries) - 3} more"

    return ", ".join(words())


def entry_of(body: dict[str, Any], where: str) -> Entry:
    """The entry with these fields, each of its type; `where` names their place in messages."""
    images = body.get("images")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise BridgeError(f"{where}: 'images' must be a list of text, got {shown(images)}")
    for name in TEXTS:
        if not isinstance(body.get(name), str):
            raise BridgeError(f"{where}: '{name}' must be text, got {shown(body.get(name))}")
    texts = {name: body[name] for name in TEXTS}
    delta = share(body.get("delta"), f"{where}: delta")
    return Entry(**texts, images=frozenset(images), delta=delta)


def share(value: Any, what: str) -> float:
    """A number in (0, 1), as it is; `what` names it in the message."""
    if not isinstance(value, float) or not 0 < value < 1:
        raise BridgeError(f"{what} must lie in (0, 1), got {shown(value)}")
    return float(value)


def checksum(last: str, body: dict[str, Any]) -> str:
    """The checksum of a line and, by the checksum `last` of the line before it, of all before."""
    text = last + json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
