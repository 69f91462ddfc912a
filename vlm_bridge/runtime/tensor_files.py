"""Read arrays from `.safetensors` and `.npz` files; nothing in them is executed."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from vlm_bridge.errors import BridgeError, shown

Arrays = dict[str, NDArray[Any]]


def read_arrays(path: Path, what: str) -> dict[str, Any]:
    """The tensors of a `.safetensors` file or the arrays of an `.npz` file, by name.

    Raises:
        BridgeError: no such file; a broken or truncated one; arrays that are larger than the
            memory; pickled objects; a name that occurs twice.
    """
    if not os.path.isfile(path):
        raise BridgeError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(_of_npz(path))
    except BridgeError:
        raise
    except MemoryError:
        raise BridgeError(f"cannot read {what} from {path}: they do not fit into memory") from None
    except Exception as error:  # the readers of both formats raise errors of any type
        why = " ".join(str(error).split()) or type(error).__name__
        raise BridgeError(f"cannot read {what} from {path}: {why}") from None


def as_numpy(array: Any) -> NDArray[Any]:
    """An array or a tensor of any number type as NumPy array; bfloat16 becomes float32."""
    if isinstance(array, Tensor):
        plain = array.float() if array.is_floating_point() and array.itemsize < 4 else array
        return np.asarray(plain)
    return np.asarray(array)


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _of_npz(path: Path) -> Arrays:
    """The arrays of an archive, whose declared size is checked first."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BridgeError(f"{path} holds {shown(twice)} twice")
    if strange := [name for name in names if not name.endswith(".npy")]:
        raise BridgeError(f"{path} holds {shown(strange[0])}, which is no array (.npy)")
    needed, memory = sum(entry.file_size for entry in entries), _memory()
    if needed > memory:
        raise BridgeError(
            f"{path} unpacks to {needed / 2**30:.3g} GiB; this machine has {memory / 2**30:.3g} GiB"
        )
    with np.load(path, allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files}


def _memory() -> float:
    """Bytes of memory of this machine; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
