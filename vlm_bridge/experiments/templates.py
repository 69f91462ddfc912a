"""The templates of the HTML pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def template(name: str, filters: Mapping[str, Callable[..., Any]] | None = None) -> Template:
    """The template `name` of a folder of experiments; values are escaped.

    A template that prints a value it was not given fails.

    Example:
        >>> template("blocks.html.j2").name
        'blocks.html.j2'
    """
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader([here, *sorted(path.parent for path in here.glob("*/*.j2"))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(name)
