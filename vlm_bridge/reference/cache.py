"""The reference models as ordinary model folders, built once in the user's cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError

from vlm_bridge.errors import BridgeError
from vlm_bridge.reference.build import build, read_parts
from vlm_bridge.reference.language_model import GGUF_SHA256
from vlm_bridge.reference.recipe import RECIPES, on_smollm2
from vlm_bridge.reference.shipped import PARTS, check_name, shipped
from vlm_bridge.runtime.built_folder import build_once, is_unchanged
from vlm_bridge.runtime.files import cache_root

_LAYOUT = "2"  # version of the folder's content


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
        tensors = read_parts(parts, RECIPES[name])
    except SafetensorError as error:
        raise BridgeError(f"the weights file {parts} is broken: {error}") from None

    def save(partial: Path) -> None:
        for part in build(RECIPES[name], tensors):
            part.save_pretrained(partial)

    return build_once(folder, save, title=f"building {name}, once (about 20 s)")
