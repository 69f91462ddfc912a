"""Read the states in a database of VLM-Lens, of which nothing is executed."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlm_bridge.errors import BridgeError, first_line, shown
from vlm_bridge.runtime.tensor_files import as_numpy

#: Table and columns that VLM-Lens writes (compling-wat/vlm-lens, src/models/base.py).
_QUERY = "SELECT name, layer, image_path, prompt, tensor FROM tensors ORDER BY id"

States = dict[str, NDArray[Any]]


def is_database(path: Path) -> bool:
    """Whether the name is of a database.

    Example:
        >>> is_database(Path("clip.db")), is_database(Path("states.npz"))
        (True, False)
    """
    return path.suffix in (".db", ".sqlite", ".sqlite3")


def read_database(path: Path) -> tuple[States, list[str]]:
    """The states of each layer, and the image (without one, the prompt) of every row.

    A tensor is (1, length, width), or (1, width) if VLM-Lens has pooled over the tokens, as it does
    unless told otherwise; rows of all inputs follow one another. Tensors are read with
    `torch.load(weights_only=True)`, which makes tensors and runs nothing.

    Returns:
        Layer -> (rows, width), and the cluster of each row.

    Raises:
        BridgeError: no such file, another database, no rows, several models, layers of different
            inputs or shapes, or a blob that holds more than a tensor.
    """
    if not path.is_file():
        raise BridgeError(f"there is no file {path}")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(_QUERY).fetchall()
    except sqlite3.Error as error:
        raise BridgeError(f"{path} is no database of VLM-Lens: {first_line(error)}") from None
    if not found:
        raise BridgeError(f"{path} holds no states")
    if len(names := sorted({str(row[0]) for row in found})) > 1:
        raise BridgeError(f"{path} holds states of {', '.join(names)}; store each model in its own")
    rows: dict[str, list[NDArray[Any]]] = {}
    asked: dict[str, list[tuple[str, int]]] = {}
    for _, layer, image, prompt, blob in found:
        tensor = _tensor(path, str(layer), blob)
        rows.setdefault(str(layer), []).append(tensor)
        cluster = str(prompt if image is None else image)
        asked.setdefault(str(layer), []).append((cluster, len(tensor)))
    first, *others = asked
    for layer in others:
        if asked[layer] != asked[first]:
            raise BridgeError(
                f"{path}: the layers {shown(first)} and {shown(layer)} are of different inputs or "
                "tokens; run VLM-Lens once, on all layers"
            )
    states = {layer: np.concatenate(tensors) for layer, tensors in rows.items()}
    return states, [cluster for cluster, n in asked[first] for _ in range(n)]


def _tensor(path: Path, layer: str, blob: Any) -> NDArray[Any]:
    """(rows, width) of one blob."""
    try:
        tensor: Any = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises errors of any type
        why = first_line(error)
        raise BridgeError(f"{path}: the state of {shown(layer)} is no tensor: {why}") from None
    if not isinstance(tensor, torch.Tensor) or tensor.ndim not in (2, 3):
        raise BridgeError(
            f"{path}: the state of {shown(layer)} is no tensor of shape (1, length, width) or "
            f"(1, width), but {shown(getattr(tensor, 'shape', type(tensor).__name__))}"
        )
    return as_numpy(tensor).reshape(-1, tensor.shape[-1])
