"""Public names of a package that are imported on first use."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any


class LazyNames:
    """The names that a package's `__init__` imports under `TYPE_CHECKING`, its one list of them.

    Attributes:
        sources: public name -> module that defines it; for a subpackage, the package itself.
    """

    def __init__(self, package: str, file: str) -> None:
        self.package = package
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        block = next(node for node in tree.body if isinstance(node, ast.If))
        imports = (node for node in block.body if isinstance(node, ast.ImportFrom))
        self.sources = {alias.name: str(node.module) for node in imports for alias in node.names}

    def get(self, name: str) -> Any:
        """Import a public name; an AttributeError for any other."""
        if name not in self.sources:
            raise AttributeError(f"module {self.package!r} has no attribute {name!r}")
        source = self.sources[name]
        if source == self.package:
            return import_module(f"{source}.{name}")
        return getattr(import_module(source), name)
