"""Labels of rows: from lists, arrays and data frames to codes; missing ones are refused."""

from __future__ import annotations

import numbers
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: One label per row.
Labels = Sequence[Hashable] | NDArray[np.generic]
#: How libraries write a missing entry as text.
_WRITTEN_MISSING = frozenset({"", "nan", "NaN", "None", "<NA>", "NaT"})


def plain(values: Any) -> Any:
    """A tensor, data frame or series as a numpy array; anything else unchanged.

    Raises:
        ValueError: a masked array with masked entries.
    """
    if hasattr(values, "detach"):
        tensor = values.detach()
        if "float" in str(tensor.dtype) and tensor.itemsize <= 2:
            tensor = tensor.float()  # numpy has no bfloat16
        return tensor.cpu().numpy()
    if np.ma.is_masked(values):
        raise ValueError("a masked array has masked entries; drop or fill them first")
    if hasattr(values, "to_numpy"):  # pandas, polars, pyarrow
        return values.to_numpy()
    return values


def is_missing(label: object) -> bool:
    """Whether a label is NaN, None, NA, NaT, blank text or such text of a library.

    Example:
        >>> [is_missing(label) for label in (float("nan"), None, " ", "nan", ("a", None), 0, "a")]
        [True, True, True, True, True, False, False]
    """
    if label is None:
        return True
    if isinstance(label, str | bytes):
        text = label.decode(errors="replace") if isinstance(label, bytes) else label
        return text.strip() in _WRITTEN_MISSING
    if isinstance(label, tuple):
        return any(map(is_missing, label))
    try:
        return bool(label != label)  # NaN and NaT differ from themselves
    except TypeError:  # pandas.NA is neither equal nor different
        return True


def appearance_codes(labels: Labels, name: str = "clusters") -> NDArray[np.intp]:
    """Labels as 0, 1, 2, ... in order of first appearance, (n,).

    Args:
        labels: n hashable labels in a list, array, tensor or series.
        name: name of the argument in messages.

    Raises:
        ValueError: a label that cannot be hashed, or is missing (with its position).
    """
    given: Any = plain(labels)
    if isinstance(given, str | bytes | set | frozenset) or not hasattr(given, "__iter__"):
        raise ValueError(
            f"{name} must be one label for each row, got {type(given).__name__}: "
            "give a list or array of labels"
        )
    codes: dict[Hashable, int] = {}
    out: list[int] = []
    try:
        for label in given.tolist() if isinstance(given, np.ndarray) else given:
            if label not in codes:
                if is_missing(label):
                    raise ValueError(
                        f"{name}[{len(out)}] is {label!r}, which names no cluster: rows of unknown "
                        "origin do not count as independent; fill in the id or drop the row"
                    )
                codes[label] = len(codes)
            out.append(codes[label])
    except TypeError as error:
        raise ValueError(f"cluster labels must be hashable: {error}") from None
    return np.array(out, dtype=np.intp)


def label_array(values: Any, name: str) -> NDArray[Any]:
    """Values as an array of numbers, text, or objects where types are mixed.

    A list of mixed types stays as it is: as numpy array, `[1, "1"]` would be twice the same.

    Raises:
        ValueError: a ragged list, or a missing entry (with its position).
    """
    given = plain(values)
    try:
        array = np.asarray(given, dtype=object if isinstance(given, list | tuple) else None)
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}") from None
    if array.dtype.kind == "T":  # numpy's strings of variable length
        array = array.astype(object)
    if array.dtype != object:
        return array
    items = array.ravel().tolist()
    for place, item in enumerate(items):
        if not isinstance(item, str) and is_missing(item):
            where = ", ".join(map(str, np.unravel_index(place, array.shape)))
            raise ValueError(f"{name}[{where}] is {item!r}, a missing value; drop or fill the row")
    for kind in (numbers.Real, str, bytes):
        if all(isinstance(item, kind) for item in items):
            return np.array(items, dtype=None if items else float).reshape(array.shape)
    return array


def label_codes(array: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Codes 0, 1, ... of the labels of a `label_array`, (n,); rows of two axes are one label each.

    Raises:
        ValueError: a label that cannot be hashed.
    """
    if array.dtype != object:
        return np.unique(array, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    labels = array.tolist() if array.ndim == 1 else [tuple(row) for row in array.tolist()]
    try:
        ranked = sorted(set(labels), key=lambda label: (type(label).__name__, repr(label)))
    except TypeError as error:
        raise ValueError(f"{name} must hold labels that can be hashed: {error}") from None
    number = {label: code for code, label in enumerate(ranked)}
    return np.array([number[label] for label in labels], dtype=np.int64)
