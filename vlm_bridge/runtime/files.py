"""Read and write result files; a write is atomic and checked in advance."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from estimators.record import Record
from vlm_bridge.errors import BridgeError

R = TypeVar("R", bound=Record)


def cache_root() -> Path:
    """The folder of generated images and built models: `$SKIPIT_CACHE`, else the user's cache."""
    override = os.environ.get("SKIPIT_CACHE")
    return Path(override) if override else user_cache_path("skipit")


def check_writable(path: Path) -> Path:
    """Raise a `BridgeError` if no file can be written at `path`, before long work for it."""
    if path.is_dir():
        raise BridgeError(f"{path} is a folder; name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise BridgeError(f"cannot write to {path.parent}: {error.strerror}") from None
    return path


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically: a killed run leaves the old file or none."""
    check_writable(path)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except OSError as error:
        raise BridgeError(f"cannot write {path}: {error.strerror}") from None
    finally:
        Path(partial).unlink(missing_ok=True)  # it no longer exists after a replace
    return path


@contextlib.contextmanager
def new_folder(folder: Path, *, cached: bool = False) -> Iterator[Path]:
    """A temporary folder, renamed to `folder` if the block succeeds: complete or absent.

    A `cached` folder may be built by several processes at once; that of the first remains.

    Raises:
        BridgeError: the parent of `folder` cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        hint = "; set SKIPIT_CACHE to a folder you can write" if cached else ""
        raise BridgeError(f"cannot write to {folder.parent}: {error.strerror}{hint}") from None
    try:
        yield partial
        partial.chmod(0o755)
        try:
            os.replace(partial, folder)  # replaces an empty folder
        except OSError:
            if not (cached and folder.is_dir()):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, data: Any) -> Path:
    """`write_bytes` of strict JSON: NaN and infinity raise a `ValueError`."""
    return write_bytes(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file; `what` names it in messages."""
    if not path.is_file():
        raise BridgeError(f"no {what} at {path}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise BridgeError(f"the {what} at {path} is not JSON") from None


def write_record(path: Path, record: Record) -> Path:
    """Write a record as one line of JSON."""
    return write_bytes(path, (record.dumps() + "\n").encode())


def read_record(path: Path, kind: type[R], what: str) -> R:
    """Read a record of the type `kind`; `what` names it in messages."""
    body = read_json(path, what)
    try:
        return kind.from_json(body)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BridgeError(f"{path} does not hold a {what}: {error}") from None


def read_or_make(path: Path | None, kind: type[R], make: Callable[[], R]) -> R:
    """The record stored at `path`; if there is none, call `make` and store its result."""
    if path is not None and path.is_file():
        return read_record(path, kind, kind.__name__)
    record = make()
    if path is not None:
        write_record(path, record)
    return record
