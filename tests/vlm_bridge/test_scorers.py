"""Scorers: values of the published definitions, bounds and symmetries, and what is refused."""

from __future__ import annotations

import json
import linecache
import math
import os
import string
import subprocess
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vlm_bridge as vb
from estimators.extras import MissingExtra
from vlm_bridge.__main__ import main
from vlm_bridge.data import Item, items_hash, link_units, read_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.scorers import SCORERS, Scorer, find_scorer, find_scorers, scorers
from vlm_bridge.evaluate.scorers.cider import Cider
from vlm_bridge.evaluate.scorers.protocol import certifiable

#: Every scorer that needs nothing but a name.
NAMES = [name for name in SCORERS if name != "cider"]
WORDS = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=4), min_size=1, max_size=7)
TEXTS = st.one_of(st.text(max_size=12), WORDS.map(" ".join), st.sampled_from(["40", "4%", "the"]))
#: Texts with a word that is no article, so that every scorer has something to compare.
LABELS = WORDS.map(lambda words: " ".join(["zz", *words]))


def asked(*answers: str, question: str = "what is it?") -> Item:
    return Item(None, question, answers=answers)


def score(name: str, text: str, *answers: str) -> float:
    value = find_scorer(name).score(text, asked(*answers))
    assert value is not None
    return value


def captions(n: int = 6) -> list[Item]:
    """References of other images: every one holds "a photo of", one word is its own."""
    return [asked(f"a photo of thing{i}", question=f"caption {i}") for i in range(n)]


# Values of the definitions


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_vqa_takes_steps_of_a_third_of_leave_one_out(matches, expected):
    """With m of 10: m leave out a match, 10 - m do not."""
    answers = ["red"] * matches + [f"other{i}" for i in range(10 - matches)]
    assert score("vqa", "Red.", *answers) == pytest.approx(expected)
    by_hand = [
        min(1, sum(a == "red" for a in kept) / 3)
        for kept in combinations(answers, len(answers) - 1)
    ]
    assert score("vqa", "red", *answers) == pytest.approx(sum(by_hand) / 10)


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("coca cola", ("coca cola", "coca cola company"), 1.0),
        ("Coca  Cola", ("coca cola",), 1.0),
        ("coca cole", ("coca cola", "coca cola company"), 1 - 1 / 9),
        ("abcd", ("abxy",), 0.0),  # distance exactly at the threshold
        ("abcde", ("abcxy",), 0.6),
        ("", ("yes",), 0.0),
    ],
)
def test_anls_by_its_equation(text, answers, expected):
    assert score("anls", text, *answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("95", "100", 1),
        ("105", "100", 1),
        ("94.9", "100", 0),
        ("-95", "-100", 1),
        ("95", "-100", 0),
        ("42%", "0.4", 1),
        ("42", "40%", 0),
        ("0.0", "0", 0),
        ("0", "0", 1),
        ("Yes.", "yes", 1),
        ("1_0", "10", 0),
        ("nan", "nan", 1),
        ("9" * 400, "9" * 400, 1),
        ("1.05", "1.0", 1),
    ],
)
def test_relaxed_accuracy_allows_five_percent(text, answer, expected):
    assert score("relaxed", text, answer) == expected


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("the red red car", "red car", 0.8),
        ("red", "red car", 2 / 3),
        ("car red", "red car", 1),
        ("the", "a", 1),
        ("", "red", 0),
    ],
)
def test_token_f1_by_its_formula(text, answer, expected):
    assert score("token-f1", text, answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("police kill the gunman", 0.75),
        ("the gunman kill police", 0.5),
        ("the gunman police", 4 / 7),
    ],
)
def test_rouge_l_by_the_example_of_its_paper(text, expected):
    """Lin 2004, section 3: S1 police killed the gunman; S2 scores 3/4, S3 2/4."""
    assert score("rouge-l", text, "police killed the gunman") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a b d", 0.75), ("a b c d", 1), ("x y z w q", 0), ("", 0), ("d c b a", 0)],
)
def test_word_accuracy_is_one_minus_the_word_error_rate(text, expected):
    assert score("word-accuracy", text, "a b c d") == pytest.approx(expected)


def test_exact_takes_any_reference():
    assert score("exact", "The Sofa.", "couch", "sofa") == 1
    assert score("exact", "chair", "couch", "sofa") == 0


def test_cider_by_hand():
    """Documents {a b}, {a c}; answer "b" against reference "b": only 1-grams weigh."""
    made = Cider([asked("a b", question="1"), asked("a c", question="2")])
    assert made.score("b", asked("b")) == pytest.approx(1 / 4)
    # "a" is in every document: log(2/2) = 0. "b" has log 2, "d", in none, log 2, too.
    cosine = math.log(2) ** 2 / (math.sqrt(2) * math.log(2) ** 2)
    penalty = math.exp(-1 / (2 * 36))
    assert made.score("a b", asked("b d a")) == pytest.approx(cosine_of_pairs(cosine, penalty))


