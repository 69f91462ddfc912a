"""Real text that nobody here wrote: the documentation in the Python that runs."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from functools import cache
from pathlib import Path

from vlm_bridge.data.items import Item
from vlm_bridge.errors import BridgeError

#: split -> number of modules, one text each; the last split takes the rest.
PYTHON_DOCS_SPLITS = {"test": 80, "certification": 80, "tuning": 40, "profile": 0}
_NOT_READ = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo"}
_WORDS = 60
_SEED = "python-docs-1"


def python_docs(split: str) -> list[Item]:
    """Texts to continue: the first 60 words of one docstring of each module, without labels.

    They are read, never imported, from the standard library of the Python that runs (PSF licence),
    so that they differ between versions of Python; `items_hash` tells. Of 3.11 there are about 250
    modules with a docstring of 60 words.

    Raises:
        BridgeError: unknown split, or a Python without the sources of its library.

    Example:
        >>> python_docs("test")[0].kinds
        ('text',)
    """
    if split not in PYTHON_DOCS_SPLITS:
        raise BridgeError(f"python-docs has no split '{split}'; it has {_names()}")
    texts = _texts(Path(sysconfig.get_path("stdlib")))
    ordered = sorted(
        texts, key=lambda module: hashlib.sha256(f"{_SEED}/{module}".encode()).digest()
    )
    start = 0
    for name, size in PYTHON_DOCS_SPLITS.items():
        stop = start + size if size else len(ordered)
        if name == split:
            return [Item(None, texts[module]) for module in ordered[start:stop]]
        start = stop
    raise AssertionError(split)


def _names() -> str:
    return ", ".join(PYTHON_DOCS_SPLITS)


@cache
def _texts(root: Path) -> dict[str, str]:
    """Module -> its text; equal texts of two modules are kept once."""
    texts: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if _NOT_READ.isdisjoint(name.parts) and (text := _first_text(path)):
            texts.setdefault(text, name.as_posix())
    if len(texts) <= sum(PYTHON_DOCS_SPLITS.values()):
        raise BridgeError(
            f"{root} holds {len(texts)} modules with a docstring of {_WORDS} words; python-docs "
            f"needs more than {sum(PYTHON_DOCS_SPLITS.values())}: install the sources of Python's "
            "library"
        )
    return {name: text for text, name in texts.items()}


def _first_text(path: Path) -> str:
    """The first docstring of enough words, cut there; empty if there is none."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    words = (text.split() for text in docstrings if text)
    return next((" ".join(found[:_WORDS]) for found in words if len(found) >= _WORDS), "")
