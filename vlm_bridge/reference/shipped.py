"""The shipped files of the reference models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from vlm_bridge.errors import BridgeError, among
from vlm_bridge.reference.recipe import RECIPES, ConnectorRecipe

#: Files of a model that training writes and the package ships.
PARTS, ANSWERS, CARD = "parts.safetensors", "answers.json", "MODEL_CARD.md"


def check_name(name: str) -> str:
    """Return `name`, or raise a `BridgeError` if it is no reference model."""
    if name not in RECIPES:
        raise BridgeError(f"no reference model '{name}'; {among(name, RECIPES)}")
    return name


def weights_folder() -> Path:
    """The folder of shipped files in a source tree, for `train --install`."""
    return Path(__file__).parent / "weights"


def file_name(name: str, file: str) -> str:
    """Name of a model's file in the weights folder; the first model has no prefix."""
    prefix = check_name(name).removeprefix("reference").removeprefix("-")
    return f"{prefix}.{file}" if prefix else file


@contextmanager
def shipped(name: str, file: str) -> Iterator[Path]:
    """A context with the path of a shipped file, which may not exist."""
    with as_file(files("vlm_bridge.reference") / "weights" / file_name(name, file)) as path:
        yield path


def shipped_models() -> list[str]:
    """The reference models whose parts are installed, in the order of the recipes.

    Example:
        >>> shipped_models()[0]
        'reference'
    """
    weights = files("vlm_bridge.reference") / "weights"
    return [name for name in RECIPES if (weights / file_name(name, PARTS)).is_file()]


def complete_models() -> list[str]:
    """Those of `shipped_models` that need no model or data set of others to be fetched first.

    Example:
        >>> "photos-smollm2" in complete_models()
        False
    """
    return [name for name in shipped_models() if not isinstance(RECIPES[name], ConnectorRecipe)]
