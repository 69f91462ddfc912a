"""Assignment of the rows of a state to sequences, clusters and token groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators.clustered import Labels, cluster_codes

Masks = dict[str, NDArray[np.bool_]]


def last_rows(sequences: Labels) -> NDArray[np.intp]:
    """Index of the last row of every sequence, ascending.

    `rows.select(last_rows(ids))` restricts every measure of `PairRows` to last tokens.

    Args:
        sequences: n labels; rows with equal labels form a sequence, in the given order.

    Returns:
        Integer array, one entry per sequence.

    Raises:
        ValueError: a label that cannot be hashed.

    Example:
        >>> last_rows(["a", "a", "b", "a"]).tolist()
        [2, 3]
    """
    codes = cluster_codes(sequences)
    last = np.full(int(codes.max()) + 1 if codes.size else 0, -1, dtype=np.intp)
    last[codes] = np.arange(codes.size)  # the last assignment to an index wins
    return np.sort(last)


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Cluster and token groups of every row of a state, (n, d) or (b, s, d) with n = b s.

    Attributes:
        shape: (n,) or (b, s).
        codes: the cluster of every row, integers of shape (n,).
        masks: boolean mask of shape (n,) of each token group.
    """

    shape: tuple[int, ...]
    codes: NDArray[np.intp]
    masks: Masks

    @classmethod
    def of(
        cls,
        state: NDArray[Any],
        groups: Mapping[str, ArrayLike] | None,
        clusters: Labels | None,
        last_token: bool,
    ) -> Self:
        """Assign the rows of a state.

        Raises:
            ValueError: a state of another shape, wrong lengths of labels or masks, masks that are
                not boolean, a group called "last" beside `last_token`.
        """
        if state.ndim not in (2, 3) or not state.size:
            raise ValueError(
                f"states must have shape (n, d) or (b, s, d) with n >= 1, state 0 has {state.shape}"
            )
        shape = state.shape[:-1]
        n = int(np.prod(shape))
        each = np.arange(n) if len(shape) == 1 else np.repeat(np.arange(shape[0]), shape[1])
        codes = each
        if clusters is not None:
            codes = spread(cluster_codes(clusters), shape, "cluster labels")
        masks = {"all": np.ones(n, dtype=bool)} if groups is None else _masks(groups, shape)
        if last_token:
            if "last" in masks:
                raise ValueError(
                    "a token group is already called 'last'; rename it or drop last_token"
                )
            sequences = each if len(shape) == 2 else codes
            used = np.flatnonzero(np.any(list(masks.values()), axis=0))
            masks["last"] = np.zeros(n, dtype=bool)
            masks["last"][used[last_rows(sequences[used])]] = True
        return cls(shape, codes, masks)

    @property
    def used(self) -> NDArray[np.bool_]:
        """Rows in any group, boolean array of shape (n,)."""
        used: NDArray[np.bool_] = np.any(list(self.masks.values()), axis=0)
        return used


def spread(values: NDArray[Any], shape: tuple[int, ...], what: str) -> NDArray[Any]:
    """Repeat values given per sequence for every row; keep values given per row.

    Args:
        values: array of shape (n, ...), (b, s, ...) or (b, ...).
        shape: (n,) or (b, s), of the rows.
        what: name of the values in messages.

    Returns:
        Array of shape (n, ...).

    Raises:
        ValueError: neither one value per row nor one per sequence.

    Example:
        >>> spread(np.array([7, 8]), (2, 3), "labels").tolist()
        [7, 7, 7, 8, 8, 8]
    """
    n = int(np.prod(shape))
    if len(shape) == 2 and values.shape[:2] == shape:
        return values.reshape(n, *values.shape[2:])
    if values.shape[:1] == (n,):
        return values
    if len(shape) == 2 and values.shape[:1] == shape[:1]:
        return np.repeat(values, shape[1], axis=0)
    per = f"{n} rows" if len(shape) == 1 else f"{n} rows in {shape[0]} sequences"
    raise ValueError(f"{per} but {len(values) if values.ndim else 0} {what}")


def _masks(groups: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> Masks:
    if not isinstance(groups, Mapping):
        raise ValueError(
            f"token_groups must map names to boolean masks, got {type(groups).__name__}; "
            "labels of independent clusters (images) go to clusters="
        )
    n = int(np.prod(shape))
    masks = {}
    for name, given in groups.items():
        mask = np.asarray(given)
        if mask.shape not in ((n,), shape) or mask.dtype.kind != "b":
            wanted = f"({n},)" if len(shape) == 1 else f"{shape} or ({n},)"
            raise ValueError(
                f"group '{name}' needs a boolean mask of shape {wanted}, "
                f"got {mask.dtype} of shape {mask.shape}"
            )
        masks[name] = mask.reshape(n)
    return masks
