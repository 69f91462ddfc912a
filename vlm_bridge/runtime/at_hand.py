"""Third-party models and data that lie unpacked in `$SKIPIT_THIRD_PARTY`."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import cache_root

_IDX = {"train": "train", "test": "t10k"}


def third_party_root() -> Path:
    """`$SKIPIT_THIRD_PARTY`, else a folder of the cache."""
    override = os.environ.get("SKIPIT_THIRD_PARTY")
    return Path(override) if override else cache_root() / "third-party"


def model_folder(name: str) -> Path:
    """The transformers folder of a third-party model."""
    folder = third_party_root() / name
    if not (folder / "config.json").is_file():
        raise BridgeError(f"the model {name} is not at {folder}; set SKIPIT_THIRD_PARTY")
    return folder


def fashion_photos(split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Photos (n, 28, 28) uint8, white on black, and labels (n,) of `train` or `test`."""
    folder = third_party_root() / "fashion-mnist"
    images = _read_idx(folder / f"{_IDX[split]}-images-idx3-ubyte.gz", 16)
    labels = _read_idx(folder / f"{_IDX[split]}-labels-idx1-ubyte.gz", 8)
    return images.reshape(len(labels), 28, 28), labels


def _read_idx(path: Path, header: int) -> np.ndarray[Any, Any]:
    if not path.is_file():
        raise BridgeError(f"no product photos at {path}; set SKIPIT_THIRD_PARTY")
    with gzip.open(path) as handle:
        return np.frombuffer(handle.read(), np.uint8, offset=header)
