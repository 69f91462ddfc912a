"""The product photos: balanced questions, splits without a common photo, true answers."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tests.vlm_bridge.product_photos import SPLITS, write_photos
from vlm_bridge.data import check_disjoint, fashion_photos_task
from vlm_bridge.data.fashion_photos_task import PRODUCTS, ask, fashion_photos
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, majority_answers
from vlm_bridge.reference.connector import WORDINGS
from vlm_bridge.reference.language_model import language_model


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_photos_task, "FASHION_PHOTOS_SPLITS", SPLITS)
    return write_photos(tmp_path, monkeypatch)


def by_form(items):
    forms = {"what": [], "is": [], "which": []}
    for item in items:
        forms[item.question.split()[0]].append(item)
    return forms


def test_every_split_is_balanced_in_every_form(small):
    for split, (_, count) in SPLITS.items():
        items = fashion_photos(split)
        assert len({item.cluster for item in items}) == count
        forms = by_form(items)
        assert {name: len(own) for name, own in forms.items()} == dict.fromkeys(forms, count)
        assert set(Counter(i.answer for i in forms["what"]).values()) == {count // 10}
        by_question = Counter((i.question, i.answer) for i in forms["is"])
        yes = {q: n for (q, a), n in by_question.items() if a == "yes"}
        no = {q: n for (q, a), n in by_question.items() if a == "no"}
        assert yes == no
        assert len(yes) == 10


def test_every_untrue_product_is_asked_about(small):
    _, labels = small["train"]
    named = {
        (labels[int(i.cluster.partition("/")[2])], i.question)
        for i in by_form(fashion_photos("train"))["is"]
    }
    assert len(named) == len(PRODUCTS) ** 2


def test_answers_are_those_of_the_labels_and_photos_are_black_on_white(small):
    for split, (part, _) in SPLITS.items():
        photos, labels = small[part]
        for item in fashion_photos(split):
            _, _, number = item.cluster.partition("/")
            truth = PRODUCTS[labels[int(number)]]
            named = [p for p in PRODUCTS if re.search(rf"\b{p}\b", item.question)]
            if item.question.startswith("is it"):
                assert item.answer == ("yes" if named == [truth] else "no")
            else:
                assert item.answer == truth
                assert not named or (truth in named and len(named) == 3)
            with Image.open(item.image) as image:
                assert np.array_equal(255 - np.asarray(image), photos[int(number)])


def test_no_photo_and_no_copy_of_it_is_in_two_places(small):
    splits = {split: fashion_photos(split) for split in SPLITS}
    contents = [i.image.read_bytes() for items in splits.values() for i in by_form(items)["what"]]
    assert len(set(contents)) == len(contents) == sum(count for _, count in SPLITS.values())
    names = list(splits)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            check_disjoint(splits[name], splits[other], "are in both")


def test_a_photo_that_training_shows_is_never_drawn_for_a_test(small, monkeypatch):
    photos, labels = small["test"]
    monkeypatch.setattr("vlm_bridge.third_party.fashion_photos", lambda part: (photos, labels))
    assert fashion_photos_task._numbers("test", photos, labels) == []


def test_the_place_of_the_true_product_is_random():
    places = Counter()
    for seed in range(3000):
        (_, _), (_, _), (question, answer) = ask(seed % 10, 0, random.Random(seed))
        places[[p for p in re.findall(r"[a-z]+", question) if p in PRODUCTS].index(answer)] += 1
    assert all(900 < places[place] < 1100 for place in range(3))


def test_the_blind_baseline_is_that_of_the_construction(small):
    training, items = fashion_photos("train"), fashion_photos("test")
    blind = accuracy(blind_answers(training, items), items)
    assert 0.2 < blind.value < 0.4
    assert accuracy(majority_answers(training, items), items).value < blind.value + 0.05


def test_the_same_photos_and_questions_every_time(small, tmp_path, monkeypatch):
    first = [(i.question, i.answer, i.cluster) for i in fashion_photos("tuning")]
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path / "again"))
    assert first == [(i.question, i.answer, i.cluster) for i in fashion_photos("tuning")]
    chosen = json.loads((tmp_path / "again/fashion-photos-2/tuning/photos.json").read_text())
    assert len(chosen) == SPLITS["tuning"][1]


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(BridgeError, match="fashion-photos has no split 'dev'; it has train, prof"):
        fashion_photos("dev")
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path))
    monkeypatch.setattr("vlm_bridge.third_party.folders.at_hand", lambda _: None)
    with pytest.raises(BridgeError, match="not fetched; run: skipit models get fashion-photos"):
        fashion_photos("test")


@pytest.mark.slow
@pytest.mark.parametrize("before", [before for _, before in WORDINGS.values()])
def test_the_first_tokens_of_the_answers_differ(before):
    _, tokenizer = language_model()
    said = [*PRODUCTS, "yes", "no"]
    ids = [tokenizer(before + word, add_special_tokens=False)["input_ids"] for word in said]
    assert len({tokens[0] for tokens in ids}) == len(said)
    assert max(map(len, ids)) < 6  # with its end, within the tokens that `evaluate` generates


@pytest.mark.parametrize("text", ["", "[[1]]", '{"a": 1}', "[[0, 99]]", None])
def test_a_changed_photo_or_list_is_made_again(small, capsys, text):
    split = next(iter(SPLITS))
    before = [(item.open().tobytes(), item.answer) for item in fashion_photos(split)]
    folder = fashion_photos(split)[0].image.parent
    other = sorted(folder.glob("*.png"))[:2]
    other[0].write_bytes(other[1].read_bytes())
    if text is None:
        (folder / "photos.json").unlink()
    else:
        (folder / "photos.json").write_text(text)
    assert [(item.open().tobytes(), item.answer) for item in fashion_photos(split)] == before
    assert "was changed after it was built; it is built again" in capsys.readouterr().err
