"""Error messages for missing optional dependencies."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtra(ModuleNotFoundError):
    """An optional dependency is not installed; the message says how to install it."""


def installed(module: str) -> bool:
    """Whether a top-level module is installed, without importing it.

    Example:
        >>> installed("numpy"), installed("no_such_module")
        (True, False)
    """
    return find_spec(module) is not None


def require(who: str, module: str, extra: str) -> None:
    """Raise MissingExtra unless a top-level module is installed.

    Args:
        who: feature that needs the module; starts the message.
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
