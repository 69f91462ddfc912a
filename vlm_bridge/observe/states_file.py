"""Read hidden states of any network from a file, with targets, clusters and token groups."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from vlm_bridge.errors import BridgeError
from vlm_bridge.observe.reservoir import MANIFEST, STATES, Samples

SUFFIXES = (".safetensors", ".npz")
_GROUP = "groups."


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
            BridgeError: no such file, broken, pickled objects in it, no array of a given name.
        """
        if path.name == STATES and (path.parent / MANIFEST).is_file():
            if target or clusters:
                raise BridgeError(f"{path} is a reservoir, whose manifest names the images")
            return _of_samples(Samples.load(path.parent))
        arrays = _arrays(path)
        named = {}
        for role, name in (("target", target), ("clusters", clusters)):
            if name is not None and name not in arrays:
                raise BridgeError(f"{path} has no array '{name}'; it has {', '.join(arrays)}")
            array = arrays.pop(name or role, None)
            named[role] = None if array is None else np.asarray(array)
        masks = [name for name in arrays if name.startswith(_GROUP)]
        token_groups = {n.removeprefix(_GROUP): np.asarray(arrays.pop(n)) for n in masks} or None
        states: Any = arrays
        if len(arrays) == 1:
            (stacked,) = arrays.values()
            states = list(stacked) if stacked.ndim in (3, 4) else arrays
        return cls(states, token_groups=token_groups, **named)


def _arrays(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BridgeError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, SafetensorError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise BridgeError(f"cannot read states from {path}: {error}") from None


def _of_samples(samples: Samples) -> StatesFile:
    """The rows of all token groups of a reservoir, concatenated."""
    names = list(samples.arrays)
    states = list(np.concatenate([samples.arrays[name] for name in names], axis=1))
    of_row = np.repeat(names, [samples.arrays[name].shape[1] for name in names])
    clusters = [image for name in names for image in samples.images(name)]
    masks = {name: of_row == name for name in names}
    return StatesFile(states, clusters=clusters, token_groups=masks)
