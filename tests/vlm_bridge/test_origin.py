"""Every result can say whose models and data it used."""

import pytest

from vlm_bridge.data import TASKS
from vlm_bridge.reference.origin import parts, sources_of
from vlm_bridge.reference.recipe import RECIPES
from vlm_bridge.third_party.catalogue import CATALOGUE


@pytest.mark.parametrize("name", [n for n, e in CATALOGUE.items() if e.kind == "model"])
def test_models_of_others_are_attributed(name):
    (line,) = sources_of(name)
    assert line == f"model: {CATALOGUE[name].attribution}"
    assert CATALOGUE[name].licence.split("-")[0] in line


@pytest.mark.parametrize("name", RECIPES)
def test_models_of_ours_name_their_parts(name):
    first, *others = sources_of(name)
    assert "by this project" in first
    assert others == [f"part: {part}" for part in parts(name)]


def test_parts_of_photos_smollm2():
    found = " ".join(sources_of("photos-smollm2", ["fashion-photos:test", "fashion-photos:tuning"]))
    for name in ("mobilenet-v2", "smollm2-135m", "fashion-photos"):
        assert found.count(CATALOGUE[name].attribution) == 1
    assert "one linear layer, trained by this project on fashion-photos" in found


@pytest.mark.parametrize("task", TASKS)
def test_data_are_named_once(task):
    lines = sources_of("some/model", [f"{task}:test", f"{task}:tuning"])
    assert lines[0] == "model: some/model"
    (line,) = lines[1:]
    licences = ("MIT", "CC-BY-SA", "BSD", "PSF", "drawn by this project")
    assert any(licence in line for licence in licences)
