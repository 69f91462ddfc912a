"""The one error class whose text is written for the user, not for a debugger."""

from __future__ import annotations


class BridgeError(ValueError):
    """A request that cannot be carried out; the message says what was passed and what to do.

    The command line prints it as one line and exits with code 2.
    """
