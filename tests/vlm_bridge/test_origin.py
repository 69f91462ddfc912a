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
    own, data = others[: len(parts(name))], others[len(parts(name)) :]
    assert own == [f"part: {part}" for part in parts(name)]
    assert data
    assert all(line.startswith("training data: ") for line in data)


def test_parts_of_photos_smollm2():
    found = " ".join(sources_of("photos-smollm2", ["fashion-photos:test", "fashion-photos:tuning"]))
    times = {"mobilenet-v2": 1, "smollm2-135m": 1, "fashion-photos": 2}  # to train, and asked
    assert {name: found.count(CATALOGUE[name].attribution) for name in times} == times
    assert "one linear layer, trained by this project on fashion-photos" in found


@pytest.mark.parametrize("task", TASKS)
def test_data_are_named_once(task):
    lines = sources_of("some/model", [f"{task}:test", f"{task}:tuning"])
    assert lines[0] == "model: some/model"
    (line,) = lines[1:]
    licences = ("MIT", "CC-BY-SA", "BSD", "PSF", "drawn by this project")
    assert any(licence in line for licence in licences)


def test_tasks_made_of_the_data_of_others_name_them():
    prompts = CATALOGUE["spoken-prompts"].attribution
    assert sources_of("some/model", ["spoken-words:test"])[1] == f"data: {prompts}"
    assert f"training data: {prompts}" in sources_of("speech-smollm2")
