"""What an extra installs, said in one line where it is missing."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtra(ModuleNotFoundError):
    """A package of an extra is not installed; the message is the line that installs it."""


def installed(module: str) -> bool:
    """Whether a top-level module can be imported; nothing is imported to find out.

    Example:
        >>> installed("numpy"), installed("no_such_module")
        (True, False)
    """
    return find_spec(module) is not None


def require(who: str, module: str, extra: str) -> None:
    """Do nothing if a top-level module can be imported, else name the extra that brings it.

    Args:
        who: what needs it, the start of the message.
        module: the module, such as "torch".
        extra: the extra of `skipit` that installs it.

    Raises:
        MissingExtra: the module is not installed.

    Example:
        >>> require("theory", "no_such_module", "theory")
        Traceback (most recent call last):
            ...
        estimators.extras.MissingExtra: theory needs no_such_module: pip install 'skipit[theory]'
    """
    if not installed(module):
        raise MissingExtra(f"{who} needs {module}: pip install 'skipit[{extra}]'", name=module)