def cosine_of_pairs(cosine: float, penalty: float) -> float:
    """1-grams share b of (b, d); 2-grams "a b" against "b d", "d a" share none."""
    return cosine * penalty / 4


def test_cider_clips_repeated_words_and_averages_over_references():
    made = Cider(captions())
    # Every n-gram is in no document. 1-grams: (3, 1) and (1, 1); 2-grams: (2, 1) and (0, 1).
    cosines = 2 / math.sqrt(10 * 2) + 1 / math.sqrt(5)
    thrice = made.score("cat cat cat dog", asked("cat dog"))
    assert thrice == pytest.approx(cosines / 4 * math.exp(-4 / 72))
    both = made.score("cat on my mat", asked("cat on my mat", "some rainy day now"))
    assert both == pytest.approx(0.5)


# Properties


@given(text=TEXTS, answers=st.lists(LABELS, min_size=4, max_size=6))
@pytest.mark.parametrize("name", NAMES)
def test_every_score_lies_between_0_and_1(name, text, answers):
    assert 0.0 <= score(name, text, *answers) <= 1.0


@given(label=LABELS)
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_itself_scores_1(name, label):
    assert score(name, label, *[label] * 4) == 1.0


@given(text=TEXTS, answers=st.lists(LABELS, min_size=4, max_size=6), seed=st.randoms())
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_references_is_of_no_account(name, text, answers, seed):
    shuffled = answers.copy()
    seed.shuffle(shuffled)
    assert score(name, text, *answers) == pytest.approx(score(name, text, *shuffled))


@given(text=LABELS, label=LABELS)
@pytest.mark.parametrize("name", ["exact", "anls", "token-f1", "rouge-l"])
def test_symmetric_scores_are_symmetric(name, text, label):
    assert score(name, text, label) == pytest.approx(score(name, label, text))


@given(text=LABELS, answers=st.lists(LABELS, min_size=1, max_size=3), more=LABELS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "vqa"])
def test_another_reference_never_lowers_the_best(name, text, answers, more):
    assert score(name, text, *answers, more) >= score(name, text, *answers)


@given(text=TEXTS, answers=st.lists(LABELS, min_size=1, max_size=4))
def test_cider_lies_between_0_and_1_and_is_1_for_a_long_reference(text, answers):
    made = Cider(captions())
    assert 0.0 <= made.score(text, asked(*answers)) <= 1.0
    whole = f"{answers[0]} one two three four"
    assert made.score(whole, asked(whole)) == pytest.approx(1.0)


