"""The reference models as ordinary model folders, built once into the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from rich.console import Console
from safetensors import SafetensorError
from torch import Tensor

from vlm_bridge.data.store import cache_root
from vlm_bridge.errors import BridgeError
from vlm_bridge.reference.build import build, read_parts
from vlm_bridge.reference.language_model import GGUF_SHA256
from vlm_bridge.reference.recipe import RECIPES, Recipe
from vlm_bridge.reference.shipped import PARTS, check_name, shipped

_LAYOUT = "1"  # change it when what the folder holds changes


def reference_folder(name: str = "reference", parts: Path | None = None) -> Path:
    """The folder of a reference model, converted on first call (at most about 20 s).

    The folder's name holds the hashes of the language model, where there is one, and of the
    trained parts, so a changed part never meets an old conversion. The folder appears in
    one rename: a killed conversion leaves nothing that looks finished.

    Args:
        name: one of `RECIPES`.
        parts: another parts file than the shipped one, as training leaves it.

    Raises:
        BridgeError: there is no such model, the language model is not installed, the parts
            are missing or broken, or the cache cannot be written.
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
    inside = [_LAYOUT]
    if isinstance(RECIPES[name], Recipe):
        inside.append(GGUF_SHA256[:12])
    inside.append(hashlib.sha256(parts.read_bytes()).hexdigest()[:12])
    folder = cache_root() / "-".join([name, *inside])
    if (folder / "config.json").is_file():
        return folder
    try:
        tensors = read_parts(parts)
    except SafetensorError as error:
        raise BridgeError(f"the weights file {parts} is broken: {error}") from None
    # Never as a notebook widget: rich then takes over standard error, which the progress bars of
    # transformers write to, and each calls the other without end.
    with Console(stderr=True, force_jupyter=False).status(f"building {name}, once (about 20 s)"):
        return _build(name, tensors, folder)


def _build(name: str, parts: dict[str, Tensor], folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    except OSError as error:
        raise BridgeError(
            f"cannot write the model cache at {folder.parent}: {error.strerror}; "
            "set SKIPIT_CACHE to a folder you can write"
        ) from None
    try:
        model, processor = build(RECIPES[name], parts)
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
