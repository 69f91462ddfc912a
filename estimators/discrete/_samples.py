"""Samples of discrete variables as integer codes, and the counts of their joint symbols."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._labels import label_array, label_codes
from estimators.discrete._terms import Axes, Terms
from estimators.discrete.corrections import CORRECTIONS, Counts

Codes = NDArray[np.int64]


def as_codes(**variables: ArrayLike) -> Codes:
    """Encode each variable as a column of codes 0, 1, 2, ...; shape (n, variables).

    A variable is an array of shape (n,), or of shape (n, k) whose rows are its symbols; also a
    tensor, series or categorical. Whole numbers, booleans and strings are categories, also
    mixed; fractions are not.

    Raises:
        ValueError: no rows, wrong number of axes, lengths that differ, a missing value, infinity
            or a fraction (with its position).
    """
    columns = {name: _column(values, name) for name, values in variables.items()}
    lengths = {name: column.size for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        lengths_text = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"variables must have equal numbers of rows: {lengths_text}")
    return np.stack(list(columns.values()), axis=1)


def _column(values: ArrayLike, name: str) -> Codes:
    array = label_array(values, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape (n,) or (n, k), got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {array.shape}; give at least one row")
    if array.dtype.kind not in "biufUSO":
        raise ValueError(f"{name} must be whole numbers or strings, got dtype {array.dtype}")
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (array != np.rint(array))
        if bad.any():
            where = ", ".join(map(str, np.argwhere(bad)[0]))
            raise ValueError(
                f"{name}[{where}] = {array[bad][0]:g} is not a category; "
                "bin continuous values first with estimators.quantize"
            )
    return label_codes(array, name)


def joint_codes(codes: Codes, axes: Axes) -> Codes:
    """Code 0, 1, 2, ... of the joint symbol of the columns in `axes`, for every row."""
    joint = codes[:, axes[0]]
    for axis in axes[1:]:
        mixed = joint * (codes[:, axis].max() + 1) + codes[:, axis]
        joint = np.unique(mixed, return_inverse=True)[1].reshape(-1)
    return joint


def measure_of(
    codes: Codes, terms: Terms, method: str, sizes: tuple[int, ...]
) -> tuple[float, NDArray[np.float64], float]:
    """The corrected measure in nats, its influence by row, and its degrees of freedom.

    The influence of row i on sum_A c_A H(X_A) is -sum_A c_A log p(x_iA), at the plug-in; the
    degrees of freedom |sum_A c_A (k_A - 1)| are those of the chi-squared limit for
    constant influence (independence for I, the uniform distribution for H).
    """
    value, freedom, parity = 0.0, 0.0, 0.0
    influence = np.zeros(len(codes))
    for c, axes in terms:
        joint = joint_codes(codes, axes)
        counts: Counts = np.bincount(joint).astype(np.int64)
        alphabet = int(np.prod([sizes[axis] for axis in axes], dtype=object))
        value += c * CORRECTIONS[method](counts, alphabet)
        influence -= c * np.log(counts[joint] / len(codes))
        freedom += c * (counts.size - 1)
        parity += c * c * counts.size
    # Grassberger's (-1)^m term adds about +-1/(2n) per symbol to an entropy: n^-2 k/4 of variance.
    extra = 0.5 * parity if method == "grassberger" else 0.0
    return value, influence, abs(freedom) + extra
