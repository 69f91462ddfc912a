"""The exception whose message is written for the user."""


class BridgeError(ValueError):
    """An invalid request; the message says what was passed and what to do.

    The command line prints it as one line and exits with code 2.
    """
