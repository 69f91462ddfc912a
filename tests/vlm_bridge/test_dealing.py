"""Splits of one file, by image and seed, and items written so that they are read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.tiny import picture
from vlm_bridge.data import (
    Item,
    Picture,
    Turn,
    folder_of,
    items_hash,
    link_units,
    read_jsonl,
    write_jsonl,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.dealing import SPLITS, Place, Source, deal

ALL = dict.fromkeys(SPLITS)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """30 units of one to three questions each."""
    path = tmp_path_factory.mktemp("texts") / "all.jsonl"
    rows = [
        {"question": f"what {unit} {number}?", "cluster": f"u{unit}"}
        for unit in range(30)
        for number in range(1 + unit % 3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@given(st.integers(0, 2**32))
def test_every_unit_is_in_one_split_with_all_its_questions(texts, seed):
    dealt = deal(Source(str(texts)), ALL, {}, seed=seed)
    clusters = [{item.cluster for item in dealt[split]} for split in SPLITS]
    assert [len(each) for each in clusters] == [3, 6, 12, 9]
    assert len(set.union(*clusters)) == 30
    assert sum(map(len, dealt.values())) == len(read_jsonl(texts))
    again = deal(Source(str(texts)), ALL, {}, seed=seed)
    assert dealt == again


def test_another_seed_and_another_size(texts):
    def named(**of):
        dealt = deal(Source(str(texts)), {**ALL, **of.pop("sizes", {})}, {}, **of)
        return {split: {item.cluster for item in items} for split, items in dealt.items()}

    assert named(seed=0)["test"] != named(seed=1)["test"]
    assert named(seed=0)["test"] != {f"u{n}" for n in range(21, 30)}, "not in the order of the file"
    sized = named(sizes={"test": 2})
    assert len(sized["test"]) == 2
    with pytest.raises(BridgeError, match=r"for test has 9 .* and 10 are wanted"):
        named(sizes={"test": 10})
    with pytest.raises(BridgeError, match="is a file"):
        deal(Source(str(texts)), ALL, {"test": Place("test", 1)})


def test_parts_that_share_an_image_are_refused(texts, tmp_path):
    lines = texts.read_text().splitlines(keepends=True)
    for at, name in enumerate(("profile", "tuning", "certification", "test")):
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[12 * at : 12 * at + 12]))
    dealt = deal(Source(str(tmp_path)), ALL, {"test": Place("test", 2)})
    assert len({item.cluster for item in dealt["test"]}) == 4
    with pytest.raises(BridgeError, match="are in tuning and in test; let one begin elsewhere"):
        deal(Source(str(tmp_path)), ALL, {"test": Place("tuning")})


def test_items_are_read_as_they_were_written(tmp_path):
    (tmp_path / "a").mkdir()
    paths = []
    for number in range(4):
        paths.append(tmp_path / "a" / f"{number} é.png")
        picture(number).save(paths[-1])
    in_memory = Picture.of(paths[3].read_bytes())
    before = (
        Turn("system", ("be short",)),
        Turn("user", (paths[2], "who?")),
        Turn("assistant", "I"),
    )
    items = link_units(
        [
            Item(paths[0], "is it red?", "no"),
            Item.of("Is", paths[1], "left of", paths[0], "?", answers=("yes", "no", "yes")),
            Item(None, 'a "text"\nalone \N{GRINNING FACE}', cluster="mine"),
            Item(in_memory, "what?"),
            Item.of(paths[2], "why?", turns=before),
        ]
    )
    file = write_jsonl(tmp_path / "elsewhere" / "items.jsonl", items)
    assert folder_of(items) == (tmp_path / "a").resolve()
    again = read_jsonl(file, images=folder_of(items))
    assert again == items
    assert items_hash(again) == items_hash(items)
    assert (
        read_jsonl(write_jsonl(tmp_path / "part.jsonl", items[1:2]), images=tmp_path) == items[1:2]
    )


def test_items_without_files_and_pixels_without_a_file(tmp_path):
    assert folder_of([Item(None, "why?")]) is None
    pixels = Picture.of(np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(BridgeError, match="has pixels and no file; save it and give its path"):
        write_jsonl(Path(tmp_path / "a.jsonl"), [Item(pixels, "what?")])
