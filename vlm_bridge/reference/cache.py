"""The reference VLM as an ordinary model folder, built once into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from platformdirs import user_cache_path
from rich.console import Console
from safetensors import SafetensorError
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.reference.assemble import install_parts
from vlm_bridge.reference.language_model import GGUF_SHA256
from vlm_bridge.reference.recipe import RECIPE
from vlm_bridge.reference.train import PARTS, blank_reference, read_parts

_LAYOUT = "1"  # change it when what the folder holds changes


def cache_root() -> Path:
    """Where converted models live: `$SKIPIT_CACHE`, else the user's cache folder."""
    override = os.environ.get("SKIPIT_CACHE")
    return Path(override) if override else user_cache_path("skipit")


def reference_folder(parts: Path | None = None) -> Path:
    """The folder of the reference VLM, converted on first call (about 20 s).

    The name holds the hashes of the language model and of the trained parts, so a changed
    part never meets an old conversion. The folder appears in one rename: a killed
    conversion leaves nothing that looks finished.

    Args:
        parts: another parts file than the shipped one, as training leaves it.

    Raises:
        BridgeError: the language model is not installed, the parts are broken, or the
            cache cannot be written.
    """
    if parts is None:
        with as_file(files("vlm_bridge.reference") / "weights" / PARTS) as shipped:
            return _convert(shipped)
    return _convert(parts)


def _convert(parts: Path) -> Path:
    if not parts.is_file():
        raise BridgeError(
            f"the reference VLM's trained parts are missing at {parts}; train them with: "
            "python -m vlm_bridge.reference train"
        )
    trained = hashlib.sha256(parts.read_bytes()).hexdigest()
    folder = cache_root() / f"reference-{_LAYOUT}-{GGUF_SHA256[:12]}-{trained[:12]}"
    if (folder / "config.json").is_file():
        return folder
    try:
        tensors = read_parts(parts)
    except SafetensorError as error:
        raise BridgeError(f"the weights file {parts} is broken: {error}") from None
    with Console(stderr=True).status("building the reference VLM, once (about 20 s)"):
        return _build(tensors, folder)


def _build(parts: dict[str, Tensor], folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    except OSError as error:
        raise BridgeError(
            f"cannot write the model cache at {folder.parent}: {error.strerror}; "
            "set SKIPIT_CACHE to a folder you can write"
        ) from None
    try:
        model, processor = blank_reference(RECIPE)
        install_parts(model, parts, RECIPE)
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was first, with the same bytes
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
