"""Fashion-MNIST: its four files as they are, and their reader."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party.folders import dataset_folder

#: Split -> beginning of its files' names.
_SPLITS = {"train": "train", "test": "t10k"}
#: Names of the classes by label, as the data set's own page lists them.
CLASSES = (
    *("t-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_MAX_BYTES = 2**28


def convert(files: Mapping[str, Path], folder: Path) -> None:
    """Copy the four files."""
    for path in files.values():
        shutil.copyfile(path, folder / path.name)


def fashion_photos(split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels of a split of Fashion-MNIST, in the order of the files.

    Args:
        split: `train` (60,000) or `test` (10,000).

    Returns:
        Images (n, 28, 28), grey from 0 (background) to 255, and labels (n,) from 0 to 9, whose
        names are `CLASSES`.

    Raises:
        BridgeError: another split; the data set is not fetched.

    Example:
        >>> images, labels = fashion_photos("test")  # doctest: +SKIP
        >>> images.shape, labels[:3]  # doctest: +SKIP
        ((10000, 28, 28), array([9, 2, 1], dtype=uint8))
    """
    if split not in _SPLITS:
        raise BridgeError(f"Fashion-MNIST has no split '{split}'; choose from {', '.join(_SPLITS)}")
    folder, prefix = dataset_folder("fashion-photos"), _SPLITS[split]
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", 3)
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", 1)
    if len(images) != len(labels):
        raise BridgeError(f"{folder} holds {len(images)} images and {len(labels)} labels")
    return images, labels


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """The array of bytes in a gzipped idx file.

    The file is two zero bytes, the type (8: unsigned byte), the rank, one big-endian 32-bit length
    per axis, and the values, the last axis fastest.

    Raises:
        BridgeError: another type or rank, or more or fewer values than the lengths say.
    """
    try:
        with gzip.open(path) as handle:
            data = handle.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BridgeError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    start = 4 + 4 * rank
    if len(data) < start or data[:4] != bytes((0, 0, 8, rank)):
        raise BridgeError(f"{path} is no idx file of bytes with {rank} axes")
    shape = struct.unpack(f">{rank}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise BridgeError(
            f"{path} holds {len(data) - start} values; its axes {shape} need {math.prod(shape)}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
