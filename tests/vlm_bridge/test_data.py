from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.data import (
    EASY_VQA_SPLITS,
    Item,
    easy_vqa,
    items_hash,
    limit_per_image,
    read_jsonl,
)
from vlm_bridge.errors import BridgeError


def test_jsonl_round_trip(items):
    assert len(items) == 1 + 2 + 3 + 1 + 2
    assert len({item.cluster for item in items}) == 5
    assert items[0].open().size == (16, 16)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"data.jsonl:1: not JSON"),
        ("[1]", r"data.jsonl:1: expected a JSON object, got list"),
        ('{"question": "x"}', r"data.jsonl:1: 'image' is missing or not text"),
        ('{"image": "0.png"}', r"data.jsonl:1: 'question' is missing or not text"),
        ('{"image": "0.png", "question": "x", "answer": 3}', r"data.jsonl:1: 'answer' is not text"),
        (
            '{"image": "0.png", "question": "x", "group": "a"}',
            r"data.jsonl:1: the field 'group' is now `cluster`; rename it",
        ),
        (
            '{"image": "0.png", "question": "x", "group": "a", "cluster": "b"}',
            r"data.jsonl:1: the field 'group' is now `cluster`",
        ),
        ('{"image": "0.png", "question": "x", "group": null}', r"data.jsonl:1: the field 'group'"),
        ('{"image": "../x.png", "question": "x"}', r"the image ../x.png lies outside"),
        ('{"image": "none.png", "question": "x"}', r"data.jsonl:1: no image at"),
        ('{"image": "0.png", "question": " "}', r"has an empty question"),
        ("", r"holds no items"),
    ],
)
def test_bad_jsonl_is_refused_with_its_line(jsonl, line, message):
    jsonl.write_text(line + "\n")
    with pytest.raises(BridgeError, match=message):
        read_jsonl(jsonl)


def test_broken_image_is_refused(jsonl):
    item = read_jsonl(jsonl)[0]
    item.image.write_bytes(b"not a picture")
    with pytest.raises(BridgeError, match=r"cannot read the image .*0\.png"):
        item.open()


def test_group_on_a_later_line_is_refused_with_that_line(jsonl):
    good = jsonl.read_text()
    jsonl.write_text(good + '{"image": "0.png", "question": "x", "group": "0.png"}\n')
    lines = len(good.splitlines())
    with pytest.raises(BridgeError, match=rf"data.jsonl:{lines + 1}: the field 'group' is now"):
        read_jsonl(jsonl)


def test_hash_sees_pixels_question_answer_cluster_and_order(items):
    base = items_hash(items)
    assert items_hash(list(items)) == base
    assert items_hash(items[::-1]) != base
    for change in ({"question": "?"}, {"answer": None}, {"cluster": "g"}):
        assert items_hash([replace(items[0], **change), *items[1:]]) != base
    items[0].image.write_bytes(items[1].image.read_bytes())
    assert items_hash(items) != base


@given(count=st.integers(1, 4), seed=st.integers(0, 99))
def test_limit_per_image_keeps_order_and_depends_on_the_item_alone(count, seed):
    made = [Item(f"{i % 4}.png", f"q{i}", cluster=f"{i % 4}") for i in range(14)]  # type: ignore[arg-type]
    kept = limit_per_image(made, count, seed=seed)
    assert kept == [item for item in made if item in kept]
    for cluster in "0123":
        here = [i for i in made if i.cluster == cluster]
        assert len([i for i in kept if i.cluster == cluster]) == min(count, len(here))
    alone = limit_per_image([i for i in made if i.cluster == "2"], count, seed=seed)
    assert alone == [i for i in kept if i.cluster == "2"]


def test_splits_are_disjoint_by_image_and_complete():
    splits = {name: easy_vqa(name) for name in EASY_VQA_SPLITS}
    images = {name: {item.cluster for item in items} for name, items in splits.items()}
    for name, (_, count) in EASY_VQA_SPLITS.items():
        assert len(images[name]) == count
    assert len(set.union(*images.values())) == 5000
    assert sum(len(items) for items in splits.values()) == 38_575 + 9_673
    assert len(splits["certification"]) + len(splits["test"]) == 9_673
    assert json.dumps(splits["test"][0].answer)


def test_unknown_split_is_named():
    with pytest.raises(BridgeError, match="easy-vqa has no split 'val'; it has train, profile"):
        easy_vqa("val")
