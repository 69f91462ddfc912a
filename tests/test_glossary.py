"""The glossary names every mode, split, token group and origin, and only code that exists."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from vlm_bridge.experiments.rule_benchmark import Splits
from vlm_bridge.model.layout import TOKEN_GROUPS
from vlm_bridge.plan.modes import MODES
from vlm_bridge.rules import Origin

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| term ")
]


@pytest.mark.parametrize("name", [*MODES, *TOKEN_GROUPS, *get_args(Origin)])
def test_names_of_the_code_are_defined(name: str) -> None:
    assert any(f"`{name}`" in row[0] for row in ROWS)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Splits)])
def test_splits_are_defined(name: str) -> None:
    assert f"{name} split" in [row[0] for row in ROWS]


def test_every_term_has_one_definition() -> None:
    terms = [row[0] for row in ROWS]
    assert len(set(terms)) == len(terms) > 60
    assert all(len(row) == 4 and row[2].endswith((".", ")")) for row in ROWS)


@pytest.mark.parametrize("name", sorted({row[3].strip("`") for row in ROWS}))
def test_code_exists(name: str) -> None:
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        if part in getattr(found, "__dataclass_fields__", {}):
            continue
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:number]))
        assert hasattr(found, part), f"{name}: no {part}"
        found = getattr(found, part)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_pages_link_to_it(page: str) -> None:
    assert re.search(r"\]\(docs/glossary\.md\)", (ROOT / page).read_text(encoding="utf-8"))
