"""Read and write result files; a write is atomic and checked in advance."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from estimators.record import CHECKSUM, Record, checksum
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.runtime.strict_json import decode_utf8, parse_json

R = TypeVar("R", bound=Record)

#: Largest JSON file that is read; those of this project are below 1 MiB, manifests excepted.
MAX_JSON_BYTES = 64 * 2**20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def cache_root() -> Path:
    """The folder of generated images and built models: `$SKIPIT_CACHE`, else the user's cache."""
    override = os.environ.get("SKIPIT_CACHE")
    return Path(override) if override else user_cache_path("skipit")


def safe_name(text: str) -> str:
    """Text as a part of a file name: letters, digits, `.`, `_` and `-`; never a path.

    Text that had to be changed gets a digest, so that different texts stay different.

    Example:
        >>> safe_name("reference-late-entry"), safe_name("../x")
        ('reference-late-entry', 'x-d6b96a97')
    """
    name = _UNSAFE.sub("-", text).strip("-.")[:100]
    if name and name == text:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name}-{digest}" if name else digest


def check_writable(path: Path) -> Path:
    """Raise a `BridgeError` if no file can be written at `path`, before long work for it.

    Devices, pipes, sockets and links are refused: a write would replace them, not write to them.
    """
    try:
        kind = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        pass  # a parent that is a file is named below
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        raise BridgeError(f"cannot write to {shown(str(path))}: {_why(error)}") from None
    else:
        if stat.S_ISDIR(kind):
            raise BridgeError(f"{path} is a folder; name a file to write")
        if stat.S_ISLNK(kind):
            raise BridgeError(f"{path} is a link, which a write would replace; name its target")
        if not stat.S_ISREG(kind):
            raise BridgeError(f"{path} is a device or pipe, not a file; name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        raise BridgeError(f"cannot write to {path.parent}: {_why(error)}") from None
    return path


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically: a killed run leaves the old file or none."""
    with new_file(path) as partial:
        partial.write_bytes(data)
    return path


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary file, renamed to `path` if the block succeeds: the old file, or the new one.

    Raises:
        BridgeError: the file cannot be written.
    """
    check_writable(path)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".skipit-")
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        os.replace(partial, path)
    except OSError as error:
        raise BridgeError(f"cannot write {path}: {_why(error)}") from None
    finally:
        partial.unlink(missing_ok=True)  # it no longer exists after a replace


@contextlib.contextmanager
def new_folder(folder: Path, *, cached: bool = False) -> Iterator[Path]:
    """A temporary folder, renamed to `folder` if the block succeeds: complete or absent.

    A `cached` folder may be built by several processes at once; that of the first remains. What a
    killed process left beside it a day ago or more is removed.

    Raises:
        BridgeError: the parent of `folder` cannot be written, or something is at `folder` that is
            no empty folder.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if cached:
            _remove_stale(folder)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:100]}-"))
    except (OSError, ValueError) as error:
        hint = "; set SKIPIT_CACHE to a folder you can write" if cached else ""
        raise BridgeError(f"cannot write to {folder.parent}: {_why(error)}{hint}") from None
    try:
        yield partial
        partial.chmod(0o755)
        try:
            os.replace(partial, folder)  # replaces an empty folder
        except OSError as error:
            if not (cached and folder.is_dir()):
                raise BridgeError(f"cannot write the folder {folder}: {_why(error)}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Delete the temporary folders of `folder` that nobody has touched for a day."""
    yesterday = time.time() - 86_400
    for left in folder.parent.glob(f".{glob.escape(folder.name[:100])}-*"):
        with contextlib.suppress(OSError):
            if left.is_dir() and left.stat().st_mtime < yesterday:
                shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, data: Any) -> Path:
    """`write_bytes` of strict JSON: NaN and infinity raise a `ValueError`."""
    return write_bytes(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def read_bytes(path: Path, what: str, *, limit: int = MAX_JSON_BYTES) -> bytes:
    """Read a regular file of at most `limit` bytes; `what` names it in messages."""
    if not os.path.isfile(path):
        raise BridgeError(f"no {what} at {path}")
    try:
        with path.open("rb") as handle:
            data = handle.read(limit + 1) if os.fstat(handle.fileno()).st_size <= limit else None
    except OSError as error:
        raise BridgeError(f"cannot read the {what} at {path}: {error.strerror}") from None
    except MemoryError:
        raise BridgeError(f"the {what} at {path} does not fit into memory") from None
    if data is None or len(data) > limit:
        raise BridgeError(f"the {what} at {path} is larger than {limit >> 20} MiB")
    return data


def read_json(path: Path, what: str, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file of at most `limit` bytes, strictly; `what` names it in messages.

    Raises:
        BridgeError: the file is missing, too large, or not JSON as `parse_json` reads it.
    """
    data = read_bytes(path, what, limit=limit)
    try:
        return parse_json(decode_utf8(data))
    except ValueError as error:
        raise BridgeError(f"the {what} at {path} is not JSON: {error}") from None
    except MemoryError:
        raise BridgeError(f"the {what} at {path} does not fit into memory") from None


def write_checked(path: Path, body: dict[str, Any]) -> Path:
    """Write an object with the checksum of its content, in one line of strict JSON."""
    checked = {**body, CHECKSUM: checksum(body)}
    return write_bytes(path, (json.dumps(checked, allow_nan=False) + "\n").encode())


def read_checked(path: Path, what: str) -> dict[str, Any]:
    """Read an object that `write_checked` wrote, without its checksum.

    Raises:
        BridgeError: as `read_json`; no object; no checksum, or content that differs from it.
    """
    body = read_json(path, what)
    if not isinstance(body, dict):
        raise BridgeError(f"the {what} at {path} is not a JSON object but {shown(body)}")
    if (stored := body.pop(CHECKSUM, None)) != checksum(body):
        problem = "has no checksum" if stored is None else "was changed since it was written"
        raise BridgeError(f"the {what} at {path} {problem}; delete it and make it again")
    return body


def write_record(path: Path, record: Record) -> Path:
    """Write a record and its checksum as one line of JSON."""
    return write_bytes(
        path, (json.dumps(record.to_checked_json(), allow_nan=False) + "\n").encode()
    )


def read_record(path: Path, kind: type[R], what: str) -> R:
    """Read a record of the type `kind`; `what` names it in messages.

    Raises:
        BridgeError: as `read_json`, the file holds another record, or it was changed since it was
            written (a file without checksum is taken as it is).
    """
    body = read_json(path, what)
    try:
        return kind.from_json(body)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        why = " ".join(str(error).split())
        article = "an" if what[:1].lower() in "aeiou" else "a"
        raise BridgeError(f"{path} does not hold {article} {what}: {why}") from None


def read_or_make(path: Path | None, kind: type[R], make: Callable[[], R]) -> R:
    """The record stored at `path`; if there is none, call `make` and store its result."""
    if path is not None and path.is_file():
        return read_record(path, kind, kind.__name__)
    record = make()
    if path is not None:
        write_record(path, record)
    return record


def _why(error: Exception) -> str:
    """What went wrong, without the path that `OSError` repeats."""
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
