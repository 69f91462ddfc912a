"""Items about an image, a recording, both or a text alone: their units, hashes and files."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.io import wavfile

from tests.vlm_bridge.tiny import picture
from vlm_bridge.cli.apart import apart, check_images
from vlm_bridge.data import (
    Item,
    check_disjoint,
    image_hashes,
    image_ids,
    items_hash,
    read_jsonl,
    unit_word,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import check_images as check_two
from vlm_bridge.experiments.claims.nulls import shuffled_images
from vlm_bridge.model.prompts import batch_places


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


@pytest.fixture
def files(tmp_path):
    """Two images and two recordings."""
    for number in range(2):
        picture(number).save(tmp_path / f"{number}.png")
        sound = np.random.default_rng(number).normal(size=400).astype(np.float32) / 10
        wavfile.write(tmp_path / f"{number}.wav", 8_000, sound)
    return tmp_path


def read(folder, *rows):
    path = folder / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_jsonl(path)


def test_every_kind_of_line(files):
    items = read(
        files,
        {"image": "0.png", "question": "one"},
        {"audio": "0.wav", "question": "two", "answer": "yes"},
        {"image": "1.png", "audio": "1.wav", "question": "three"},
        {"question": "four", "cluster": "chapter 1"},
    )
    kinds = [("image",), ("audio",), ("image", "audio"), ("text",)]
    assert [item.kinds for item in items] == kinds
    assert [item.name for item in items] == [
        *("0.png: one", "0.wav: two", "1.png: 1.wav: three", "four")
    ]
    assert [len(item.files) for item in items] == [1, 1, 2, 0]
    assert items[-1].cluster == "chapter 1"
    assert [unit_word([item]) for item in items] == ["images", "recordings", "images", "texts"]
    assert unit_word(items) == "units"


def test_a_copy_of_a_recording_is_the_same_unit(files):
    shutil.copy(files / "0.wav", files / "copy.wav")
    names = ("0.wav", "copy.wav", "1.wav")
    a, b, c = (Item(None, "?", audio=files / name) for name in names)
    assert a.cluster == b.cluster != c.cluster
    assert image_hashes([a]) == image_hashes([b]) == [a.cluster]
    assert image_ids([a]) == (a.cluster,)
    with refused("data.jsonl:2 are about one recording"):
        read(
            files,
            {"audio": "0.wav", "question": "?", "cluster": "a"},
            {"audio": "copy.wav", "question": "?", "cluster": "b"},
        )


def test_equal_texts_are_one_unit():
    forms = ["Who wrote it?", "who  wrote it?", " WHO wrote\tit?\n", "who wrote it\uff1f"]
    items = [Item(None, form) for form in forms]
    (unit,) = {item.cluster for item in items}
    assert Item(None, "who wrote it").cluster != unit
    assert image_ids(items) == (unit,)
    assert len({items_hash([item]) for item in items}) == 4  # what is asked is not the same
    with refused("item 0 and item 1 are about one text"):
        batch_places([items[0], replace(items[1], cluster="other")], 16)


def test_the_question_about_an_image_is_no_unit(files):
    items = [Item(files / f"{i}.png", "is it red?") for i in range(2)]
    text = Item(None, "is it red?")
    assert len({item.cluster for item in (*items, text)}) == 3
    batch_places([*items, text], 16)


def test_image_and_recording_link_their_units(files):
    """One picture with two recordings is one unit, and so is one recording with two pictures."""
    rows = [
        {"image": "0.png", "audio": "0.wav", "question": "?"},
        {"image": "0.png", "audio": "1.wav", "question": "?"},
    ]
    assert len({item.cluster for item in read(files, *rows)}) == 1
    rows[1]["image"], rows[1]["audio"] = "1.png", "0.wav"
    assert len({item.cluster for item in read(files, *rows)}) == 1
    with refused("are about one recording"):
        read(files, rows[0], {**rows[1], "cluster": "other"})
    both = read(files, *({**row, "cluster": "film"} for row in rows))
    assert len(image_ids(both)) == 4  # two pictures, a recording, the film


def test_the_hash_of_items_sees_every_file(files):
    item = Item(files / "0.png", "?", audio=files / "0.wav")
    base = items_hash([item])
    changes = ({"image": None}, {"audio": None}, {"audio": files / "1.wav"}, {"question": "!"})
    hashes = {items_hash([replace(item, **change)]) for change in changes}
    assert len(hashes | {base}) == 5


def test_the_hash_of_items_about_images_is_what_it_was(tmp_path):
    """Stored results name their data by it."""
    (tmp_path / "a.png").write_bytes(b"pixels")
    item = Item(tmp_path / "a.png", "is it red?", "yes", "a")
    assert items_hash([item]) == "f8278c069bcacaaea6a8477775592b0aa94c49e36e30000fdfde53f5092c50e2"


@pytest.mark.parametrize("kind", ["audio", "text"])
def test_splits_are_kept_apart_by_content(files, kind):
    def item(number, question="?"):
        if kind == "text":
            return Item(None, f"{question}{number}", cluster=f"{question}{number}")
        return Item(None, question, audio=files / f"{number}.wav", cluster=f"{question}{number}")

    check_disjoint([item(0)], [item(1)], "are in both splits")
    word = {"audio": "recordings", "text": "texts"}[kind]
    shared = replace(item(0), cluster="another name")
    with refused(f"1 {word} are in both splits"):
        check_disjoint([item(0)], [shared], "are in both splits")


def test_one_unit_has_no_interval(files):
    with refused("an interval by recording needs at least 2 recordings, got 1"):
        check_two([Item(None, q, audio=files / "0.wav") for q in "ab"])
    with refused("an interval by text needs at least 2 texts, got 1"):
        check_two([Item(None, "why?"), Item(None, "Why?")])


def test_no_result_replaces_a_recording(files):
    target = files / "result.json"
    target.touch()
    item = Item(None, "?", audio=target)
    with apart("compare", {"out": files / "other.json"}):
        check_images([item])
    with (
        apart("compare", {"out": target}),
        refused(f"--out would replace {target}, a recording of the data; name another --out"),
    ):
        check_images([item])


def test_a_batch_has_items_of_one_kind(files):
    images = [Item(files / f"{i}.png", "?") for i in range(2)]
    sounds = [Item(None, "?", audio=files / f"{i}.wav") for i in range(2)]
    texts = [Item(None, f"why {i}") for i in range(3)]
    mixed = [texts[0], images[0], texts[1], sounds[0], images[1], sounds[1], texts[2]]
    places = batch_places([*images, *sounds, *texts], 4)
    assert places == [[0, 1], [2, 3], [4, 5, 6]]
    for batch in batch_places(mixed, 4):
        assert len({mixed[place].kinds for place in batch}) == 1
    with refused("cluster 'a' has items about image and items about text"):
        batch_places([replace(it, cluster="a") for it in (images[0], texts[0])], 4)


def test_what_cannot_be_shown_or_shuffled(files):
    with refused("the item 'why?' has no image"):
        Item(None, "why?").open()
    sounds = [Item(None, "?", audio=files / f"{i}.wav") for i in range(2)]
    assert [item.audio.name for item in shuffled_images(sounds)] == ["1.wav", "0.wav"]
    with refused("the question 'why' has no image to shuffle"):
        shuffled_images([Item(None, "why"), Item(None, "where")])


@pytest.mark.parametrize("path", [3, b"a", ["a.wav"]])
def test_an_audio_file_is_a_path(path):
    with refused("the audio of an item is a path, got "):
        Item(None, "?", audio=path)
