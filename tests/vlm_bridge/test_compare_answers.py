"""What `compare` keeps: every answer and its scores, harm by length, tokens per second."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

import vlm_bridge as vb
from estimators import Estimate
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.data import Item, Picture, Turn
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.shapes.recognise import read_record
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import paired as module
from vlm_bridge.evaluate.answer_speed import AnswerSpeed
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.compare import compare
from vlm_bridge.evaluate.compare_answers import AnswerComparison, compare_answers
from vlm_bridge.evaluate.paired import PairedAnswers, Said, paired_answers
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

PLAN = SkipPlan("block", 4, layers=(1, 2))
SIZES = {"batch_size": 3, "max_new_tokens": 20}


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture
def said(vlm, items):
    return paired_answers(vlm, items, PLAN, **SIZES)


def test_the_answers_are_those_of_both_models(vlm, items, said):
    assert list(said.items) == items
    assert list(said.full.texts) == answer(vlm, items, **SIZES)
    with skipping(vlm, PLAN):
        assert list(said.skipped.texts) == answer(vlm, items, **SIZES)
    assert said.full.texts != said.skipped.texts


def test_the_last_beginning_is_one_token_shorter_than_the_answer(vlm, items):
    sizes = {"batch_size": 3, "max_new_tokens": 5}
    made = paired_answers(vlm, items, PLAN, **sizes)
    assert 5 in made.full.n_tokens
    begun = [each[1] for each in made.full.beginnings]
    assert begun == answer(vlm, items, batch_size=3, max_new_tokens=4)
    assert begun != list(made.full.texts)


@pytest.mark.parametrize("length", [1, 4, 16])
def test_beginnings_are_the_answers_of_that_length(vlm, items, said, length):
    """Greedy answers with a smaller limit are the beginnings of longer ones."""
    place = said.lengths.index(length)
    short = {"batch_size": 3, "max_new_tokens": length}
    begun = [each[place] for each in said.full.beginnings]
    assert begun == answer(vlm, items, **short)
    with skipping(vlm, PLAN):
        assert [each[place] for each in said.skipped.beginnings] == answer(vlm, items, **short)
    made = said.outcomes_up_to(length)
    assert made.disagree == paired_answers(vlm, items, PLAN, **short).outcomes().disagree


def test_a_stop_and_a_resume_give_the_same_answers(vlm, items, said, tmp_path, monkeypatch):
    path, calls = tmp_path / "checkpoint.jsonl", []
    original = module.answer_batch

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(module, "answer_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        paired_answers(vlm, items, PLAN, checkpoint=path, **SIZES)
    monkeypatch.setattr(module, "answer_batch", original)
    again = paired_answers(vlm, items, PLAN, checkpoint=path, **SIZES)
    assert (again.full.texts, again.skipped.texts) == (said.full.texts, said.skipped.texts)
    assert again.full.beginnings == said.full.beginnings
    assert again.kl_full_skipped == pytest.approx(said.kl_full_skipped)


def test_an_empty_plan_changes_nothing(vlm, items):
    same = paired_answers(vlm, items, SkipPlan("block", 4), **SIZES)
    made = compare_answers(same, ["exact", "token-f1"])
    assert all(row.changed.value == 0 for row in made.by_length)
    assert all(score.drop.value == 0 for score in made.scores)


def said_by_hand(full: list[str], skipped: list[str], **fields) -> PairedAnswers:
    """One question each about 4 images; up to 4 tokens of one letter each."""

    def one(texts: list[str], seconds: tuple[float, ...]) -> Said:
        beginnings = tuple((text[:1],) for text in texts)
        return Said(tuple(texts), tuple(map(len, texts)), beginnings, seconds)

    items = tuple(Item(None, f"question {i}?", "abcd") for i in range(len(full)))
    zeros = (0.0,) * len(full)
    made = {
        "full": one(full, (9.0, 1.0, 2.0, 1.0)),
        "skipped": one(skipped, (9.0, 0.5, 1.0, 0.5)),
        "at_limit": tuple(len(text) == 4 for text in full),
        "batch_sizes": (1, 1, 1, 1),
    }
    return PairedAnswers(
        items=items,
        plan=PLAN,
        kl_full_skipped=zeros,
        kl_skipped_full=zeros,
        max_new_tokens=4,
        **{**made, **fields},
    )


def test_harm_and_scores_by_hand():
    said = said_by_hand(["abcd", "abcd", "ab", "b"], ["abcd", "abxy", "ab", "a"])
    made = compare_answers(said, ["exact", "anls"])
    first, whole = made.by_length
    assert (first.n_tokens, whole.n_tokens) == (1, 4)
    assert (first.changed.value, whole.changed.value) == (0.25, 0.5)
    assert first.longer.value == 0.75
    assert whole.longer.value == 0.5  # two are cut at four tokens
    exact, anls = made.scores
    assert (exact.full.value, exact.skipped.value, exact.drop.value) == (0.5, 0.25, 0.25)
    assert anls.full.value == pytest.approx(2 / 4)  # "ab" is at distance .5 from "abcd"
    assert anls.drop.value == pytest.approx(1 / 4)
    assert whole.drops["exact"] == exact.drop
    assert (exact.drop.n, made.n_images, made.unit_word) == (4, 4, "text")
    lines = list(made.lines())
    assert lines[0].startswith("exact: full 0.5000 (")
    assert any(line.startswith("up to 4\t50.0% (") for line in lines)


def test_items_by_hand():
    said = said_by_hand(["abcd", "abcd"], ["abcd", "abce"], batch_sizes=(1, 1))
    same, other = vb.answered_items(said, ["exact", "anls"])
    assert (same.changed, other.changed) == (False, True)
    assert other.scores_full == {"exact": 1.0, "anls": 1.0}
    assert other.scores_skipped == {"exact": 0.0, "anls": 0.75}
    assert (other.full, other.skipped, other.at_limit) == ("abcd", "abce", True)


def test_the_whole_dialogue_is_kept(tmp_path):
    """What was asked is read back from the file, in the fields of our own lines."""
    for name in "abc":
        Image.new("RGB", (4, 4), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    before = [Turn("user", (a, "what is it?")), Turn("assistant", "a dress")]
    asked = (
        Item.of("Is", a, "larger than", b, "?", system="Be short."),
        Item.of(c, "and its colour?", turns=before),
        Item.of(b, "what is it?"),
        Item.of(Picture.of(c.read_bytes()), "or", b, "?"),
    )
    said = replace(said_by_hand(["a"] * 4, ["b"] * 4), items=asked)
    path = vb.write_answered(tmp_path / "answers.jsonl", said, [lambda item, text: 1.0])
    *dialogues, plain, memory = vb.read_answered(path)
    for item, kept in zip(asked, dialogues, strict=False):
        record = json.loads(json.dumps({"content": kept.content, "turns": kept.turns}))
        again = read_record(record, Place("line", tmp_path))
        assert again.dialogue == item.dialogue
        assert kept.question == item.question
    assert (plain.content, plain.turns) == ((), ())
    assert memory.content[0] == {"image": f"sha256:{asked[3].images[0].digest}"}


def test_scorers_of_one_name_do_not_overwrite_each_other(tmp_path):
    said = said_by_hand(["abcd", "abcd"], ["abcd", "abce"], batch_sizes=(1, 1))
    same = [lambda item, text: 1.0, lambda item, text: 0.0]
    for call in (compare_answers, lambda *given: vb.write_answered(tmp_path / "a.jsonl", *given)):
        with pytest.raises(BridgeError, match="2 scorers have the name"):
            call(said, same)
    assert not (tmp_path / "a.jsonl").exists()


def test_speed_by_hand():
    """The first batch warms up: 4 + 2 + 1 tokens in 1 + 2 + 1 seconds."""
    said = said_by_hand(["abcd", "abcd", "ab", "b"], ["abcd", "abcd", "ab", "b"])
    speed = AnswerSpeed.of(said)
    assert speed is not None
    assert (speed.n_batches, speed.tokens_full, speed.tokens_skipped) == (3, 7, 7)
    assert speed.full.value == pytest.approx(7 / 4)
    assert speed.skipped.value == pytest.approx(7 / 2)
    assert speed.seconds_ratio.value == pytest.approx(1 / 2)
    assert "full 1.75 (" in speed.sentence()


def test_few_batches_have_no_speed(vlm, items):
    said = paired_answers(vlm, items, PLAN, batch_size=16, max_new_tokens=2)
    made = compare_answers(said)
    assert made.speed is None
    assert any("need at least 3 batches" in line for line in made.lines())


def test_a_score_of_the_corpus_is_shown_and_said_to_have_no_certificate(said):
    made = compare_answers(said, ["cider"])
    (score,) = made.scores
    assert not score.per_item
    assert score.sentence().endswith("it depends on all questions, so it has no certificate")


def test_scores_agree_with_the_comparison(vlm, items, said):
    compared = compare(vlm, items, PLAN, **SIZES)
    (exact,) = compare_answers(said).scores
    assert (compared.accuracy_full, compared.drop) == (exact.full, exact.drop)
    assert compare_answers(said).by_length[-1].changed == compared.disagreement


def test_a_comparison_is_printed_as_its_sentences(vlm, items):
    made = compare(vlm, items, PLAN, **SIZES)
    assert str(made).splitlines() == [made.sentence(), made.accuracy_sentence()]
    rate = Estimate(
        value=0.5, interval=(0.4, 0.6), n=4, method="demo", diagnostics={"denominator": 9.0}
    )
    spoken = replace(made, word_errors_full=rate, word_errors_skipped=rate)
    assert str(spoken).splitlines()[2] == spoken.word_error_sentence() != ""


def test_the_record_is_read_back(said):
    made = compare_answers(said, ["exact", "anls"])
    assert AnswerComparison.from_json(json.loads(made.dumps())) == made


def test_unlabelled_questions_have_no_score(vlm, items):
    bare = [Item(item.image, item.question) for item in items]
    made = compare_answers(paired_answers(vlm, bare, PLAN, **SIZES), ["exact", "anls"])
    assert made.scores == ()
    assert all(row.drops == {} for row in made.by_length)
    assert next(iter(made.lines())) == "tokens\tlonger\tchanged"


def test_one_image_alone_is_refused(vlm, items):
    said = paired_answers(vlm, items[:1], PLAN, **SIZES)
    with pytest.raises(BridgeError, match="an interval by image needs at least 2 images"):
        compare_answers(said)


# The file of answered items


def test_every_item_is_kept(said, tmp_path):
    path = vb.write_answered(tmp_path / "answers.jsonl", said, ["exact", "anls"])
    read = vb.read_answered(path)
    assert read == list(vb.answered_items(said, ["exact", "anls"]))
    assert [each.question for each in read] == [item.question for item in said.items]
    assert all(each.changed == (each.full != each.skipped) for each in read)
    assert any(each.changed for each in read)
    first, item = read[0], said.items[0]
    assert first.files == (str(item.image),)
    assert first.references == (item.answer,)
    assert set(first.scores_full) == {"exact", "anls"}
    assert [each.n_tokens_full for each in read] == list(said.full.n_tokens)


@pytest.mark.parametrize("text", ["{}", "[1]", "x", '{"type": "AnsweredItem"}'])
def test_another_file_is_refused_by_line(text, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(text)
    with pytest.raises(BridgeError, match=r"answers\.jsonl:1: no answered item"):
        vb.read_answered(path)


def test_the_command_keeps_what_it_saw(folder, jsonl, tmp_path, capsys):
    words = ("compare", folder, "block layers=1-2", "--data", jsonl, "--max-new-tokens", 8)
    words += ("--batch-size", 3, "--pairs", 1, "--scorer", "exact", "--scorer", "rouge-l")
    out, kept = tmp_path / "comparison.json", tmp_path / "answers.jsonl"
    assert run(*words, "--out", out, "--items", kept) == 0
    said = capsys.readouterr().out
    assert "rouge-l: full 0." in said
    assert "tokens\tlonger\tchanged\tdrop of exact\tdrop of rouge-l" in said
    assert "up to 4\t" in said
    assert "tokens/s; seconds skipped/full" in said
    assert f"answers: {kept}" in said
    stored = AnswerComparison.from_json(json.loads(out.read_text())["answers"])
    assert [score.scorer for score in stored.scores] == ["exact", "rouge-l"]
    assert [row.n_tokens for row in stored.by_length] == [1, 4, 8]
    read = vb.read_answered(kept)
    changed = sum(each.changed for each in read)
    assert 0 < changed <= len(read)
    assert run(*words, "--out", out, "--items", kept) == 0  # replaces its own results


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--scorer", "bleu"), "bleu is a score of a whole corpus"),
        (("--scorer", "vqa"), "vqa compares with the answers of several people"),
        (("--items", "{data}"), "--items would replace"),
        (("--items", "{out}"), "--items and --out both name"),
    ],
)
def test_what_is_refused_is_refused_before_the_model_is_loaded(
    given, message, jsonl, tmp_path, capsys
):
    out = tmp_path / "new.json"
    given = [word.format(data=jsonl, out=out) for word in given]
    before = jsonl.read_bytes()
    assert run("compare", "nowhere", "block layers=1", "--data", jsonl, "--out", out, *given) == 2
    assert message in capsys.readouterr().err
    assert jsonl.read_bytes() == before
