"""The built reference models in the cache: every file is compared with its hash when it is used."""

from __future__ import annotations

import os

import pytest

from tests.vlm_bridge.tiny import processor, tiny_llava
from vlm_bridge.model.vlm import load
from vlm_bridge.reference import cache
from vlm_bridge.runtime.built_folder import is_unchanged


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """A cache in which `reference` is a tiny model; the list grows by one for every build."""
    built: list[object] = []

    def build(recipe, tensors):
        built.append(recipe)
        return tiny_llava().model, processor()

    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "build", build)
    return built


def flip_a_bit(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


CHANGES = {
    "a bit of the weights": flip_a_bit,
    "a setting": lambda folder: (folder / "config.json").write_text("{}"),
    "a missing file": lambda folder: (folder / "tokenizer.json").unlink(),
    "an added file": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "no hashes": lambda folder: (folder / "sha256.json").unlink(),
    "broken hashes": lambda folder: (folder / "sha256.json").write_text("{"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_built_again(change, builds, capsys):
    first = load("reference").fingerprint
    assert load("reference").fingerprint == first
    assert len(builds) == 1
    folder = cache.reference_folder()
    CHANGES[change](folder)
    assert not is_unchanged(folder)
    assert load("reference").fingerprint == first
    assert len(builds) == 2
    assert "was changed after it was built" in capsys.readouterr().err
    assert cache.reference_folder() == folder
    assert len(builds) == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_in_use_is_verified_not_trusted_by_its_date(builds):
    folder = cache.reference_folder()
    times = os.stat(folder / "model.safetensors")
    flip_a_bit(folder)
    os.utime(folder / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_unchanged(folder)
