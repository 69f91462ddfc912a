"""Where the shipped part of every reference model lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.reference.recipe import RECIPES

#: What training leaves and the package ships for a model.
PARTS, ANSWERS, CARD = "parts.safetensors", "answers.json", "MODEL_CARD.md"


def check_name(name: str) -> str:
    """The name, if there is such a reference model.

    Raises:
        BridgeError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise BridgeError(f"no reference model '{name}'; there are {', '.join(RECIPES)}")
    return name


def weights_folder() -> Path:
    """The folder of shipped files in a source tree, for `train --install`."""
    return Path(__file__).parent / "weights"


def file_name(name: str, file: str) -> str:
    """How a model's file is called in the weights folder; the first model's has no prefix."""
    prefix = check_name(name).removeprefix("reference").removeprefix("-")
    return f"{prefix}.{file}" if prefix else file


@contextmanager
def shipped(name: str, file: str) -> Iterator[Path]:
    """The path of a shipped file, which may not exist, for as long as it is read."""
    with as_file(files("vlm_bridge.reference") / "weights" / file_name(name, file)) as path:
        yield path


def shipped_models() -> list[str]:
    """The reference models whose parts are in this installation, in the order of the recipes.

    Example:
        >>> shipped_models()[0]
        'reference'
    """
    found = []
    for name in RECIPES:
        with shipped(name, PARTS) as path:
            if path.is_file():
                found.append(name)
    return found
