"""The package rapidfuzz, for scorers that align texts."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from estimators.extras import require

PACKAGE = "rapidfuzz"


@cache
def distances(name: str) -> Any:
    """The module `rapidfuzz.distance`, for the scorer of this name.

    Raises:
        MissingExtra: rapidfuzz is not installed.

    Example:
        >>> distances("anls").Levenshtein.distance("kitten", "sitting")
        3
    """
    require(f"the scorer {name}", PACKAGE, "scoring")
    return import_module("rapidfuzz.distance")
