"""The exception whose message is written for the user."""

from __future__ import annotations


class BridgeError(ValueError):
    """An invalid request; the message says what was passed and what to do.

    The command line prints it as one line and exits with code 2.
    """
