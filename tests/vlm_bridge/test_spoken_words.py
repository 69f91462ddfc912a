"""The questions about spoken words: balanced, true, and without a cluster in two splits."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from scipy.io import wavfile

from tests.vlm_bridge.families.hearing_processors import RATE
from tests.vlm_bridge.spoken import write_prompts
from vlm_bridge.data import check_disjoint, check_one_cluster_per_image
from vlm_bridge.data.spoken_words_task import (
    LONGEST,
    SPOKEN_WORDS_SPLITS,
    WORDS,
    short_recordings,
    spoken_words,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.baselines import blind_answers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("vlm_bridge.third_party.dataset_folder", lambda name: tmp_path / name)
    return write_prompts(tmp_path / "spoken-prompts")


def by_form(items):
    forms = {"is": [], "which": []}
    for item in items:
        forms[item.question.split()[0]].append(item)
    return forms


def quoted(item):
    return item.question.split("'")[1::2]


def test_answers_are_what_is_said(folder):
    for split in SPOKEN_WORDS_SPLITS:
        forms = by_form(spoken_words(split))
        for item in forms["is"]:
            (word,) = quoted(item)
            assert item.answer == ("yes" if word in item.cluster.split() else "no")
        for item in forms["which"]:
            assert [w for w in quoted(item) if w in item.cluster.split()] == [item.answer]
            assert len(quoted(item)) == 3
            assert item.question == "which is said, '{}', '{}' or '{}'?".format(*quoted(item))


@pytest.mark.parametrize("split", SPOKEN_WORDS_SPLITS)
def test_the_text_of_a_question_says_nothing_about_its_answer(folder, split):
    """Every text has each of its answers equally often, so a guess from it is right by chance."""
    items = spoken_words(split)
    for form, answers in (("is", 2), ("which", 3)):
        own = by_form(items)[form]
        counts = Counter((item.question, item.answer) for item in own)
        texts = {question for question, _ in counts}
        assert len(counts) == answers * len(texts)
        for text in texts:
            assert len({n for (question, _), n in counts.items() if question == text}) == 1
        guesses = blind_answers(own, own)  # the best guess there is
        right = sum(g == item.answer for g, item in zip(guesses, own, strict=True))
        assert right == pytest.approx(len(own) / answers)
    assert {word for item in by_form(items)["is"] for word in quoted(item)} == set(WORDS)


def test_no_question_is_asked_twice_and_no_recording_is_left_out(folder):
    for split in SPOKEN_WORDS_SPLITS:
        items = spoken_words(split)
        pairs = {(item.audio, frozenset(quoted(item))) for item in items}
        assert len(pairs) == len(items)
        assert {item.audio for item in items} == {item.audio for item in short_recordings(split)}


def test_a_cluster_lies_in_one_split(folder):
    train, test = spoken_words("train"), spoken_words("test")
    check_one_cluster_per_image([*train, *test])
    check_disjoint(train, test, "are in both")
    rows = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
    held_out = {row["cluster"] for row in rows if row["split"] == "test"}
    assert {item.cluster for item in test} == held_out
    assert not held_out & {item.cluster for item in train}


def test_a_long_recording_is_left_out(folder):
    first = short_recordings("test")[0]
    wavfile.write(first.audio, RATE, np.zeros(int(LONGEST * RATE) + 1, np.int16))
    assert first.audio not in {item.audio for item in short_recordings("test")}
    assert first.audio not in {item.audio for item in spoken_words("test")}


def test_the_same_questions_every_time(folder):
    assert spoken_words("train") == spoken_words("train")


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(BridgeError, match="spoken-words has no split 'dev'; it has train, test"):
        spoken_words("dev")
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path))
    monkeypatch.setattr("vlm_bridge.third_party.folders.at_hand", lambda _: None)
    with pytest.raises(BridgeError, match="not fetched; run: skipit models get spoken-prompts"):
        spoken_words("test")
