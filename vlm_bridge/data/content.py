"""Name the content of a file or a text by its SHA-256, whatever the file's path."""

from __future__ import annotations

import functools
import hashlib
import os
import time
import unicodedata
from pathlib import Path

from vlm_bridge.errors import BridgeError

#: Seconds after which an unchanged time stamp proves that a file was not written again.
_SETTLED_S = 2.0


def file_hash(path: Path, what: str = "file") -> str:
    """SHA-256 of a file's bytes, the same for every copy and spelling of its path.

    `what` names the file in messages: "image", "audio file".

    Raises:
        BridgeError: there is no such file, or it cannot be read.
    """
    try:
        if not os.path.isfile(path):
            raise BridgeError(f"no {what} at {path}")
        entry = os.stat(path)
        if time.time() - max(entry.st_mtime, entry.st_ctime) < _SETTLED_S:
            return _digest(path)  # it may be written again within one tick of the clock
        stamp = (entry.st_dev, entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns)
        return _digest_at(os.path.abspath(path), stamp)
    except OSError as error:
        raise BridgeError(f"cannot read the {what} {path}: {error.strerror}") from None


def text_hash(text: str) -> str:
    r"""SHA-256 of a text; case, Unicode form (NFKC) and the kind of white space do not count.

    Example:
        >>> text_hash("Who  wrote it?") == text_hash("who wrote it?\n") != text_hash("why?")
        True
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return hashlib.sha256(f"text\0{' '.join(folded.split())}".encode()).hexdigest()


@functools.lru_cache(maxsize=200_000)
def _digest_at(path: str, stamp: tuple[int, ...]) -> str:
    """The digest of a file as it was at a time stamp."""
    return _digest(Path(path))


def _digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
