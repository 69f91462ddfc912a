"""A score of the user's own: any function of an item and an answer, checked at every call."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from pkgutil import resolve_name
from types import CodeType
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError, first_line, shown
from vlm_bridge.evaluate.scorers.protocol import Scorer

#: A function from an item and an answer to it to a score in [0, 1], None without a label.
Function = Callable[[Item, str], float | None]


class Own(Scorer):
    """A function of the user, item and answer in, a number in [0, 1] out, or None.

    It must depend on its arguments alone: a certificate relies on that equal answers to a question
    have equal scores. Its key has the hash of its code, so that an edited function reads no score
    of the earlier one from a checkpoint; edits of what it calls or captures are not seen.

    Args:
        function: the function; its module and name are the name of the scorer.

    Raises:
        BridgeError: no function; a score outside [0, 1] or an error of the function, when it is
            called.

    Source:
        The user.

    Example:
        >>> def short(item, text): return 1.0 if len(text) < 9 else 0.0
        >>> Own(short).score("yes", Item(None, "is it red?"))
        1.0
    """

    claim = "the score of your own function, item and answer in, a number in [0, 1] out"
    source = "the user"
    needs_labels = False

    def __init__(self, function: Function) -> None:
        if not callable(function):
            raise BridgeError(f"a scorer is a name or a function, got {shown(function)}")
        module = getattr(function, "__module__", "?")
        called = getattr(function, "__qualname__", type(function).__qualname__)
        self.name = f"{module}:{called}"
        self.function = function
        self._hash = hashlib.sha256("\0".join(_code_of(function)).encode()).hexdigest()[:16]

    @property
    def key(self) -> str:
        """Name, and hash of the source and the code of the function."""
        return f"{self.name} {self._hash}"

    def of(self, items: Sequence[Item]) -> Own:
        """Itself; the function is called with real answers alone."""
        return self

    def score(self, text: str, item: Item) -> float | None:
        """The number that the function returns, checked."""
        try:
            value: Any = self.function(item, text)
        except Exception as error:
            raise BridgeError(
                f"the scorer {self.name} raised {type(error).__name__}: {first_line(error)}, for "
                f"the answer {shown(text)} to {item.name}; it must score every answer"
            ) from error
        if value is None:
            return None
        number = _number(value)
        if number is None or not 0.0 <= number <= 1.0:
            raise BridgeError(
                f"the scorer {self.name} returned {shown(value)} for the answer {shown(text)} to "
                f"{item.name}; a score is a number in [0, 1], or None without a label"
            )
        return number


def named_function(name: str) -> Own:
    """The function that `MODULE:FUNCTION` names.

    Raises:
        BridgeError: it cannot be imported, or is no function.

    Example:
        >>> named_function("no_such_module:score")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: no scorer no_such_module:score: No module named
        'no_such_module'
    """
    try:
        found = resolve_name(name)
    except Exception as error:  # the module is the user's and may raise anything
        raise BridgeError(f"no scorer {name}: {first_line(error)}") from error
    made = Own(found)
    made.name = name
    return made


def _number(value: Any) -> float | None:
    """A number, or what becomes one, such as an array of one value; None for all else."""
    if isinstance(value, str) or not (isinstance(value, Real) or hasattr(value, "__float__")):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _code_of(function: Any) -> Iterator[str]:
    """The source of a function, or of the class of an object, and its code, as far as it has them.

    Lambdas of one line share their source, and functions that were typed in have none.
    """
    holder = function if inspect.isroutine(function) else type(function)
    try:
        yield inspect.getsource(holder)
    except (OSError, TypeError):
        pass
    called = function if inspect.isroutine(function) else holder.__call__
    code = getattr(inspect.unwrap(called), "__code__", None)
    if code is not None:
        yield from _parts_of(code)


def _parts_of(code: CodeType) -> Iterator[str]:
    """Instructions, names and constants; those of functions inside in turn, without addresses."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts_of(constant)
        else:
            yield _text_of(constant)


def _text_of(constant: Any) -> str:
    """A constant as text; a set of texts has another order in every process."""
    if isinstance(constant, frozenset):
        return f"set {sorted(map(repr, constant))}"
    return repr(constant)
