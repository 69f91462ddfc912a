"""Word error rates: the edit distance, what counts as a transcript, and where it is shown."""

import dataclasses
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.data import TRANSCRIBE, Item
from vlm_bridge.data.text_forms import transcript_words
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import is_correct
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.word_errors import word_error_rate, word_errors, wrong_words
from vlm_bridge.plan.skip_plan import SkipPlan

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


def heard(said, name="a.wav"):
    return Item(None, TRANSCRIBE, said, name, audio=Path(name))


def edits(text):
    """All texts that are one inserted, deleted or replaced word away."""
    for place, word in product(range(len(text) + 1), "abc"):
        yield (*text[:place], word, *text[place:])
    for place in range(len(text)):
        yield text[:place] + text[place + 1 :]
        yield from ((*text[:place], word, *text[place + 1 :]) for word in "abc")


def test_the_distance_is_that_of_a_search_through_all_edits():
    start, target_sizes = ("a", "b", "a"), range(5)
    reached, distance = {start: 0}, 0
    while len(reached) < 500 and distance < 4:
        distance += 1
        for text in [text for text, at in reached.items() if at == distance - 1]:
            for other in edits(text):
                reached.setdefault(other, distance)
    for size in target_sizes:
        for target in product("abc", repeat=size):
            if target in reached:
                assert wrong_words(start, target) == reached[target]


@given(WORDS, WORDS, WORDS)
def test_the_distance_is_a_metric(a, b, c):
    assert (wrong_words(a, b) == 0) == (a == b)
    assert wrong_words(a, b) == wrong_words(b, a)
    assert wrong_words(a, c) <= wrong_words(a, b) + wrong_words(b, c)
    assert abs(len(a) - len(b)) <= wrong_words(a, b) <= max(len(a), len(b))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Please HOLD, ok?", ["please", "hold", "ok"]),
        ("don\u2019t - I'm", ["don't", "i'm"]),
        ("\u00bfQu\u00e9 hora es?", ["qu\u00e9", "hora", "es"]),
        ("Qu\u0065\u0301", ["qu\u00e9"]),
        ("\u041c\u0438\u0440, 1", ["\u043c\u0438\u0440", "1"]),
        ("'quoted' a_b", ["quoted", "a", "b"]),
        (" ... ", []),
        (
            "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
            ["\u0928\u092e\u0938\u094d\u0924\u0947", "\u0926\u0941\u0928\u093f\u092f\u093e"],
        ),
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", ["\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"]),
        (
            "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f",
            ["\u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f"],
        ),
        ("\u0130stanbul'da", ["i\u0307stanbul'da"]),
        ("co\u00adop\u200bera te", ["coopera", "te"]),
    ],
)
def test_words_of_a_transcript(text, words):
    assert transcript_words(text) == words


def test_only_the_answer_to_what_is_said_is_a_transcript():
    assert heard("press one").is_transcript
    assert word_errors("Press, one!", heard("press one")) == 0
    for other in (
        Item(None, "is it a bell?", "yes", "a.wav", audio=Path("a.wav")),
        Item(Path("a.png"), TRANSCRIBE, "yes", "a.png"),
    ):
        assert not other.is_transcript
        assert word_errors("no", other) is None
    assert word_errors("press", heard(None)) is None


def test_a_transcript_is_right_if_its_words_are():
    item = heard("please hold the line")
    assert is_correct("Please, hold the line!", item)
    assert not is_correct("please hold line", item)  # an article counts, unlike in answers
    assert is_correct("please hold", heard(None)) is None


def test_the_rate_is_of_all_words():
    items = [heard("a b c d", "1"), heard("a", "2"), heard("a b c d e", "3")]
    rate = word_error_rate([1, 1, 0], items)
    assert rate.value == pytest.approx(0.2)
    assert (rate.n, rate.diagnostics["denominator"]) == (3, 10)
    assert word_error_rate([None, None, None], items) is None
    assert word_error_rate([1, None, None], items) is None  # one unit has no interval


@pytest.mark.parametrize("said", ["...", "?!", "'"])
def test_a_transcript_without_a_word_is_refused_when_it_is_read(said):
    with pytest.raises(BridgeError, match=r"the transcript of 4\.wav holds no word"):
        heard(said, "4.wav")
    assert Item(Path("a.png"), TRANSCRIBE, said, "a").answer == said  # a label of a picture


@given(st.text(max_size=30))
def test_words_stay_the_same_words(text):
    words = transcript_words(text)
    assert transcript_words(" ".join(words)) == words
    assert transcript_words(text.replace(" ", "\n  ")) == words


def test_outcomes_and_comparisons_hold_both_rates(tmp_path):
    names = [tmp_path / f"{n}.wav" for n in range(25)]
    for path in names:
        path.write_bytes(path.name.encode())
    items = [heard(f"word{n} b c d", str(path)) for n, path in enumerate(names)]
    full = [item.answer for item in items]
    skipped = ["", *full[1:]]
    outcomes = Outcomes.of_words(items, full, skipped)
    assert outcomes.errors_full == (0.0,) * 25
    assert outcomes.errors_skipped == (4.0, *(0.0,) * 24)
    again = Outcomes.of_columns(items, outcomes.columns())
    assert again == outcomes
    assert Outcomes.join([outcomes, outcomes]).errors_skipped == outcomes.errors_skipped * 2
    compared = Comparison.of(SkipPlan("block", 4, layers=(1,)), outcomes, "generated answer")
    assert compared.word_errors_skipped.value == pytest.approx(0.04)
    sentence = compared.word_error_sentence()
    assert sentence.startswith(
        "word error rate: full 0.00% (0.00% to 0.00%) (not reliable: all clusters have the same"
    )
    assert ", skipped 4.00% (" in sentence
    assert sentence.endswith("100 words in 25 recordings")
    assert Comparison.from_json(compared.to_json()) == compared
    cut = dataclasses.replace(compared, max_new_tokens=8, share_at_limit=0.5)
    assert cut.word_error_sentence() == (
        f"{sentence}; answers are cut at 8 tokens, so words that would follow count as wrong"
    )


def test_columns_with_errors_of_one_model_alone_are_refused():
    items = [heard("a b", "1"), heard("c d", "2")]
    columns = Outcomes.of_words(items, ["a b", "c"], ["a", "c d"]).columns()
    stored = {name: None if v is None else list(v) for name, v in columns.items()}

    def known(changed):
        return Outcomes.are_columns(stored | changed, 2, kl=False, at_limit=False)

    assert known({})
    assert known({"errors_full": [None, 7], "errors_skipped": [None, 0]})
    assert not known({"errors_full": None})
    assert not known({"errors_full": ["1", 2]})


def test_questions_without_transcript_have_no_rate():
    items = [Item(None, f"why {n}?", "so") for n in range(3)]
    outcomes = Outcomes.of_words(items, ["so"] * 3, ["no"] * 3)
    assert outcomes.errors_full is None
    compared = Comparison.of(SkipPlan("block", 4, layers=(1,)), outcomes, "generated answer")
    assert compared.word_errors_full is None
    assert compared.word_error_sentence() == ""
    mixed = Outcomes.join([outcomes, Outcomes.of_words([heard("a b")], ["a"], ["a b"])])
    assert mixed.errors_full == (None, None, None, 1.0)
    assert dataclasses.replace(mixed).labelled.errors_full == mixed.errors_full
