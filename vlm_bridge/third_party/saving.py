"""Save converted weights as a standard model folder, with no tensor missing and none left over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError


def named(files: Mapping[str, Path], ending: str) -> Path:
    """The one file whose name has this ending.

    >>> named({"a/model.bin": Path("/x/a/model.bin"), "a/b.json": Path("/x/a/b.json")}, ".bin").name
    'model.bin'
    """
    (found,) = (path for name, path in files.items() if name.endswith(ending))
    return found


def save_model(model: Any, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Put the tensors into a model, tied ones once, and save it with its configuration.

    Raises:
        BridgeError: a tensor of the model is missing or of another shape, or one is left over.
    """
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items() if name not in tied}
    given = {name: tuple(t.shape) for name, t in tensors.items()}
    if wanted != given:
        wrong = sorted(name for name, _ in wanted.items() ^ given.items())
        raise BridgeError(
            f"the file does not hold the tensors of {type(model).__name__}: {', '.join(wrong[:4])}"
        )
    with torch.no_grad():
        model.load_state_dict(dict(tensors), strict=False)
    model.tie_weights()
    model.eval().save_pretrained(folder)
