"""The benchmark of long answers counts by hand what it says, class of lengths by class."""

from __future__ import annotations

import pytest

from benchmarks import captions
from vlm_bridge.data import Item
from vlm_bridge.evaluate.paired import PairedAnswers, Said
from vlm_bridge.plan.text import read_plan


def spoken(*texts):
    """What a model said: every word is a token, and the end is one."""
    counts = tuple(len(text.split()) + 1 for text in texts)
    return Said(texts, counts, tuple(() for _ in texts), (1.0,))


@pytest.fixture
def said():
    """Three scenes: a short answer each, of which one changes, and a long one, one word wrong."""
    long = " ".join(f"w{n}" for n in range(10))
    full = ("red", "a cross", "blue", long, long)
    skipped = ("red", "a square cross", "blue", long.replace("w3", "x"), long)
    clusters = ("a", "b", "c", "a", "b")
    items = tuple(
        Item(None, f"what {n}?", text, c)
        for n, (text, c) in enumerate(zip(full, clusters, strict=True))
    )
    zero = (0.0,) * 5
    plan = read_plan("block layers=1")(8)
    ends = (False,) * 5
    return PairedAnswers(items, plan, spoken(*full), spoken(*skipped), zero, zero, ends, (5,), 64)


def test_changed_answers_and_words_by_length(said):
    short, middle, long = captions.by_length(said)
    assert (short["answers"], middle["answers"], long["answers"]) == (3, 2, 0)
    assert short["changed"]["value"] == pytest.approx(1 / 3)
    assert short["words"]["value"] == pytest.approx(1 / 4)
    assert middle["changed"]["value"] == pytest.approx(1 / 2)
    assert middle["words"]["value"] == pytest.approx(1 / 20)
    assert "changed" not in long


def test_certificates_are_of_the_text_and_of_each_score(said):
    found = captions.certificates(said, 0.05)
    assert list(found) == ["exact", *captions.SCORERS]
    assert all(0.3 < each["bound"] <= 1.0 and not each["holds"] for each in found.values())


def test_a_perfect_answer_scores_one_and_silence_nothing(said):
    labels = [item.answer for item in said.items]
    assert captions.quality(labels, said.items)["rouge-l"]["value"] == 1.0
    assert captions.quality([""] * 5, said.items)["exact"]["value"] == 0.0
