"""What the catalogue records of a model or data set: origin, licence, archives and their hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from estimators.record import Record


@dataclass(frozen=True)
class Member(Record):
    """A file of an archive that is used, or several of one folder and below.

    Attributes:
        path: its path in the archive; a last part `*.wav` stands for all such files below.
        sha256: of the file; of several files, of the lines `SHA256  PATH` in the order of paths,
            as `sha256sum` prints them.
        size: bytes, of all files together.
    """

    path: str
    sha256: str
    size: int

    @property
    def several(self) -> bool:
        """Whether it stands for all files of a kind in a folder and below."""
        return "*" in self.path

    @property
    def folder(self) -> PurePosixPath:
        """The folder of the file or files."""
        return PurePosixPath(self.path).parent

    def covers(self, name: str) -> bool:
        """Whether it stands for the file `name` of the archive.

        Example:
            >>> sounds = Member("share/sounds/*.wav", "", 0)
            >>> sounds.covers("share/sounds/digits/1.wav"), sounds.covers("share/a.wav")
            (True, False)
        """
        if not self.several:
            return name == self.path
        ending = PurePosixPath(self.path).name.removeprefix("*")
        return name.startswith(f"{self.folder}/") and name.endswith(ending)


@dataclass(frozen=True)
class Archive(Record):
    """A file of a package registry: a wheel of PyPI or a package of Debian.

    Attributes:
        package, version: as the registry names them.
        file: its file name there.
        sha256, size: of the whole file; size in bytes.
        members: what is used of it.
        pool: of a Debian package, its folder in the pool; empty for a wheel.
    """

    package: str
    version: str
    file: str
    sha256: str
    size: int
    members: tuple[Member, ...]
    pool: str = ""

    @property
    def registry(self) -> str:
        """`Debian` or `PyPI`."""
        return "Debian" if self.pool else "PyPI"

    @property
    def pinned(self) -> str:
        """Package and version as its own tool takes them."""
        return f"{self.package}{'=' if self.pool else '=='}{self.version}"


@dataclass(frozen=True)
class Entry(Record):
    """A model or a data set of others.

    Attributes:
        name: the name by which it is asked for.
        kind: `model` or `data`.
        what: what it is, in one line.
        licence: SPDX expression.
        licence_source: what the licence files of the archives say, and what they leave open.
        maker: who made it.
        origin: where the archives say that it comes from.
        attribution: the line by which a result that used it names it.
        conversion: module of `vlm_bridge.third_party` whose `convert` writes the folder.
        content: what the converted folder holds.
        archives: the files that it is made of.
    """

    name: str
    kind: str
    what: str
    licence: str
    licence_source: str
    maker: str
    origin: str
    attribution: str
    conversion: str
    content: str
    archives: tuple[Archive, ...]

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(archive.size for archive in self.archives)
