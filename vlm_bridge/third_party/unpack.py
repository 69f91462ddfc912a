"""Take the members of a wheel or a Debian package out of it; nothing in it is executed."""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from vlm_bridge.errors import BridgeError, first_line, shown
from vlm_bridge.runtime.built_folder import file_sha256
from vlm_bridge.runtime.files import read_bytes
from vlm_bridge.third_party.entry import Archive, Member

#: What readers of archives raise on broken, encrypted or unknown ones.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError),
    *(RuntimeError, NotImplementedError),
)
#: Magic of an `ar` archive, and the length of the header of each of its parts.
_AR, _AR_HEADER = b"!<arch>\n", 60


def unpack(file: Path, archive: Archive, folder: Path) -> None:
    """Write the members of an archive into a folder, after its whole SHA-256 was compared.

    Raises:
        BridgeError: the file has another size or hash; it is no wheel or Debian package; a member
            is missing, would lie outside the folder, is no regular file, occurs twice, is larger
            than the catalogue says, or has another hash.
    """
    check_whole(file, archive)
    written: set[str] = set()

    def write(name: str, source: IO[bytes]) -> None:
        member = next((member for member in archive.members if member.covers(name)), None)
        if member is None:
            return
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BridgeError(f"{file.name} holds {shown(name)}, which lies outside its folder")
        if name in written:
            raise BridgeError(f"{file.name} holds {shown(name)} twice")
        written.add(name)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as sink:
            shutil.copyfileobj(_Bounded(source, member, file), sink)

    try:
        (_each_of_deb if archive.pool else _each_of_wheel)(file, archive, write)
    except OSError as error:
        raise BridgeError(f"cannot unpack {file.name}: {first_line(error)}") from None
    except _BROKEN as error:
        raise BridgeError(f"{file.name} is broken: {' '.join(str(error).split())}") from None
    check_members(folder, archive)


def check_whole(file: Path, archive: Archive) -> None:
    """Refuse a file that is not the pinned archive, before anything of it is read."""
    if not file.is_file():
        raise BridgeError(f"there is no file {file}")
    if (size := file.stat().st_size) != archive.size:
        raise BridgeError(
            f"{file.name} is not the pinned file: it has {size} bytes, expected {archive.size}"
        )
    if (digest := file_sha256(file)) != archive.sha256:
        raise BridgeError(
            f"{file.name} is not the pinned file: sha256 {digest}, expected {archive.sha256}"
        )


def check_members(root: Path, archive: Archive) -> None:
    """Refuse a folder that does not hold every member of an archive, byte for byte."""
    for member in archive.members:
        if not (names := files_of(root, member)):
            raise BridgeError(f"{member.path} of {archive.pinned} is missing in {root}")
        size = sum((root / name).stat().st_size for name in names)
        digest = _digest(root, member, names) if size == member.size else ""
        if digest != member.sha256:
            found = f"sha256 {digest}" if digest else f"{size} bytes"
            wanted = f"sha256 {member.sha256}" if digest else f"{member.size} bytes"
            raise BridgeError(
                f"{member.path} in {root} is not that of {archive.pinned}: {found}, "
                f"expected {wanted}"
            )


def files_of(root: Path, member: Member) -> list[str]:
    """The paths below `root` for which a member stands, sorted."""
    if not member.several:
        return [member.path] if (root / member.path).is_file() else []
    folder = root / member.folder
    found = (path for path in folder.rglob(PurePosixPath(member.path).name) if path.is_file())
    return sorted(path.relative_to(root).as_posix() for path in found)


def _digest(root: Path, member: Member, names: list[str]) -> str:
    if not member.several:
        return file_sha256(root / member.path)
    lines = (f"{file_sha256(root / name)}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class _Bounded(io.RawIOBase):
    """A source that refuses to yield more bytes than its member may have."""

    def __init__(self, source: IO[bytes], member: Member, file: Path) -> None:
        self._source, self._left = source, member.size
        self._said = f"{member.path} in {file.name} is larger than {member.size} bytes"

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BridgeError(self._said)
        return data


def _each_of_wheel(file: Path, _: Archive, write: Callable[[str, IO[bytes]], None]) -> None:
    with zipfile.ZipFile(file) as wheel:
        for entry in wheel.infolist():
            if not entry.is_dir():
                with wheel.open(entry) as source:
                    write(entry.filename, source)


def _each_of_deb(file: Path, archive: Archive, write: Callable[[str, IO[bytes]], None]) -> None:
    data = read_bytes(file, "Debian package", limit=archive.size)
    content = next((part for name, part in _parts(file, data) if name.startswith("data.tar")), None)
    if content is None:
        raise BridgeError(f"{file.name} is no Debian package: it holds no data.tar")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|*") as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            used = any(member.covers(name) for member in archive.members)
            if not used or entry.isdir():
                continue
            if not entry.isreg():
                raise BridgeError(f"{file.name} holds {shown(name)}, which is no regular file")
            source = tar.extractfile(entry)
            assert source is not None  # it is a regular file
            write(name, source)


def _parts(file: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each part of an `ar` archive.

    A header is 60 bytes: the name in 16, further fields, the decimal size at 48 in 10, and a mark;
    contents of odd length are followed by one byte.
    """
    if not data.startswith(_AR):
        raise BridgeError(f"{file.name} is no Debian package: it is no ar archive")
    at = len(_AR)
    while at < len(data):
        header = data[at : at + _AR_HEADER]
        digits = header[48:58].strip()
        if len(header) < _AR_HEADER or not header.endswith(b"`\n") or not digits.isdigit():
            raise BridgeError(f"{file.name} is broken: no header of a part at byte {at}")
        start, size = at + _AR_HEADER, int(digits)
        if start + size > len(data):
            raise BridgeError(f"{file.name} is broken: a part at byte {at} is cut off")
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        yield name, data[start : start + size]
        at = start + size + size % 2
