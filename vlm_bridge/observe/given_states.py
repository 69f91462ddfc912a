"""Profile states that another tool has captured: nnsight, TransformerLens, your own hooks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from estimators import Profile
from estimators import profile_states as profile_arrays
from estimators.hooks import begins_with_input, ordered_states
from vlm_bridge.errors import BridgeError, got
from vlm_bridge.model.given import check_vlm
from vlm_bridge.model.layout import TOKEN_GROUPS
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.states_file import StatesFile
from vlm_bridge.runtime.tensor_files import as_numpy

Masks = dict[str, NDArray[np.bool_]]

#: Endings of files that are not read, and what is in them.
_PICKLED = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".pkl", ".pickle"), "pickled objects"),
    **dict.fromkeys((".db", ".sqlite"), "a database, in which VLM-Lens pickles its tensors"),
}


def token_masks(vlm: VLM, inputs: Mapping[str, Tensor]) -> Masks:
    """Which tokens of model inputs are text, image, video, audio and special, without padding.

    Args:
        vlm: the model, for its placeholder tokens.
        inputs: `input_ids` and `attention_mask`, (batch, length).

    Returns:
        Token group -> boolean mask (batch, length), for `groups` of `profile_states`; groups
        without tokens are left out.

    Raises:
        BridgeError: no `input_ids` in the inputs.

    Example:
        >>> token_masks(vlm, inputs)["image"].sum(1)  # doctest: +SKIP
        array([64, 64])
    """
    check_vlm(vlm)
    if "input_ids" not in inputs:
        raise BridgeError(f"the inputs have no input_ids; they have {', '.join(inputs)}")
    codes = as_numpy(
        vlm.layout.token_groups(inputs["input_ids"], inputs.get("attention_mask")).cpu()
    )
    masks = {name: codes == number for number, name in enumerate(TOKEN_GROUPS) if name != "pad"}
    return {name: mask for name, mask in masks.items() if mask.any()}


def profile_states(
    states: Any,
    *,
    groups: Mapping[str, Any] | None = None,
    mask: Any = None,
    clusters: Sequence[Any] | None = None,
    outputs_only: bool = False,
    model: str = "states",
) -> Profile:
    """Distance between input and output of each layer, from states that another tool captured.

    `1 - cos(h_l, h_{l+1})` and the other measures of `profile`, from L + 1 states of shape
    (batch, length, width) or (rows, width): on the same inputs the same numbers as `profile`, but
    for attention (VAR), which states do not hold.

    Args:
        states: in order, state 0 (the input of layer 0) to state L; or a cache by name, as
            nnsight and TransformerLens give; or the path of a `.safetensors` or `.npz` file (see
            `StatesFile.read`).
        groups: token group -> boolean mask (batch, length) or (rows,), as `token_masks` gives;
            default: one group "all".
        mask: (batch, length) or (rows,), 0 on padding, whose states are ignored.
        clusters: the image of each sequence or row, the independent unit; default: every sequence,
            or row, is its own.
        outputs_only: accept a cache without the input of layer 0. Layer l of the profile is then
            layer l + 1 of the model.
        model: name for the record.

    Returns:
        Profile, in pure numbers; intervals over clusters.

    Raises:
        BridgeError: states without the input of layer 0, of different shapes or of fewer than two
            layers, a state that has no direction, masks of another shape, a group without rows
            left, or a file that cannot be read safely.

    Source: Men et al. 2024 (ShortGPT), arXiv 2403.03853, for the distance.

    Example:
        >>> import numpy as np
        >>> draw = np.random.default_rng(0)
        >>> cache = {f"blocks.{i}.hook_resid_pre": draw.normal(size=(4, 5, 8)) for i in range(3)}
        >>> profile_states(cache).n_layers
        2
    """
    if isinstance(states, str | os.PathLike):
        states, groups, clusters = _of_file(Path(states), groups, clusters)
    try:
        whole = begins_with_input(states)
        arrays = ordered_states(states)
    except (ValueError, TypeError) as error:
        raise BridgeError(f"these are no states, one for each layer: {error}") from None
    if not whole and not outputs_only:
        raise BridgeError(
            "the cache holds outputs of layers and not the input of the first, so that the profile "
            "would begin one layer late: cache that, too, or pass outputs_only=True and read layer "
            "l of the profile as layer l + 1"
        )
    if outputs_only and hasattr(states, "keys") and whole:
        raise BridgeError("the cache holds the input of the first layer; leave out outputs_only")
    shape = arrays[0].shape[:-1] if arrays else ()
    chosen = _without_padding(groups, mask, shape)
    try:
        return profile_arrays(arrays, token_groups=chosen, clusters=clusters, model=model)
    except ValueError as error:
        raise BridgeError(str(error)) from None


def _of_file(path: Path, groups: Any, clusters: Any) -> tuple[Any, Any, Any]:
    """States, groups and clusters of a file; the arguments replace what the file says."""
    if path.suffix in _PICKLED:
        raise BridgeError(
            f"{path} holds {_PICKLED[path.suffix]}, and reading it could run code; where you trust "
            "it, store its states as .npz or .safetensors, as docs/states.md shows"
        )
    file = StatesFile.read(path)
    return (
        file.states,
        file.token_groups if groups is None else groups,
        file.clusters if clusters is None else clusters,
    )


def _without_padding(groups: Any, mask: Any, shape: tuple[int, ...]) -> Masks | None:
    """The groups without the rows where the mask is 0; "all" if there are none."""
    if groups is not None and not isinstance(groups, Mapping):
        raise BridgeError(f"groups map names to boolean masks, got {got(groups)}")
    if mask is None:
        return None if groups is None else {name: as_numpy(of) for name, of in groups.items()}
    real = as_numpy(mask)
    if real.shape != shape:
        raise BridgeError(f"the mask has shape {real.shape}, the states have {shape} before width")
    given = {"all": np.ones(shape, dtype=bool)} if groups is None else groups
    left = {name: as_numpy(of) & (real != 0) for name, of in given.items()}
    if empty := [name for name, of in left.items() if not of.any()]:
        raise BridgeError(f"the group '{empty[0]}' is padding alone; leave it out")
    return left
