"""The reference models as ordinary model folders, built once in the user's cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from rich.console import Console
from safetensors import SafetensorError

from vlm_bridge.errors import BridgeError
from vlm_bridge.reference.build import build, read_parts
from vlm_bridge.reference.language_model import GGUF_SHA256
from vlm_bridge.reference.recipe import RECIPES, on_smollm2
from vlm_bridge.reference.shipped import PARTS, check_name, shipped
from vlm_bridge.runtime.files import cache_root, new_folder, read_json, write_json
from vlm_bridge.runtime.progress import waiting

_LAYOUT = "2"  # version of the folder's content
#: File of a built folder with the SHA-256 of every other file.
_HASHES = "sha256.json"


def reference_folder(name: str = "reference", parts: Path | None = None) -> Path:
    """The folder of a reference model, built on the first call (at most about 20 s).

    The name of the folder contains the hashes of the language model, if there is one, and of the
    trained parts, so that changed parts are built anew. Every file is compared with its hash when
    the folder is used; a folder with a changed, missing or added file is built again. `parts` is a
    file of `train` that replaces the shipped one.
    """
    check_name(name)
    if parts is None:
        with shipped(name, PARTS) as path:
            return _convert(name, path)
    return _convert(name, parts)


def _convert(name: str, parts: Path) -> Path:
    if not parts.is_file():
        raise BridgeError(
            f"the trained parts of {name} are missing at {parts}; train them with: "
            f"python -m vlm_bridge.training train {name}"
        )
    language_model = [GGUF_SHA256[:12]] if on_smollm2(RECIPES[name]) else []
    digest = hashlib.sha256(parts.read_bytes()).hexdigest()[:12]
    folder = cache_root() / "-".join([name, _LAYOUT, *language_model, digest])
    if is_unchanged(folder):
        return folder
    try:
        tensors = read_parts(parts)
    except SafetensorError as error:
        raise BridgeError(f"the weights file {parts} is broken: {error}") from None
    title = f"building {name}, once (about 20 s)"
    if folder.exists():
        said = f"{folder} was changed after it was built; it is built again"
        console = Console(stderr=True, force_jupyter=False)
        console.print(said, markup=False, highlight=False, soft_wrap=True)
        _remove(folder)
    with waiting(title), new_folder(folder, cached=True) as partial:
        for part in build(RECIPES[name], tensors):
            part.save_pretrained(partial)
        write_json(partial / _HASHES, _hashes(partial))
    return folder


def is_unchanged(folder: Path) -> bool:
    """Whether a built folder holds the files that were written into it, byte for byte."""
    try:
        written = read_json(folder / _HASHES, "list of hashes")
    except BridgeError:
        return False
    return bool(written == _hashes(folder))


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder but the list of hashes, by its name in the folder."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _HASHES:
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _remove(folder: Path) -> None:
    """Move a folder away, so that no other process finds half of it, and delete it."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
            os.replace(folder, Path(aside) / folder.name)
    except FileNotFoundError:
        pass  # another process has removed it
    except OSError as error:
        raise BridgeError(f"cannot rebuild {folder}: {error.strerror}; delete it") from None