@given(text=TEXTS, answers=st.lists(LABELS, min_size=4, max_size=4))
@pytest.mark.parametrize("name", NAMES)
def test_binary_scorers_are_binary(name, text, answers):
    if find_scorer(name).binary:
        assert score(name, text, *answers) in (0.0, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_label_there_is_no_score(name):
    assert find_scorer(name).score("yes", Item(None, "is it red?")) is None


# Functions of the user


def half(item: Item, text: str) -> float:
    return 0.5 if text == "yes" else 0.0


def test_a_function_is_a_scorer():
    made = find_scorer(half)
    assert made.score("yes", asked("no")) == 0.5
    assert made.name.endswith(":half")
    assert find_scorer(made) is made
    named = find_scorer("tests.vlm_bridge.test_scorers:half")
    assert named.score("yes", asked("no")) == 0.5


@pytest.mark.parametrize("value", [1.01, -0.01, math.nan, math.inf, "1", [1.0], object()])
def test_a_function_must_return_a_score(value):
    with pytest.raises(BridgeError, match="a score is a number in"):
        find_scorer(lambda item, text: value).score("yes", asked("no"))
    assert find_scorer(lambda item, text: None).score("yes", asked("no")) is None


@pytest.mark.parametrize("value", [10**400, np.zeros(2)])
def test_what_cannot_become_a_number_is_no_score(value):
    with pytest.raises(BridgeError, match="a score is a number in"):
        find_scorer(lambda item, text: value).score("yes", asked("no"))


def test_the_error_of_a_function_names_it_and_the_question():
    def broken(item: Item, text: str) -> float:
        return 1.0 / len(text)

    with pytest.raises(BridgeError, match="broken raised ZeroDivisionError: ") as raised:
        find_scorer(broken).score("", asked("no", question="is it red?"))
    assert "for the answer '' to is it red?" in str(raised.value)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_module_that_raises_is_named(tmp_path, monkeypatch):
    (tmp_path / "raising_scorer.py").write_text("def score(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BridgeError, match=r"no scorer raising_scorer:score: "):
        find_scorer("raising_scorer:score")


def made_from(source: str) -> Scorer:
    """A scorer without a file, whose source nobody can read."""
    names: dict[str, Any] = {"__name__": "typed_in"}
    exec(source, names)
    return find_scorer(names["mine"])


SETS = "def mine(item, text): return float(text in {'a', 'b', 'c', 'd'} and any(c for c in text))"


def test_an_edited_function_has_another_key():
    """Scores are read back by key, so an edit must not find those of before."""
    before = made_from(SETS)
    for edit in (
        ("'d'", "'e'"),
        ("any", "all"),
        ("c for c", "d for c"),
        ("float(", "(float)(not "),
    ):
        after = made_from(SETS.replace(*edit))
        assert (after.name == before.name, after.key == before.key) == (True, False), edit
    assert made_from(SETS).key == before.key
    one, other = (lambda item, text: 1.0), (lambda item, text: 0.0)
    assert find_scorer(one).name == find_scorer(other).name
    assert find_scorer(one).key != find_scorer(other).key
    assert find_scorer(half).settings == {"scorer": find_scorer(half).key}


def test_an_edited_file_has_another_key(tmp_path, monkeypatch):
    """The default value is in the source alone; the object's class holds its code."""
    path = tmp_path / "edited_scorer.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source = "class Mine:\n    least = 1\n    def __call__(self, item, text): return self.least\n"
    source += "def mine(item, text, least=1): return least\nmade = Mine()\n"
    keys = []
    for text in (source, source, source.replace("least = 1", "least = 0").replace("=1)", "=0)")):
        path.write_text(text)
        sys.modules.pop("edited_scorer", None)
        linecache.clearcache()
        keys.append([find_scorer(f"edited_scorer:{name}").key for name in ("mine", "made")])
    sys.modules.pop("edited_scorer", None)
    assert keys[0] == keys[1]
    assert all(old != new for old, new in zip(keys[0], keys[2], strict=True))


def test_a_key_is_the_same_in_every_process():
    code = "from tests.vlm_bridge.test_scorers import *; print(made_from(SETS).key)"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{made_from(SETS).key}\n"}


def test_two_scorers_of_one_name_are_refused():
    """Their scores would overwrite each other."""
    same = [lambda item, text: 1.0, lambda item, text: 0.0]
    for pair in (same, ["exact", "vqa", "exact"]):
        with pytest.raises(BridgeError, match=r"2 scorers have the name .*; give each scorer once"):
            find_scorers(pair)
    names = [scorer.name for scorer in find_scorers(["vqa", half])]
    assert names == ["vqa", find_scorer(half).name]


# Names, and what is refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ANLS", "did you mean anls"),
        ("bleu", "a score of a whole corpus and no mean over answers"),
        ("BLEU", "no interval or certificate by image"),
        ("corpus-cider", "use rouge-l or cider:FILE"),
        ("cider:", "cider:FILE or MODULE:FUNCTION"),
        ("cider:missing.jsonl", "no data file at missing.jsonl"),
        ("no_such_module:score", "no scorer no_such_module:score"),
        ("math:no_such_name", "no scorer math:no_such_name"),
        ("math:pi", "a scorer is a name or a function"),
        (3, "a scorer is a name or a function, got 3"),
    ],
)
def test_unknown_scorers_are_refused(name, message):
    with pytest.raises(BridgeError, match=message):
        find_scorer(name)


def test_the_table_names_every_scorer_once():
    rows = vb.scorers()
    assert [row["name"] for row in rows] == [*SCORERS, "cider:FILE", "MODULE:FUNCTION"]
    assert {row["certificate"] for row in rows} == {"yes", "no"}
    assert all(row["source"] and row["claim"] for row in rows)
    assert rows == scorers()
    claims = {row["name"]: row["claim"] for row in rows}
    assert "a JSONL file of questions with answers about other images" in claims["cider:FILE"]


@pytest.mark.parametrize("name", ["anls", "rouge-l"])
def test_a_missing_package_is_named(name, monkeypatch):
    monkeypatch.setattr("estimators.extras.installed", lambda module: module != "rapidfuzz")
    with pytest.raises(
        MissingExtra, match=rf"the scorer {name} needs rapidfuzz.*skipit\[scoring\]"
    ):
        find_scorer(name)
    assert isinstance(find_scorer("token-f1"), Scorer)


def test_the_command_names_a_missing_package_in_one_line(monkeypatch):
    monkeypatch.setattr("estimators.extras.installed", lambda module: module != "rapidfuzz")
    words = ["compare", "nowhere", "block layers=1", "--data", "none.jsonl", "--scorer", "anls"]
    monkeypatch.setattr(sys, "argv", ["skipit", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = "the scorer anls needs rapidfuzz: pip install 'skipit[scoring]'"
    assert str(stopped.value) == said


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("cider", "auto", "the score cider of an answer depends on the other questions"),
        ("anls", "harm", "harm counts answers that are right or wrong"),
        ("vqa", "clopper-pearson", "clopper-pearson counts answers"),
    ],
)
def test_scores_without_a_certificate_are_refused_by_name(name, method, message):
    with pytest.raises(BridgeError, match=message):
        certifiable(find_scorer(name), [], method)


