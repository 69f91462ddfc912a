"""Read hidden states of any network from a file, with targets, clusters and token groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlm_bridge.errors import BridgeError
from vlm_bridge.observe.reservoir import MANIFEST, STATES, Samples
from vlm_bridge.runtime.tensor_files import as_numpy, read_arrays

SUFFIXES = (".safetensors", ".npz")
_GROUP = "groups."
_TENSOR_TYPES = (
    *("float64", "float32", "float16", "bfloat16"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)


def is_states_file(name: str) -> bool:
    """Whether the name is of a file of states, not of a model.

    Example:
        >>> is_states_file("run/states.npz"), is_states_file("owner/model")
        (True, False)
    """
    return Path(name).suffix in SUFFIXES


@dataclass(frozen=True, eq=False)
class StatesFile:
    """The arguments of `estimators.profile_states`, from one file."""

    states: Any  # state 0 to state L in order, or name -> state
    target: Any = None  # the variable to predict from the states
    clusters: Any = None  # labels of the independent units
    token_groups: dict[str, Any] | None = None  # token group -> boolean mask

    @classmethod
    def read(
        cls, path: Path, *, target: str | None = None, clusters: str | None = None
    ) -> StatesFile:
        """Read a `.safetensors` or `.npz` file; nothing in it is executed.

        The arrays `target` and `clusters` (or those named by the arguments) and `groups.NAME` are
        read as such. All others are states: one array of shape (n, d) or (b, s, d) per layer, in
        the order of `estimators.hooks.ordered_states`, or a single one of shape (L + 1, n, d) or
        (L + 1, b, s, d). A file with a manifest beside it, from `skipit profile --reservoir`, is
        read as `Samples`.

        Raises:
            BridgeError: no such file, broken, larger than the memory, pickled objects or no states
                in it, states that are no real numbers, no array of a given name.
        """
        if path.name == STATES and (path.parent / MANIFEST).is_file():
            if target or clusters:
                raise BridgeError(f"{path} is a reservoir, whose manifest names the images")
            return _of_samples(Samples.load(path.parent))
        arrays = read_arrays(path, "states")
        named = {}
        for role, name in (("target", target), ("clusters", clusters)):
            if name is not None and name not in arrays:
                raise BridgeError(f"{path} has no array '{name}'; it has {', '.join(arrays)}")
            array = arrays.pop(name or role, None)
            named[role] = None if array is None else as_numpy(array)
        masks = [name for name in arrays if name.startswith(_GROUP)]
        token_groups = {n.removeprefix(_GROUP): as_numpy(arrays.pop(n)) for n in masks} or None
        if not arrays:
            raise BridgeError(f"{path} holds no states")
        for name, array in arrays.items():
            _check_numbers(path, name, array)
        states: Any = arrays
        if len(arrays) == 1:
            (stacked,) = arrays.values()
            states = list(stacked) if stacked.ndim in (3, 4) else arrays
        return cls(states, token_groups=token_groups, **named)


def _check_numbers(path: Path, name: str, array: Any) -> None:
    """Refuse states that are no real numbers, such as text, records or complex numbers."""
    kind = array.dtype if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")
    known = array.dtype.kind in "biuf" if isinstance(array, np.ndarray) else kind in _TENSOR_TYPES
    if not known:
        raise BridgeError(f"the array '{name}' of {path} holds {kind}, not real numbers")


def _of_samples(samples: Samples) -> StatesFile:
    """The rows of all token groups of a reservoir, concatenated."""
    names = list(samples.arrays)
    states = list(np.concatenate([samples.arrays[name] for name in names], axis=1))
    of_row = np.repeat(names, [samples.arrays[name].shape[1] for name in names])
    clusters = [image for name in names for image in samples.images(name)]
    masks = {name: of_row == name for name in names}
    return StatesFile(states, clusters=clusters, token_groups=masks)
