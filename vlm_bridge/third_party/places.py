"""Where the cache keeps what comes from others."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vlm_bridge.runtime.files import cache_root
from vlm_bridge.third_party.entry import Archive, Entry

_LAYOUT = "1"  # version of what conversions write


def is_fetched(entry: Entry) -> bool:
    """Whether its converted folder is in the cache; the files are verified when they are used."""
    return converted_place(entry).is_dir()


def converted_place(entry: Entry) -> Path:
    """The folder of a converted model or data set; its name changes with its entry."""
    digest = hashlib.sha256(entry.dumps().encode()).hexdigest()
    return _kept() / f"{entry.name}-{_LAYOUT}-{digest[:12]}"


def source_place(archive: Archive) -> Path:
    """The folder with the members of an archive."""
    return _kept() / f"source-{archive.package}-{archive.version}-{archive.sha256[:12]}"


def _kept() -> Path:
    return cache_root() / "third-party"
