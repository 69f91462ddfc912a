"""Conversion and checks of numpy and torch input."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from estimators._labels import label_array, label_codes, plain

Rows = NDArray[np.float64]

#: Largest share of repeated rows in samples of a continuous variable.
MAX_DUPLICATES = 0.05
#: Largest entry whose sums of squares are finite in float64.
_LARGEST = 1e140


def as_rows(
    values: Any, name: str = "x", *, constant: str = "refuse", rescale: bool = False
) -> Rows:
    """`values` as float64 rows of shape (n, d), finite, with no constant column.

    Args:
        values: array or tensor of shape (n, d), of real numbers; a tensor may lie on any device
            and have any floating dtype. Vectors are refused as ambiguous between (n, 1)
            and (1, d).
        name: name of the argument in messages.
        constant: "refuse" or "keep" constant columns.
        rescale: divide columns whose squares would overflow or vanish by a power of two, for
            what does not depend on scales; otherwise refuse them.

    Raises:
        ValueError: wrong shape or dtype, no rows, NaN or infinity (with its position), a
            constant column (with its number); squares that overflow or vanish.

    Example:
        >>> as_rows([[1, 2], [3, 4]]).dtype
        dtype('float64')
        >>> as_rows([1.0, 2.0])
        Traceback (most recent call last):
        ValueError: x must have shape (n, d), got (2,): one variable is x[:, None], one row x[None]
    """
    array = to_numpy(values, name)
    if array.ndim == 1:
        raise ValueError(
            f"{name} must have shape (n, d), got {array.shape}: "
            f"one variable is {name}[:, None], one row {name}[None]"
        )
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), got {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {array.shape}; give at least one row and column")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}")
    rows = np.ascontiguousarray(array, dtype=np.float64)
    check_finite(rows, name)
    if rescale:
        rows = _rescaled(rows)
    if np.abs(rows).max() > _LARGEST:
        raise ValueError(
            f"{name} has entries beyond {_LARGEST:g}, whose squares overflow; rescale its columns"
        )
    if constant == "refuse" and len(rows) > 1:
        still = np.flatnonzero((rows == rows[0]).all(axis=0))
        if still.size:
            more = f" and {still.size - 1} more" if still.size > 1 else ""
            raise ValueError(
                f"column {still[0]} of {name}{more} is constant ({rows[0, still[0]]:g}): it "
                "carries no information and has no scale; drop it"
            )
        narrow = np.flatnonzero(np.ptp(rows, axis=0) < 1.0 / _LARGEST)
        if narrow.size:
            raise ValueError(
                f"column {narrow[0]} of {name} spans less than {1.0 / _LARGEST:g}, whose squares "
                "vanish; rescale it"
            )
    return rows


def unit_scale(rows: Rows) -> Rows:
    """Rows divided by one power of two where their fourth powers would overflow or vanish."""
    largest = float(np.abs(rows).max())
    if largest == 0.0 or 1e-50 < largest < 1e50:
        return rows
    return np.asarray(np.ldexp(rows, -int(np.frexp(largest)[1])))


def _rescaled(rows: Rows) -> Rows:
    """Columns whose squares would overflow or vanish, divided by a power of two near their size."""
    largest = np.abs(rows).max(axis=0)
    extreme = (largest > _LARGEST) | (np.ptp(0.5 * rows, axis=0) < 0.5 / _LARGEST)
    if not extreme.any():
        return rows
    exponents = np.where(extreme, np.frexp(largest)[1], 0)
    halves = exponents // 2  # 2^-e itself may overflow
    return np.asarray(np.ldexp(np.ldexp(rows, -halves), halves - exponents))


def as_labels(values: Any, name: str) -> NDArray[np.int64] | None:
    """Labels as codes 0, 1, ..., array of shape (n,); None if the values are rows of numbers.

    Labels are one-dimensional whole numbers, booleans or strings, also mixed, in a list, array,
    tensor, series or categorical.

    Raises:
        ValueError: no labels, a single label, or a missing one (with its position).
    """
    array = label_array(values, name)
    if array.ndim != 1 or array.dtype.kind not in "biuUSO":
        return None
    if array.size == 0:
        raise ValueError(f"{name} is empty; give at least one label")
    codes = label_codes(array, name)
    if not codes.max():
        raise ValueError(f"{name} has one label, {array[0]}: it carries no information")
    return codes


def check_finite(rows: NDArray[np.float64], name: str) -> None:
    """Raise ValueError with the position of the first number that is not finite."""
    bad = ~np.isfinite(rows)
    if bad.any():
        where = np.argwhere(bad)[0]
        place = ", ".join(map(str, where))
        raise ValueError(f"{name}[{place}] is {rows[tuple(where)]}; all of {name} must be finite")


def paired(**arrays: Rows) -> int:
    """Common number of rows of all arrays.

    Raises:
        ValueError: the numbers differ.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"the arrays must have equal numbers of rows: {said}")
    return next(iter(lengths.values()))


def same_device(**arrays: Any) -> None:
    """Raise ValueError if tensors lie on different devices; numpy arrays count as CPU."""
    devices = {
        name: str(array.device) if hasattr(array, "detach") else "cpu"
        for name, array in arrays.items()
        if array is not None
    }
    if len({device.split(":")[0] for device in devices.values()}) > 1:
        said = ", ".join(f"{name} is on {device}" for name, device in devices.items())
        raise ValueError(f"arrays lie on different devices ({said}); move them to one device")


def to_numpy(values: Any, name: str = "x") -> NDArray[Any]:
    """An array from an array, nested list, data frame, or tensor of any device and dtype.

    Raises:
        ValueError: a ragged list or objects, with the dtype; masked entries.
    """
    if hasattr(values, "detach") and values.is_complex():
        raise ValueError(f"{name} must hold real numbers, got dtype {values.dtype}")
    try:
        array = np.asarray(plain(values))
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}") from None
    if array.dtype == object and all(isinstance(item, Real) for item in array.flat):
        array = array.astype(np.float64)  # columns of several dtypes in a data frame
    if array.dtype == object and all(isinstance(item, str) for item in array.flat):
        array = array.astype(str)
    if array.dtype == object:
        raise ValueError(
            f"{name} has dtype object (rows of different length, or mixed types); "
            "give one rectangular array of numbers"
        )
    return array


def narrowed(rows: Rows) -> Rows:
    """At most n centred columns with the same inner products as the centred rows."""
    n, d = rows.shape
    if d <= n:
        return rows
    triangle: Rows = qr((rows - rows.mean(axis=0)).T, mode="r")[0][:n]
    return triangle.T


def duplicated_rows(rows: Rows) -> float:
    """Share of rows that equal an earlier row."""
    return 1.0 - len(np.unique(rows, axis=0)) / len(rows)


def duplicates_reason(rows: Rows, name: str) -> str:
    """Message about repeated rows, which continuous variables do not have; may be empty."""
    share = duplicated_rows(rows)
    if share <= MAX_DUPLICATES:
        return ""
    return (
        f"{share:.0%} of the rows of {name} repeat an earlier one, so it is not continuous or its "
        "rows are not independent (pass clusters=)"
    )
