"""`profile_states`: a `Profile` straight from the hidden states of any network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.clustered import Labels, cluster_codes
from estimators.geometry import PairRows
from estimators.profile import Profile
from estimators.streaming import PairAccumulator


def profile_states(
    states: Sequence[ArrayLike] | Mapping[str, ArrayLike],
    *,
    clusters: Labels | None = None,
    groups: Mapping[str, ArrayLike] | None = None,
    model: str = "states",
) -> Profile:
    """Profile the hidden states of any network: L + 1 states give L layers.

    Args:
        states: L + 1 arrays of shape (n, d), in order; the values of a mapping are taken in its
            order. Tensors with `detach` and `cpu` are brought to the CPU.
        clusters: n hashable labels of the independent units (images). Default: each row is its
            own, which makes intervals too narrow where rows are tokens of the same image.
        groups: group name -> boolean mask of shape (n,). Default: one group "all".
        model: name for the record.

    Returns:
        Profile. Its data hash covers the first state and the clusters.

    Raises:
        ValueError: fewer than two states, shapes that differ, a zero or non-finite row (named
            with its layer), labels or masks of the wrong length, masks that are not boolean.

    Source:
        Mean cosine distance of adjacent states as redundancy: Men et al. 2024 (ShortGPT),
        arXiv 2403.03853, as block influence.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> states = [rng.normal(size=(60, 4)) for _ in range(4)]
        >>> profile = profile_states(states, clusters=[i // 3 for i in range(60)])
        >>> profile.n_layers, profile.n_images, profile.n_rows["all"]
        (3, 20, 60)
    """
    given = list(states.values()) if isinstance(states, Mapping) else list(states)
    if len(given) < 2:
        raise ValueError(f"at least two states are needed, got {len(given)}")
    first = _as_array(given[0])
    if first.ndim != 2 or not len(first):
        raise ValueError(f"states must have shape (n, d) with n >= 1, state 0 has {first.shape}")
    n = len(first)
    codes = np.arange(n) if clusters is None else cluster_codes(clusters)
    if codes.size != n:
        raise ValueError(f"{n} rows but {codes.size} cluster labels")
    masks = {"all": np.ones(n, dtype=bool)} if groups is None else _masks(groups, n)
    layers: dict[str, list[PairAccumulator]] = {group: [] for group in masks}
    before = first
    for layer, state in enumerate(given[1:]):
        after = _as_array(state)
        try:
            rows = PairRows.of(before, after)
        except ValueError as error:
            raise ValueError(f"layer {layer} (x is its input, y its output): {error}") from None
        for group, mask in masks.items():
            pair = PairAccumulator()
            pair.update(rows.select(mask), codes[mask])
            layers[group].append(pair)
        before = after
    return Profile.build(
        model, layers, n_images=int(codes.max()) + 1, data_hash=_hash(first, codes)
    )


def _as_array(state: Any) -> NDArray[np.generic]:
    """An array of anything array-like; tensors are recognised by what they can do."""
    if hasattr(state, "detach") and hasattr(state, "cpu"):
        state = state.detach().cpu()
        if "bfloat16" in str(state.dtype):  # numpy has no such type
            state = state.float()
    return np.asarray(state)


def _masks(groups: Mapping[str, ArrayLike], n: int) -> dict[str, NDArray[np.bool_]]:
    masks = {name: np.asarray(mask) for name, mask in groups.items()}
    for name, mask in masks.items():
        if mask.shape != (n,) or mask.dtype.kind != "b":
            raise ValueError(
                f"group '{name}' needs a boolean mask of shape ({n},), "
                f"got {mask.dtype} of shape {mask.shape}"
            )
    return masks


def _hash(state: NDArray[np.generic], codes: NDArray[np.intp]) -> str:
    digest = hashlib.sha256(f"{state.dtype.str} {state.shape}".encode())
    digest.update(np.ascontiguousarray(state).data)
    digest.update(np.ascontiguousarray(codes, dtype=np.int64).data)
    return digest.hexdigest()
