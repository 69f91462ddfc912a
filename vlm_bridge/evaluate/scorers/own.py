"""A score of the user's own: any function of an item and an answer, checked at every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from pkgutil import resolve_name
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError, first_line, shown
from vlm_bridge.evaluate.scorers.protocol import Scorer

#: A function from an item and an answer to it to a score in [0, 1], None without a label.
Function = Callable[[Item, str], float | None]


class Own(Scorer):
    """A function of the user, item and answer in, a number in [0, 1] out, or None.

    It must depend on its arguments alone: a certificate relies on that equal answers to a question
    have equal scores.

    Args:
        function: the function; its module and name are the name of the scorer.

    Raises:
        BridgeError: no function; a score outside [0, 1], when it is made.

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

    def of(self, items: Sequence[Item]) -> Own:
        """Itself; the function is called with real answers alone."""
        return self

    def score(self, text: str, item: Item) -> float | None:
        """The number that the function returns, checked."""
        value: Any = self.function(item, text)
        if value is None:
            return None
        number = isinstance(value, Real) or hasattr(value, "__float__")
        if isinstance(value, str) or not number or not 0.0 <= float(value) <= 1.0:
            raise BridgeError(
                f"the scorer {self.name} returned {shown(value)} for the answer {shown(text)} to "
                f"{item.name}; a score is a number in [0, 1], or None without a label"
            )
        return float(value)


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
    except (ImportError, AttributeError, ValueError) as error:
        raise BridgeError(f"no scorer {name}: {first_line(error)}") from None
    made = Own(found)
    made.name = name
    return made
