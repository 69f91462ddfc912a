"""Tiny wheels and Debian packages, pinned as the catalogue pins real ones."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from vlm_bridge.third_party.entry import Archive, Entry, Member

POOL = "pool/main/t/tiny"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def member(path: str, data: bytes) -> Member:
    return Member(path, sha256(data), len(data))


def members(pattern: str, files: Mapping[str, bytes]) -> Member:
    """One member for all these files."""
    lines = "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files))
    return Member(pattern, sha256(lines.encode()), sum(map(len, files.values())))


def wheel_bytes(files: Mapping[str, bytes], package: str = "tiny") -> bytes:
    """A wheel that pip accepts."""
    information = f"{package}-1.0.dist-info"
    head = {
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/RECORD": "",
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, **head}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def tar_bytes(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return stream.getvalue()


def ar_bytes(parts: Mapping[str, bytes]) -> bytes:
    data = b"!<arch>\n"
    for name, content in parts.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    return data


def deb_bytes(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": tar_bytes({"control": b"x"})}
    parts["_odd"] = b"odd"  # a byte follows a part of odd length
    return ar_bytes({**parts, "data.tar.xz": tar_bytes(files, links)})


def pinned(folder: Path, data: bytes, used: Iterable[Member], *, deb: bool = False) -> Archive:
    """Write an archive into a folder under its file name, and return its pin."""
    file = "tiny_1:1.0_all.deb" if deb else "tiny-1.0-py3-none-any.whl"
    (folder / file).write_bytes(data)
    return Archive(
        package="tiny",
        version="1:1.0" if deb else "1.0",
        file=file,
        sha256=sha256(data),
        size=len(data),
        members=tuple(used),
        pool=POOL if deb else "",
    )


def an_entry(archive: Archive, conversion: str, *, kind: str = "data", name: str = "tiny") -> Entry:
    return Entry(
        name=name,
        kind=kind,
        what="A tiny thing",
        licence="MIT",
        licence_source="It says MIT.",
        maker="Nobody",
        origin="https://example.org",
        attribution="Tiny by Nobody (MIT)",
        conversion=conversion,
        content="Little.",
        archives=(archive,),
    )