def test_too_few_people_are_refused():
    with pytest.raises(BridgeError, match=r"vqa compares .* at least 4; what is it\? has 3"):
        score("vqa", "red", "red", "red", "red")


def test_a_reference_without_a_word_has_no_word_error_rate():
    with pytest.raises(BridgeError, match="holds no word"):
        score("word-accuracy", "yes", "...")


def test_cider_refuses_one_document_and_images_that_it_scores():
    with pytest.raises(BridgeError, match="at least 2 units for its document frequencies, got 1"):
        Cider(captions(1))
    others = captions()
    with pytest.raises(BridgeError, match="1 units of the document frequencies of cider:FILE"):
        Cider(others).of(others[:1])
    assert isinstance(Cider(others).of([asked("a cat")]), Cider)


def test_documents_of_cider_share_no_image_with_what_it_scores():
    """Units are linked on each side alone, so that their names do not tell."""
    pictures = [np.full((2, 2, 3), each, np.uint8) for each in range(4)]
    documents = link_units([Item.of(*pictures[:2], "what?", answer="a cat"), *captions(2)])
    (scored,) = link_units([Item.of(*pictures[1:3], "what?", answer="a dog")])
    assert scored.cluster not in {item.cluster for item in documents}
    with pytest.raises(BridgeError, match="1 units of the document frequencies"):
        Cider(documents).of([scored])
    assert Cider(documents).of([Item.of(*pictures[2:], "what?", answer="a dog")])


def test_cider_of_the_corpus_scores_all_questions_at_once():
    items = captions()
    with pytest.raises(BridgeError, match="scores all questions at once"):
        find_scorer("cider").score("a cat", items[0])
    fitted = find_scorer("cider").of(items)
    assert fitted.score("a photo of thing0", items[0]) == pytest.approx(1.0)
    assert not fitted.per_item


def test_cider_reads_its_documents_from_a_file(tmp_path):
    path = tmp_path / "captions.jsonl"
    rows = [{"question": item.question, "answers": list(item.answers)} for item in captions()]
    path.write_text("\n".join(map(json.dumps, rows)))
    made = find_scorer(f"cider:{path}")
    assert made.score("a cat", asked("a cat")) == Cider(captions()).score("a cat", asked("a cat"))
    assert made.name in made.key
    path.write_text("\n".join(map(json.dumps, rows[1:])))
    assert find_scorer(f"cider:{path}").key != made.key


# Items with several reference answers


def test_the_answer_is_the_most_frequent_reference():
    assert asked("red", "blue", "blue").answer == "blue"
    assert asked("red", "blue").answer == "red"
    assert Item(None, "?", "red").references == ("red",)
    assert Item(None, "?").references == ()
    assert asked("red", "blue").references == ("red", "blue")


def test_references_are_part_of_the_hash_of_the_data():
    one, two = Item(None, "?", "red"), Item(None, "?", "red", answers=("red", "blue"))
    assert items_hash([one]) != items_hash([two])
    assert items_hash([two]) != items_hash([Item(None, "?", "red", answers=("red", "green"))])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answers": "red"}, "a list of texts, got 'red'"),
        ({"answers": 3}, "a list of texts, got 3"),
        ({"answers": ["red", 3]}, "the answer of an item is text, got 3"),
        ({"answers": ["red", " "]}, "reference answer 1 of \\? is blank"),
        ({"answers": ["red"], "answer": "blue"}, "the answer 'blue' of \\? is none of its 1"),
    ],
)
def test_wrong_references_are_refused(fields, message):
    with pytest.raises(BridgeError, match=message):
        Item(None, "?", **fields)


def test_a_transcript_has_one_answer():
    with pytest.raises(
        BridgeError, match=r"a transcript has one answer, a\.wav: what is said. has 2"
    ):
        Item(None, "what is said?", audio="a.wav", answers=("yes sir", "yes"))


def test_a_line_of_jsonl_may_have_several_answers(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"question": "colour?", "answers": ["red", "blue", "blue"]}))
    (item,) = read_jsonl(path)
    assert (item.answer, item.references) == ("blue", ("red", "blue", "blue"))
    for wrong, message in (
        ("red", "'answers' is a list of texts"),
        ([1], "'answers.0.' is not text, got 1"),
        ([""], "is blank"),
    ):
        path.write_text(json.dumps({"question": "colour?", "answers": wrong}))
        with pytest.raises(BridgeError, match=rf"data.jsonl:1: .*{message}"):
            read_jsonl(path)
