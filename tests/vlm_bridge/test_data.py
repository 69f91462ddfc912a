from __future__ import annotations

import json
import os
import shutil
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.data import (
    EASY_VQA_SPLITS,
    Item,
    easy_vqa,
    image_ids,
    items_hash,
    limit_per_image,
    read_jsonl,
)
from vlm_bridge.data import jsonl as reader
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batch_places


def test_jsonl_round_trip(items):
    assert len(items) == 1 + 2 + 3 + 1 + 2
    assert len({item.cluster for item in items}) == 5
    assert items[0].open().size == (16, 16)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"data.jsonl:1: not JSON"),
        ("[1]", r"data.jsonl:1: expected a JSON object, got list"),
        ('{"image": null, "question": "x"}', r"data.jsonl:1: 'image' is not text; leave it out"),
        ('{"image": " ", "question": "x"}', r"data.jsonl:1: 'image' is empty; leave it out"),
        ('{"audio": "", "question": "x"}', r"data.jsonl:1: 'audio' is empty; leave it out"),
        ('{"audio": 3, "question": "x"}', r"data.jsonl:1: 'audio' is not text; leave it out"),
        ('{"audio": "none.wav", "question": "x"}', r"data.jsonl:1: no audio file at"),
        ('{"audio": "../a.wav", "question": "x"}', r"the audio file ../a.wav lies outside"),
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
        ('{"image": "0.png", "question": ""}', r"data.jsonl:1: an item .* has an empty question"),
        ('{"image": "0.png", "question": null}', r"data.jsonl:1: 'question' is missing or not"),
        ('{"image": ["0.png"], "question": "x"}', r"data.jsonl:1: 'image' is not text"),
        ('{"image": "", "question": "x"}', r"data.jsonl:1: 'image' is empty; leave it out"),
        (
            '{"image": "a\\u0000.png", "question": "x"}',
            r"data.jsonl:1: 'a\\x00.png' is no file name",
        ),
        (
            '{"image": "0.png", "question": "x\\ud800"}',
            r"data.jsonl:1: not JSON .* half a surrogate",
        ),
        (
            '{"image": "0.png", "question": "x", "anser": "a"}',
            r"data.jsonl:1: no field 'anser'; a ",
        ),
        ('{"image": "0.png", "question": "x", "answer": ["a"]}', r"data.jsonl:1: 'answer' is not"),
        ('{"image": "0.png", "question": "x", "cluster": 3}', r"data.jsonl:1: 'cluster' is not"),
        ('{"image": "0.png", "question": "x", "cluster": null}', r"data.jsonl:1: 'cluster' is not"),
        (
            '{"image": "0.png", "question": "x", "cluster": " "}',
            r"data.jsonl:1: 'cluster' is empty",
        ),
        ('{"image": "0.png", "image": "1.png", "question": "x"}', r"the name 'image' occurs twice"),
        ('{"image": "0.png", "question": "x"} {}', r"data.jsonl:1: not JSON \(Extra data"),
        ('{"image": "0.png", "question": NaN}', r"data.jsonl:1: not JSON \(NaN is not"),
        ("[" * 100_000, r"data.jsonl:1: not JSON .* nested deeper than 100"),
        ("", r"holds no items"),
    ],
)
def test_bad_jsonl_is_refused_with_its_line(jsonl, line, message):
    jsonl.write_text(line + "\n")
    with pytest.raises(BridgeError, match=message):
        read_jsonl(jsonl)


def test_a_line_that_is_too_long_is_refused(jsonl, monkeypatch):
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 40)
    jsonl.write_text('{"question": "why?"}\n{"question": "' + "x" * 40)
    with pytest.raises(BridgeError, match=r"data.jsonl:2: longer than 40 bytes"):
        read_jsonl(jsonl)


ROW = {"image": "0.png", "question": "one", "answer": "yes"}


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\u0085", "\f", "\v", "\x1c", "é", "🙂"])
def test_every_letter_of_a_question_comes_back(jsonl, letter):
    question = f"one{letter}two"
    row = json.dumps(ROW | {"question": question}, ensure_ascii=False)
    jsonl.write_bytes(f"{row}\n".encode())
    assert [item.question for item in read_jsonl(jsonl)] == [question]


