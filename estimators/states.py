"""`profile_states`: a `Profile` straight from the hidden states of any network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._arrays import to_numpy
from estimators.cka import linear_cka
from estimators.clustered import Labels
from estimators.estimate import Estimate
from estimators.geometry import PairRows
from estimators.hooks import ordered_states
from estimators.information.dispatch import mutual_information
from estimators.profile import Profile
from estimators.streaming import PairAccumulator
from estimators.token_groups import TokenRows, spread
from estimators.usable.dispatch import usable_information


def profile_states(
    states: Sequence[Any] | Mapping[str, Any],
    target: Any = None,
    *,
    token_groups: Mapping[str, ArrayLike] | None = None,
    clusters: Labels | None = None,
    last_token: bool = False,
    probe: str = "linear",
    cka_rows: int = 1000,
    model: str = "states",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Profile the hidden states of any network: L + 1 states give L layers.

    Every layer has the geometric measures of adjacent states, and `cka`, the debiased linear CKA
    of its input with its output. With a target, also `mutual_information` and
    `usable_information` of the layer's output about the target, and the same of its input with
    the suffix `_before`.

    Args:
        states: L + 1 arrays or tensors of shape (n, d), or (b, s, d) for b sequences of s
            tokens (n = b s); a list in order, or the cache of a hook library
            (see `estimators.hooks.ordered_states`).
        target: one value per row or per sequence: labels (whole numbers, strings), or one or k
            real numbers.
        token_groups: boolean mask of shape (n,) or (b, s) of each token group, by name. Default:
            one group "all". Rows in no group are ignored, so padding may hold anything.
        clusters: labels of the independent clusters (images), one per row or one per sequence.
            Default: every sequence, or every row, is its own cluster, which makes intervals
            too narrow where rows are tokens of the same image.
        last_token: also profile the group "last": the last row of every sequence (every cluster
            if states are (n, d)) that is in a group.
        probe: method of `usable_information`: "linear", or the slower "mlp" and "auto".
        cka_rows: approximate number of rows for CKA, drawn at random as whole clusters.
        model: name of the model.
        seed: seed of all random numbers.
        progress: called with (layers done, layers) after every layer.

    Returns:
        Profile. Its data hash covers the first state and the clusters. Groups of fewer than
        four rows have no `cka`.

    Raises:
        ValueError: fewer than two states, shapes that differ, a zero or non-finite row (with
            its layer), labels, targets or masks of the wrong length, masks that are not
            boolean; as `ordered_states`, and with a target as `mutual_information` and
            `usable_information`.

    Source:
        Mean cosine distance of adjacent states as redundancy: Men et al. 2024 (ShortGPT),
        arXiv 2403.03853, as block influence. CKA of layers: Kornblith et al. 2019,
        arXiv 1905.00414.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> states = [rng.normal(size=(20, 3, 4)) for _ in range(4)]  # 20 sequences
        >>> profile = profile_states(states, last_token=True)
        >>> profile.n_layers, profile.n_images, profile.n_rows
        (3, 20, {'all': 60, 'last': 20})
    """
    given = ordered_states(states)
    if len(given) < 2:
        raise ValueError(f"at least two states are needed, got {len(given)}")
    rows = TokenRows.of(given[0], token_groups, clusters, last_token)
    truth = None if target is None else _target(target, rows.shape)
    flat = [_flat(state, number, given[0]) for number, state in enumerate(given)]
    pairs: dict[str, list[PairAccumulator]] = {group: [] for group in rows.masks}
    extra: dict[str, dict[str, list[Estimate]]] = {group: {} for group in rows.masks}
    informations: dict[str, dict[str, list[Estimate]]] = {group: {} for group in rows.masks}
    for layer, (before, after) in enumerate(pairwise(flat)):
        for group, mask in rows.masks.items():
            where = np.flatnonzero(mask)
            codes = rows.codes[where]
            pair = PairAccumulator()
            try:
                pair.update(PairRows.of(before[where], after[where]), codes)
            except ValueError as error:
                place = f"layer {layer}, group '{group}' (x is its input, y its output)"
                raise ValueError(f"{place}: {error}") from None
            pairs[group].append(pair)
            if where.size >= 4:
                drawn = _whole_clusters(codes, cka_rows, seed)
                rows_drawn = where[drawn]
                cka = _cka(before[rows_drawn], after[rows_drawn], codes[drawn])
                extra[group].setdefault("cka", []).append(cka)
            if truth is not None and where.size:
                for state in (before, after) if layer == 0 else (after,):
                    about = _about(state[where], truth[where], codes, probe, seed)
                    for name, estimate in about.items():
                        informations[group].setdefault(name, []).append(estimate)
        if progress is not None:
            progress(layer + 1, len(flat) - 1)
    for group, table in informations.items():
        for name, estimates in table.items():
            extra[group] |= {f"{name}_before": estimates[:-1], name: estimates[1:]}
    return Profile.build(
        model,
        pairs,
        estimates=extra,
        n_images=int(np.unique(rows.codes[rows.used]).size),
        data_hash=_hash(flat[0], rows.codes),
    )


def _flat(state: NDArray[Any], number: int, first: NDArray[Any]) -> NDArray[Any]:
    if state.shape != first.shape:
        raise ValueError(f"state {number} has shape {state.shape} but state 0 has {first.shape}")
    return state.reshape(-1, state.shape[-1])


def _target(target: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Labels (n,) or numbers (n, k); one number per row becomes a column."""
    values = spread(to_numpy(target, "target"), shape, "targets")
    return values[:, None] if values.ndim == 1 and values.dtype.kind == "f" else values


def _about(
    state: NDArray[Any], truth: NDArray[Any], codes: NDArray[np.intp], probe: str, seed: int
) -> dict[str, Estimate]:
    """Information of a state about the target; constant columns are dropped."""
    moving = state[:, np.ptp(state, axis=0) > 0.0]
    total = mutual_information(moving, truth, clusters=codes, seed=seed)
    usable = usable_information(moving, truth, method=probe, clusters=codes, seed=seed)
    return {"mutual_information": total, "usable_information": usable}


def _whole_clusters(codes: NDArray[np.intp], most: int, seed: int) -> NDArray[np.intp]:
    """Rows of clusters drawn at random until there are `most` rows, ascending."""
    if codes.size <= most:
        return np.arange(codes.size)
    present, sizes = np.unique(codes, return_counts=True)
    drawn = np.random.default_rng(seed).permutation(present.size)
    enough = int(np.searchsorted(np.cumsum(sizes[drawn]), most)) + 1
    return np.flatnonzero(np.isin(codes, present[drawn[:enough]]))


def _cka(before: NDArray[Any], after: NDArray[Any], codes: NDArray[np.intp]) -> Estimate:
    """`linear_cka`, or NaN with a reason if a state has no spread."""
    if min(np.ptp(state, axis=0).max() for state in (before, after)) > 0.0:
        return linear_cka(before, after, clusters=codes)
    return Estimate(
        value=np.nan,
        interval=(-np.inf, np.inf),
        n=np.unique(codes).size,
        d=before.shape[1],
        method="debiased-linear-cka",
        reliable=False,
        reason="all rows of a state are equal",
    )


def _hash(state: NDArray[np.generic], codes: NDArray[np.intp]) -> str:
    digest = hashlib.sha256(f"{state.dtype.str} {state.shape}".encode())
    digest.update(np.ascontiguousarray(state).data)
    digest.update(np.ascontiguousarray(codes, dtype=np.int64).data)
    return digest.hexdigest()
