"""Descriptions say what is drawn: read back word by word, they give the scene again."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.data import DESCRIPTIONS_SPLITS, TASKS, descriptions, scenes
from vlm_bridge.data.descriptions_task import SENTENCE, WHOLE, WORDS, describe
from vlm_bridge.data.questions import NUMBERS
from vlm_bridge.data.scenes_task import COLOURS, SHAPES, SIDE, scene
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.baselines import blind_answers
from vlm_bridge.reference.families import blank_scratch
from vlm_bridge.reference.recipe import RECIPES
from vlm_bridge.reference.word_tokenizer import WORDS as COMMON

OBJECT = re.compile(
    rf"a ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?: with a (\w+) dot)?"
    r"(?: at the (top|bottom) (left|right))?"
)
places = st.tuples(st.sampled_from(tuple(DESCRIPTIONS_SPLITS)), st.integers(0, 199))


def place(thing):
    """Where an object lies, from its pixels alone."""
    half = SIDE // 2
    return ("top" if thing.y < half else "bottom", "left" if thing.x < half else "right")


def read(text):
    """(colour, shape, dot, row, side) of every object that a text names, in its order."""
    return [tuple(part or None for part in found) for found in OBJECT.findall(text)]


@given(places)
def test_a_description_is_true_and_complete(where):
    things = scene(*where)
    (whole_asked, whole), (sentence_asked, sentence), _ = describe(things, 0)
    assert (whole_asked, sentence_asked) == (WHOLE, SENTENCE)
    assert f"there are {NUMBERS[len(things)]} objects, " in whole
    named = read(whole)
    told = Counter((c, s) for c, s, *_ in named)
    assert told == Counter((t.colour, t.shape) for t in things)
    assert told == Counter((c, s) for c, s, *_ in read(sentence))
    if len(things) < 5:
        assert Counter((c, s, *at) for c, s, _, *at in named) == Counter(
            (t.colour, t.shape, *place(t)) for t in things
        )
    if len(things) < 4:
        assert Counter(named) == Counter((t.colour, t.shape, t.dot, *place(t)) for t in things)


@given(places)
def test_objects_come_in_reading_order_and_the_relation_holds(where):
    things = scene(*where)
    whole = next(describe(things, 0))[1]
    ordered = sorted(things, key=lambda t: (t.y // 16, t.x))
    assert [(c, s) for c, s, *_ in read(whole)] == [(t.colour, t.shape) for t in ordered]
    told = re.search(r"the first is (above|left of) the last\.$", whole)
    assert (told is not None) == (len(things) in (2, 5, 6))
    if told is not None:
        first, last = ordered[0], ordered[-1]
        assert first.y < last.y - 8 if told[1] == "above" else first.x < last.x


@given(places, st.integers(0, 3))
def test_a_quarter_holds_what_lies_in_it(where, quarter):
    things = scene(*where)
    question, answer = list(describe(things, quarter))[2]
    asked = tuple(re.fullmatch(r"describe the (top|bottom) (left|right)\.", question).groups())
    inside = Counter((t.colour, t.shape, t.dot) for t in things if place(t) == asked)
    assert Counter((c, s, d) for c, s, d, *_ in read(answer)) == inside
    assert (answer == "nothing") == (not inside)


def test_answers_are_of_several_lengths_and_every_word_is_known():
    items = descriptions("test")
    words = [re.findall(r"\w+", item.answer) for item in items]
    lengths = {
        asked: [len(w) for w, item in zip(words, items, strict=True) if item.question == asked]
        for asked in (WHOLE, SENTENCE)
    }
    assert (min(lengths[WHOLE]), max(lengths[WHOLE])) == (25, 38)
    assert (min(lengths[SENTENCE]), max(lengths[SENTENCE])) == (11, 23)
    said = {w for item in items for w in re.findall(r"\w+|[.,]", f"{item.question} {item.answer}")}
    assert said <= {*COMMON, *WORDS}
    assert set(WORDS) <= said
    assert not set(WORDS) & set(COMMON)


def test_the_tokenizer_of_the_captions_gives_the_text_back():
    model, processor = blank_scratch(RECIPES["reference-captions"])
    tokenizer = processor.tokenizer
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    for item in descriptions("tuning")[::7]:
        ids = tokenizer(item.answer, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == item.answer
    _, other = blank_scratch(RECIPES["reference-smolvlm"])
    assert other.tokenizer.get_vocab().items() <= tokenizer.get_vocab().items()


def test_a_blind_guess_describes_nothing():
    items = [item for item in descriptions("test") if item.question in (WHOLE, SENTENCE)]
    guesses = blind_answers(descriptions("tuning"), items)
    assert sum(guess == item.answer for guess, item in zip(guesses, items, strict=True)) < 6


def test_pictures_are_those_of_the_scenes_and_the_confirmation_split_is_not_there():
    assert {i.image for i in descriptions("profile")} == {i.image for i in scenes("profile")}
    assert {i.cluster for i in descriptions("profile")} == {i.cluster for i in scenes("profile")}
    assert TASKS["descriptions"] is descriptions
    with pytest.raises(BridgeError, match="descriptions has no split 'confirmation'; it has train"):
        descriptions("confirmation")
