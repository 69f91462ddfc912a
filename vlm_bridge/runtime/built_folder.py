"""A folder that is built once, with the hash of every file, and compared with it when used."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

from rich.console import Console

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import new_folder, read_json, write_json

#: File of a built folder with the SHA-256 of every other file.
HASHES = "sha256.json"


def build_once(folder: Path, build: Callable[[Path], None], title: str = "") -> Path:
    """The folder, unchanged as it was built; `build` fills an empty one if there is none.

    A folder with a changed, missing or added file is removed and built again, which is said on
    standard error. The folder is complete or absent, whenever the process is killed.

    Args:
        folder: where it is, or will be.
        build: writes the files of the folder into the empty folder that it is given.
        title: what a spinner says while `build` runs; no spinner if empty.

    Raises:
        BridgeError: the folder cannot be written or removed, or `build` raises it.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> def build(folder): _ = (folder / "a.txt").write_text("a")
        >>> sorted(path.name for path in build_once(root / "built", build).iterdir())
        ['a.txt', 'sha256.json']
    """
    if is_unchanged(folder):
        return folder
    if folder.exists():
        said = f"{folder} was changed after it was built; it is built again"
        console = Console(stderr=True, force_jupyter=False)
        console.print(said, markup=False, highlight=False, soft_wrap=True)
        _remove(folder)
    with new_folder(folder, cached=True) as partial:
        if title:
            waiting = resolve_name("vlm_bridge.runtime.progress:waiting")  # it imports torch
            with waiting(title):
                build(partial)
        else:
            build(partial)
        write_json(partial / HASHES, _hashes(partial))
    return folder


def is_unchanged(folder: Path) -> bool:
    """Whether a built folder holds the files that were written into it, byte for byte."""
    try:
        written = read_json(folder / HASHES, "list of hashes")
    except BridgeError:
        return False
    return bool(written == _hashes(folder))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder but the list of hashes, by its name in the folder."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / HASHES
    }


def _remove(folder: Path) -> None:
    """Move a folder away, so that no other process finds half of it, and delete it."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
            os.replace(folder, Path(aside) / folder.name)
    except FileNotFoundError:
        pass  # another process has removed it
    except OSError as error:
        raise BridgeError(f"cannot rebuild {folder}: {error.strerror}; delete it") from None
