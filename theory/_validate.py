"""Argument checks shared by the public functions of this package.

A wrong type is a `TypeError`, a wrong value a `ValueError`; both name the argument in one line.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Largest integer that an argument may be; far above any count of images, plans or layers.
MOST = 10**12


def shown(value: object) -> str:
    """A value and its type in one short line, for messages."""
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def check_number(number: float, name: str) -> float:
    """A real number as a float; NaN and infinities pass.

    Raises:
        TypeError: not a real number; True and False are none.
    """
    scalar = number.item() if isinstance(number, np.generic) else number
    if isinstance(scalar, bool) or not isinstance(scalar, Real):
        raise TypeError(f"{name} must be a number, got {shown(number)}")
    try:
        return float(scalar)
    except OverflowError:
        raise ValueError(f"{name} must be a number of usual size, got {shown(number)}") from None


def check_fraction(number: float, name: str) -> None:
    """Raise unless a number lies strictly between 0 and 1.

    Raises:
        TypeError: not a real number.
        ValueError: NaN, or not between 0 and 1.
    """
    if not 0.0 < check_number(number, name) < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {number}")


def check_count(number: int, name: str, *, least: int = 1) -> int:
    """An integer, at least `least`.

    Raises:
        TypeError: not an integer; 2.0 and True are none.
        ValueError: below `least`, or above `MOST`.
    """
    try:
        whole = operator.index(number)
    except TypeError:
        whole = None
    if whole is None or isinstance(number, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, got {shown(number)}")
    if not least <= whole <= MOST:
        limit = f"at least {least}" if whole < least else f"at most {MOST}"
        raise ValueError(f"{name} must be {limit}, got {whole}")
    return whole


def check_counts(numbers: Any, name: str, *, least: int = 0) -> tuple[int, ...]:
    """Several integers, each at least `least`.

    Raises:
        TypeError: not a collection of integers.
        ValueError: an integer below `least`.
    """
    several = isinstance(numbers, Collection) or (
        isinstance(numbers, np.ndarray) and numbers.ndim == 1
    )
    if not several or isinstance(numbers, str | bytes):
        raise TypeError(f"{name} must be several integers, got {shown(numbers)}")
    return tuple(check_count(number, name, least=least) for number in numbers)


def check_text(text: Any, name: str, example: str) -> str:
    """A text.

    Raises:
        TypeError: not a text; the message gives the example.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text such as {example}, got {shown(text)}")
    return text


def check_texts(texts: Any, name: str, example: str) -> list[str]:
    """Several texts as a list.

    Raises:
        TypeError: not a sequence of texts; the message gives the example.
    """
    if not isinstance(texts, Sequence | set | frozenset):
        raise TypeError(f"{name} must be texts such as {example}, got {shown(texts)}")
    return [check_text(text, name, example) for text in texts]


def check_choice(value: Any, name: str, known: Iterable[str]) -> str:
    """One of the known texts.

    Raises:
        ValueError: another value; the message lists the known ones.
    """
    choices = tuple(known)
    if not isinstance(value, str) or value not in choices:
        plain = f"'{value}'" if isinstance(value, str) else shown(value)
        raise ValueError(f"unknown {name} {plain}; choose from {', '.join(choices)}")
    return str(value)


def check_instance(value: Any, kind: type, name: str) -> None:
    """Raise unless a value is of a type.

    Raises:
        TypeError: another type.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {shown(value)}")


def reread(labels: Any) -> Any:
    """Labels that can be read more than once: those of a generator become a list.

    >>> reread(name for name in "ab")
    ['a', 'b']
    """
    return list(labels) if isinstance(labels, Iterator) else labels


def check_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Real numbers as a float64 array of any shape; True and False count as 1 and 0.

    Raises:
        TypeError: not an array of real numbers.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of numbers, got {shown(values)}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of numbers, got {shown(values)}")
    return array.astype(np.float64)
