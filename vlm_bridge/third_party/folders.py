"""The converted folder of a model or data set: fetched on request, verified on every use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name

from vlm_bridge.errors import BridgeError, first_line
from vlm_bridge.runtime.built_folder import build_once, is_unchanged
from vlm_bridge.runtime.files import write_bytes, write_record
from vlm_bridge.runtime.quiet import quiet_transformers
from vlm_bridge.third_party.card import card
from vlm_bridge.third_party.catalogue import find_entry
from vlm_bridge.third_party.entry import Entry
from vlm_bridge.third_party.fetch import at_hand, source_folder
from vlm_bridge.third_party.places import converted_place
from vlm_bridge.third_party.unpack import files_of

#: Files of every converted folder beside its content.
CARD, RECORD = "CARD.md", "third_party.json"


def model_folder(name: str) -> Path:
    """The folder of a fetched model, as transformers' `from_pretrained` takes it.

    It is converted on first use if its archives are on this machine; nothing is downloaded.

    Raises:
        BridgeError: no such model, or it was not fetched.

    Example:
        >>> model_folder("whisper-tiny.en").name  # doctest: +SKIP
        'whisper-tiny.en-1-41d0a4c7b8de'
    """
    return _local(find_entry(name, "model"))


def dataset_folder(name: str) -> Path:
    """The folder of a fetched data set; its `CARD.md` says what it holds.

    It is converted on first use if its archives are on this machine; nothing is downloaded.

    Raises:
        BridgeError: no such data set, or it was not fetched.

    Example:
        >>> (dataset_folder("librivox") / "manifest.jsonl").is_file()  # doctest: +SKIP
        True
    """
    return _local(find_entry(name, "data"))


def get(name: str, given: Path | None = None) -> Path:
    """Fetch and convert a model or data set; returns its folder, at once if it is there.

    Args:
        name: of the catalogue.
        given: a folder with its archives, or one in which they are installed; without it they are
            downloaded unless they are on this machine.

    Raises:
        BridgeError: no such name; an archive cannot be downloaded, or is not the pinned one.
    """
    entry = find_entry(name)
    folder = converted_place(entry)
    if is_unchanged(folder):
        return folder
    return _convert(entry, [source_folder(archive, given) for archive in entry.archives])


def _local(entry: Entry) -> Path:
    folder = converted_place(entry)
    if is_unchanged(folder):
        return folder
    roots = [at_hand(archive) for archive in entry.archives]
    if None in roots:
        why = "was changed after it was converted" if folder.exists() else "is not fetched"
        raise BridgeError(f"{entry.name} {why}; run: skipit models get {entry.name}")
    return _convert(entry, [root for root in roots if root is not None])


def _convert(entry: Entry, roots: list[Path]) -> Path:
    files = {
        name: root / name
        for archive, root in zip(entry.archives, roots, strict=True)
        for member in archive.members
        for name in files_of(root, member)
    }
    convert: Callable[[Mapping[str, Path], Path], None] = resolve_name(
        f"vlm_bridge.third_party.{entry.conversion}:convert"
    )

    def build(folder: Path) -> None:
        try:
            with quiet_transformers():
                convert(files, folder)
        except OSError as error:
            raise BridgeError(f"cannot convert {entry.name}: {first_line(error)}") from None
        write_bytes(folder / CARD, card(entry, sorted(folder.rglob("*")), folder).encode())
        write_record(folder / RECORD, entry)

    return build_once(converted_place(entry), build, title=f"converting {entry.name}, once")