@pytest.mark.parametrize(
    ("before", "end"), [(b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n"), (b"\xef\xbb\xbf", b"\r\n\r\n")]
)
def test_a_byte_order_mark_and_crlf_are_read(jsonl, before, end):
    line = json.dumps(ROW).encode()
    jsonl.write_bytes(before + line + end + line + end)
    assert [item.question for item in read_jsonl(jsonl)] == ["one", "one"]


@pytest.mark.parametrize(
    ("coding", "says"),
    [
        ("utf-16", r"data.jsonl:1: not UTF-8 but UTF-16 \(byte 0xff at offset 0\)"),
        ("utf-16-be", r"data.jsonl:1: not JSON"),
        ("latin-1", r"data.jsonl:2: not UTF-8 \(byte 0xf9 at offset 88\); save the file as UTF-8"),
        ("cp1252", r"data.jsonl:2: not UTF-8 \(byte 0xf9 at offset 88\)"),
    ],
)
def test_another_encoding_is_refused_by_line_and_byte(jsonl, coding, says):
    rows = [ROW, ROW | {"question": "où"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    jsonl.write_bytes(text.encode(coding))
    with pytest.raises(BridgeError, match=says):
        read_jsonl(jsonl)


def test_one_picture_is_one_unit_however_it_is_spelt_or_copied(jsonl):
    folder = jsonl.parent
    (folder / "sub").mkdir()
    shutil.copy(folder / "0.png", folder / "copy.png")
    os.symlink(folder / "0.png", folder / "link.png")
    absolute = str(folder / "0.png")
    names = ["0.png", "./0.png", "sub/../0.png", absolute, "copy.png", "link.png", "1.png"]
    lines = [json.dumps({"image": n, "question": f"q{i}"}) for i, n in enumerate(names)]
    jsonl.write_text("\n".join(lines))
    first, *others, last = [item.cluster for item in read_jsonl(jsonl)]
    assert set(others) == {first} != {last}
    jsonl.write_text("\n".join(lines[::-1]))  # the unit depends on neither order nor file
    assert read_jsonl(jsonl)[-1].cluster == first
    assert Item(folder / "copy.png", "?").cluster == first


def test_a_declared_cluster_stays_the_unit(jsonl):
    rows = [{"image": f"{i}.png", "question": "?", "cluster": "film"} for i in range(2)]
    jsonl.write_text("\n".join(map(json.dumps, rows)))
    assert [item.cluster for item in read_jsonl(jsonl)] == ["film", "film"]


def test_one_name_in_two_unicode_forms_is_one_unit(jsonl):
    names = [unicodedata.normalize(form, "patienté Å 1") for form in ("NFC", "NFD", "NFC", "NFD")]
    rows = [
        {"image": f"{place // 2}.png", "question": "?", "cluster": name}
        for place, name in enumerate(names)
    ]
    jsonl.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert len(set(names)) == 2
    items = read_jsonl(jsonl)  # one picture with both names is in one cluster
    assert {item.cluster for item in items} == {names[0]}
    assert set(image_ids(items[:2])) & set(image_ids(items[2:]))  # so ledgers link them
    assert items_hash(items) == items_hash([replace(item, cluster=names[1]) for item in items])


@pytest.mark.parametrize("second", [{"cluster": "b"}, {}])
def test_one_picture_in_two_clusters_is_refused(jsonl, second):
    shutil.copy(jsonl.parent / "0.png", jsonl.parent / "copy.png")
    rows = [
        {"image": "0.png", "question": "?", "cluster": "a"},
        {"image": "copy.png", "question": "?", **second},
    ]
    jsonl.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BridgeError, match=r"data.jsonl:1 and .*:2 are about one picture .* in two"):
        read_jsonl(jsonl)
    items = [Item(jsonl.parent / row["image"], "?", cluster=row.get("cluster", "")) for row in rows]
    with pytest.raises(BridgeError, match="item 0 and item 1 are about one picture"):
        batch_places(items, 16)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"image": 3, "question": "?"},
            "the image of an item is a path or an image: 3 is no image; give a path, a PIL",
        ),
        ({"image": "a.png", "question": None}, "the question of an item is text, got None"),
        ({"image": "a.png", "question": "?", "answer": 3}, "the answer of an item is text, got 3"),
        (
            {"image": "a.png", "question": "?", "cluster": 3},
            "the cluster of an item is text, got 3",
        ),
        ({"image": "a.png", "question": "\ud800"}, "the question .* half a surrogate pair"),
    ],
)
def test_an_item_of_other_types_is_refused(fields, says):
    with pytest.raises(BridgeError, match=says):
        Item(**fields)


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
