"""Every example line of docs/data.md is read, and fits the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from tests.vlm_bridge.tiny import picture
from vlm_bridge.data import read_jsonl

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
LINES = "".join(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)).splitlines()
SCHEMA = json.loads((ROOT / "vlm_bridge" / "data" / "item.schema.json").read_text())


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("a.png", "b.png")):
        picture(number).save(tmp_path / name)
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    return tmp_path


def test_every_example_is_read(folder):
    (folder / "data.jsonl").write_text("\n".join(line for line in LINES if "shop 7" not in line))
    items = read_jsonl(folder / "data.jsonl")
    assert len(items) == len(LINES) - 1 >= 9
    for line in LINES:
        jsonschema.validate(json.loads(line), SCHEMA)
    units = {item.cluster for item in items if item.images}
    assert len(units) == 1  # one of them compares the two images
    assert len({item.cluster for item in items}) == 3


def test_a_declared_cluster_that_overlaps_is_refused(folder):
    (folder / "data.jsonl").write_text("\n".join(LINES))
    with pytest.raises(ValueError, match=r"are about one picture .* in two clusters"):
        read_jsonl(folder / "data.jsonl")
