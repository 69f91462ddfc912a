"""A lock file beside a file that one process at a time reads and writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import check_writable

#: How long another process may hold a file; it needs milliseconds.
LOCK_S = 60.0


@contextlib.contextmanager
def locked(path: Path, what: str, *, timeout_s: float = LOCK_S) -> Iterator[None]:
    """Hold `path` alone in the block, by a lock file beside it (`.lock`).

    Args:
        path: the file; `what` names it in messages.
        what: kind of file, such as "ledger".
        timeout_s: seconds to wait for another process.

    Raises:
        BridgeError: no file can be written at `path`, another process holds it, or it cannot be
            used.
    """
    check_writable(path)
    try:
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=timeout_s):
            yield
    except Timeout:
        raise BridgeError(
            f"another process holds the {what} {path} for more than {timeout_s:g} s"
        ) from None
    except OSError as error:
        raise BridgeError(f"cannot use the {what} {path}: {error.strerror}") from None
