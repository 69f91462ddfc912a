"""The reference models as ordinary model folders, built once in the user's cache."""

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

_LAYOUT = "1"  # version of the folder's content


def reference_folder(name: str = "reference", parts: Path | None = None) -> Path:
    """The folder of a reference model, built on the first call (at most about 20 s).

    The name of the folder contains the hashes of the language model, if there is one, and of the
    trained parts, so that changed parts are built anew. The folder appears in one rename: a killed
    build leaves none.

    Args:
        name: one of `RECIPES`.
        parts: a parts file of `train`, in place of the shipped one.

    Raises:
        BridgeError: no such model, the language model is not installed, the parts are missing or
            broken, or the cache cannot be written.
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
    language_model = [GGUF_SHA256[:12]] if isinstance(RECIPES[name], Recipe) else []
    digest = hashlib.sha256(parts.read_bytes()).hexdigest()[:12]
    folder = cache_root() / "-".join([name, _LAYOUT, *language_model, digest])
    if (folder / "config.json").is_file():
        return folder
    try:
        tensors = read_parts(parts)
    except SafetensorError as error:
        raise BridgeError(f"the weights file {parts} is broken: {error}") from None
    # As a notebook widget, rich replaces standard error, to which the progress bars of
    # transformers write, and the two call each other without end.
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
        except OSError:  # another process built the same folder first
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
