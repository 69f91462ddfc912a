"""What an answer is: its length, when two are the same, when one is right; one verdict on it."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import math
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vlm_bridge as vb
from tests.imports import parse, python_files
from tests.vlm_bridge.tiny import picture, tiny_llava
from theory import what_it_takes, zero_failure_bound
from vlm_bridge.cli.lazy import find_function
from vlm_bridge.data import Item, link_units
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS, answer_batch, is_correct, normalise
from vlm_bridge.evaluate.baselines import accuracy, blind_answers
from vlm_bridge.evaluate.certify import certify, certify_both
from vlm_bridge.evaluate.compare import compare
from vlm_bridge.evaluate.from_outcomes import certificate_of
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.paired import paired_answers, paired_outcomes
from vlm_bridge.evaluate.reach import reach
from vlm_bridge.evaluate.sweep import sweep
from vlm_bridge.experiments.demo.run import DemoSize
from vlm_bridge.experiments.reproduce import reproduce
from vlm_bridge.methods.run import run_method
from vlm_bridge.model.prompts import batches
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection import search, tuned_path
from vlm_bridge.selection.choose import choose_plan

PLAN = SkipPlan("block", 4, layers=(1,))


_IMAGE = {"path": Path("a.png")}


@pytest.fixture(autouse=True, scope="module")
def one_picture(tmp_path_factory):
    """The picture that every `item` is about; certificates hash it."""
    _IMAGE["path"] = tmp_path_factory.mktemp("one") / "a.png"
    picture(0).save(_IMAGE["path"])


def item(answer, cluster=""):
    return Item(_IMAGE["path"], "q", answer, cluster)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """40 images with one question each."""
    folder = tmp_path_factory.mktemp("pictures")
    asked = ("is there a circle ?", "what is red ?", "is the shape blue ? not red")
    items = []
    for number in range(40):
        path = folder / f"{number}.png"
        picture(number).save(path)
        items.append(Item(path, asked[number % 3], "yes"))
    return items


# --- the length -------------------------------------------------------------------------------


def nearly_idle(layer):
    """A model of which one layer's outputs are scaled by a few thousandths."""
    vlm = tiny_llava()
    with torch.no_grad():
        for weight in (
            vlm.layout.layers[layer].self_attn.o_proj,
            vlm.layout.layers[layer].mlp.down_proj,
        ):
            weight.weight.mul_(SCALE)
    return vlm


LAYER, SCALE = 1, 0.003


def test_what_changes_late_in_an_answer_is_seen(pictures):
    """Skipping the layer changes few answers within 8 tokens and most within 64."""
    vlm, plan = nearly_idle(LAYER), SkipPlan("block", 4, layers=(LAYER,))
    short = certify(vlm, pictures, plan, epsilon=0.1, max_new_tokens=8, batch_size=40)
    whole = certify(vlm, pictures, plan, epsilon=0.1, batch_size=40)
    assert whole.estimate > short.estimate
    assert (short.holds, whole.holds) == (True, False)
    assert (short.max_new_tokens, whole.max_new_tokens) == (8, 64)
    assert short.sentence().startswith("disagreement of answers up to 8 tokens <= ")
    assert whole.sentence().startswith("disagreement of answers up to 64 tokens <= ")
    assert "reach 8 tokens, and nothing is said about what follows" in short.sentence()


GENERATING = (
    *(vb.answer, vb.certify, vb.certify_both, vb.compare, vb.choose_plan, vb.search),
    *(answer_batch, paired_answers, FullAnswers, FullAnswers.ask, tuned_path, run_method),
    *(reproduce, DemoSize),
)


@pytest.mark.parametrize("verb", GENERATING, ids=lambda verb: verb.__qualname__)
def test_every_verb_that_generates_has_the_same_length(verb):
    assert inspect.signature(verb).parameters["max_new_tokens"].default == MAX_NEW_TOKENS == 64


@pytest.mark.parametrize(
    "command", ["certify", "compare", "plan", "search", "method", "reproduce", "demo"]
)
def test_every_command_that_generates_has_the_option(command):
    assert inspect.signature(find_function(command)).parameters["max_new_tokens"].default == 64


def test_the_length_has_one_default():
    """No module of the package states a length of its own."""
    for path in python_files("vlm_bridge"):
        for node in ast.walk(parse(path)):
            arguments = getattr(node, "args", None)
            if isinstance(node, ast.FunctionDef) and isinstance(arguments, ast.arguments):
                for name, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
                    if name.arg == "max_new_tokens" and isinstance(value, ast.Constant):
                        assert value.value in (1, None), f"{path}: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("length", [0, -1, 2.0, True])
def test_a_length_below_one_is_refused(items, length):
    vlm = tiny_llava()
    for run in (
        lambda: certify(vlm, items, PLAN, max_new_tokens=length),
        lambda: FullAnswers.ask(vlm, items, max_new_tokens=length),
    ):
        with pytest.raises(BridgeError, match="max_new_tokens"):
            run()


def ending_at(vlm, items, position):
    """Make `<eos>` of the id that most answers have at a position."""
    batch = next(batches(vlm, items, batch_size=len(items)))
    made = vlm.model.generate(**batch.inputs, do_sample=False, max_new_tokens=8)
    new = made[:, batch.inputs["input_ids"].shape[1] :]
    end = int(new[:, position].mode().values)
    vlm.model.generation_config.eos_token_id = [1, end]
    return batch, new, end


def test_answers_that_reach_the_limit_are_counted(items):
    vlm = tiny_llava()
    batch, new, end = ending_at(vlm, items, 3)
    cut = answer_batch(vlm, batch, max_new_tokens=8).at_limit
    assert cut == tuple(end not in row and 1 not in row for row in new.tolist())
    assert 0 < sum(cut) < len(cut)
    longer = answer_batch(vlm, batch, max_new_tokens=12).at_limit
    assert all(short or not long for short, long in zip(cut, longer, strict=True))
    full = FullAnswers.ask(vlm, items, max_new_tokens=8)
    share = sum(cut) / len(cut)
    for outcomes in (
        full.outcomes(vlm, PLAN),
        full.outcomes(vlm, SkipPlan("block", 4)),
        paired_outcomes(vlm, items, PLAN, max_new_tokens=8),
    ):
        assert (outcomes.share_at_limit, outcomes.max_new_tokens) == (pytest.approx(share), 8)
    compared = compare(vlm, items, PLAN, max_new_tokens=8)
    assert compared.share_at_limit == pytest.approx(share)
    assert f"{100 * share:.3g} % of the full model's answers reach 8 tokens" in compared.sentence()
    for certificate in certify_both(vlm, items, PLAN, max_new_tokens=8):
        assert certificate.share_at_limit == pytest.approx(share)
        assert "nothing is said about what follows" in certificate.sentence()


def test_answers_that_end_are_whole(items):
    vlm = tiny_llava()
    vlm.model.generation_config.eos_token_id = list(range(len(vlm.processor.tokenizer)))
    compared = compare(vlm, items, PLAN)
    assert compared.share_at_limit == 0.0
    assert "follows" not in compared.sentence()
    assert "follows" not in certify(vlm, items, PLAN).sentence()


@pytest.mark.parametrize(("cut", "said"), [(2, False), (3, True)])
def test_one_in_a_hundred_is_the_threshold(cut, said):
    asked = [item("yes", cluster=str(i)) for i in range(200)]
    outcomes = Outcomes.of_words(
        asked, ["a"] * 200, ["a"] * 200, at_limit=[i < cut for i in range(200)], max_new_tokens=64
    )
    sentence = certificate_of(PLAN, outcomes, epsilon=0.02, delta=0.05).sentence()
    assert ("nothing is said about what follows" in sentence) is said


@pytest.mark.parametrize(("questions", "said"), [((2, 2, 2), False), ((1, 3, 2), True)])
def test_images_with_several_questions_count_once(questions, said):
    """All answers about one image of three change: half of the answers, a third by image."""
    asked = [item("a", cluster=str(i)) for i, n in enumerate(questions) for _ in range(n)]
    changed = ["b" if each.cluster == "1" else "a" for each in asked]
    outcomes = Outcomes.of_words(asked, ["a"] * len(asked), changed, max_new_tokens=64)
    certificate = certificate_of(PLAN, outcomes, epsilon=0.9, delta=0.05)
    assert certificate.estimate == pytest.approx(1 / 3)
    assert ("every image counts once, however many questions" in certificate.sentence()) is said


def test_a_certificate_says_how_large_a_unit_of_shared_images_is():
    """All four answers about one image change; they are one of three units."""
    hub, *others = [np.full((2, 2, 3), each, np.uint8) for each in range(9)]
    shared = [Item.of(hub, other, "which?") for other in others[:4]]
    asked = link_units([*shared, Item.of(*others[4:6], "which?"), Item.of(*others[6:], "which?")])
    outcomes = Outcomes.of_words(asked, ["a"] * 6, ["b"] * 4 + ["a"] * 2, max_new_tokens=64)
    sentence = certificate_of(PLAN, outcomes, epsilon=0.9, delta=0.05).sentence()
    assert "of 3 units the largest holds 4 of 6 questions" in sentence
    assert "every image counts once" not in sentence


def test_a_first_token_is_called_one(items):
    (swept,) = sweep(tiny_llava(), items, [PLAN])
    assert (swept.decision, swept.max_new_tokens) == ("first answer token", 1)
    assert swept.sentence().startswith("first answer tokens changed: ")
    outcomes = Outcomes.of_words([item("a", cluster=str(i)) for i in range(3)], "aaa", "aab")
    certificate = certificate_of(PLAN, outcomes, epsilon=0.9, delta=0.05)
    assert certificate.sentence().startswith("disagreement of first answer tokens <= ")


def test_two_tokens_of_one_text_are_two_answers(items, monkeypatch):
    """Parts of a character decode to the same text; they are not the same answer."""
    vlm, plan = tiny_llava(), SkipPlan("early_exit", 4, exit=0)
    (wanted,) = sweep(vlm, items, [plan])
    assert wanted.disagreement.value > 0
    monkeypatch.setattr("vlm_bridge.evaluate.sweep.words", lambda _, p: ["\ufffd"] * len(p))
    (found,) = sweep(vlm, items, [plan])
    assert found.disagreement == wanted.disagreement


def test_a_plan_says_for_which_length_it_was_chosen(items):
    vlm = tiny_llava()
    profile = vb.profile(vlm, items)
    chosen = choose_plan(vlm, profile, items, rule="shortgpt", max_new_tokens=2)
    assert chosen.provenance.max_new_tokens == 2
    assert json.loads(json.dumps(chosen.to_json()))["provenance"]["max_new_tokens"] == 2
    found = search(vlm, items[:3], items[3:], [PLAN], epsilon=0.9, max_new_tokens=3)
    assert found.plan.provenance.max_new_tokens == 3


# --- the normaliser ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "label"),
    [
        *[("Black.", "black"), ("yes.", "yes"), ("red", "red."), ("A dog", "dog")],
        *[("caf\u00e9", "cafe\u0301"), ("Stra\u00dfe", "STRASSE"), ("the  red\nball", "red ball")],
        *[("an apple", "The Apple!"), ("'yes'", "yes"), ('"Yes."', "yes"), ("(B)", "b")],
        *[("\uff12", "2"), ("\ufb01re", "fire"), ("yes,", "YES"), ("\u201cno\u201d", "no")],
        *[("on the table", "on a table"), ("5.", "5"), ("don\u2019t", "don't")],
        *[("y\u200bes\ufeff", "yes"), ("\u2018no\u2019", "no"), ("\ufeffthe dog", "dog")],
    ],
)
def test_spellings_of_a_right_answer(said, label):
    assert is_correct(said, item(label))
    assert is_correct(label, item(said))


@pytest.mark.parametrize(
    ("said", "label"),
    [
        *[("The answer is yes", "yes"), ("no", "yes"), ("-5", "5"), (".5", "5"), ("C++", "C")],
        *[("vitamin A", "vitamin"), ("A B", "B"), ("A", "B"), ("5%", "5"), ("$5", "5")],
        *[("", "yes"), ("not red", "red"), ("anred", "red"), ("theory", "ory"), ("C#", "C")],
    ],
)
def test_other_answers_stay_wrong(said, label):
    assert is_correct(said, item(label)) is False


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    assert normalise(once) == once
    assert bool(once) == bool(text.strip())
    for same in (text.upper(), f" {text} ", unicodedata.normalize("NFD", text)):
        if same.casefold() == text.casefold() or same.strip() == text.strip():
            assert normalise(same) == once


@pytest.mark.parametrize("blank", [None, "", " ", "\n"])
def test_a_blank_label_is_no_label(blank):
    assert is_correct("yes", item(blank)) is None
    assert item(blank).answer is None


def test_labels_in_two_spellings_are_one_answer():
    training = [item("Yes"), item("yes."), item("no"), item("a yes"), item("no"), item("no")]
    assert blind_answers(training[:5], training[:1]) == ["yes"]


def test_accuracy_is_of_the_labelled():
    asked = [item("yes", cluster="1"), item(None, cluster="2"), item("no", cluster="3")]
    scored = accuracy(["Yes.", "yes", "yes"], asked)
    assert (scored.value, scored.n) == (0.5, 2)


# --- one verdict ------------------------------------------------------------------------------


def made(rng, n_images, per_image, *, labelled=1.0):
    """Outcomes with some changed answers, some of them harmed, some mended, some unlabelled."""
    n = n_images * per_image
    changed = rng.random(n) < 0.05
    asked = [
        item("yes" if rng.random() < labelled else None, cluster=str(i % n_images))
        for i in range(n)
    ]
    right = rng.random(n) < 0.6
    full = ["yes" if ok else "no" for ok in right]
    skipped = [
        ("no" if ok else rng.choice(["yes", "maybe"])) if moved else text
        for ok, moved, text in zip(right, changed, full, strict=True)
    ]
    return Outcomes.of_words(asked, full, skipped, max_new_tokens=64)


METHODS = ("auto", "betting", "hoeffding", "hoeffding-bentkus", "label-free")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("labelled", [1.0, 0.7, 0.05])
@pytest.mark.parametrize("per_image", [1, 3])
def test_a_drop_is_never_bounded_above_the_disagreement(per_image, labelled, method):
    for seed in range(4):
        outcomes = made(np.random.default_rng(seed), 60, per_image, labelled=labelled)
        level = {"epsilon": 0.1, "delta": 0.05}
        plain = "auto" if method == "label-free" else method
        disagreement = certificate_of(PLAN, outcomes, method=plain, **level)
        drop = certificate_of(PLAN, outcomes, quantity="accuracy_drop", method=method, **level)
        assert drop.bound <= disagreement.bound
        assert drop.n_images == 60


def test_one_missing_label_is_counted_and_said(items):
    vlm = tiny_llava()
    some = [replace(items[0], answer=None), *items[1:]]
    disagreement, drop = certify_both(vlm, some, PLAN, max_new_tokens=2)
    assert drop.quantity == "accuracy_drop"
    assert (drop.n_images, drop.n_unlabelled) == (5, 1)
    assert "1 question without a label counts as lost if changed" in drop.sentence()
    assert "without a label" not in disagreement.sentence()
    assert drop.bound <= disagreement.bound
    compared = compare(vlm, some, PLAN, max_new_tokens=2)
    assert compared.n_unlabelled == 1
    assert compared.accuracy_full is not None
    assert compared.accuracy_full.n == len({i.cluster for i in some[1:]})
    none = compare(vlm, [replace(i, answer=None) for i in items], PLAN, max_new_tokens=2)
    assert (none.accuracy_full, none.drop, none.n_unlabelled) == (None, None, 9)


def test_batches_without_labels_join_batches_with_them():
    parts = [
        Outcomes.of_words([item(None, cluster="1")], ["a"], ["b"]),
        Outcomes.of_words([item("a", cluster="2")], ["a"], ["b"]),
    ]
    joined = Outcomes.join(parts)
    assert joined.correct_full == (None, 1.0)
    assert (joined.n_unlabelled, joined.drop) == (1, [1.0, 1.0])
    labelled = joined.labelled
    assert labelled is not None
    assert (labelled.clusters, labelled.drop) == (["2"], [1.0])
    with pytest.raises(BridgeError, match="cannot be joined"):
        Outcomes.join([parts[0], replace(parts[1], max_new_tokens=8)])


@pytest.mark.parametrize(("n", "possible"), [(148, False), (149, True)])
def test_reach_is_the_bound_without_failures(n, possible):
    found = reach([item(None, cluster=str(i)) for i in range(n)], epsilon=0.02, delta=0.05)
    assert found.best == pytest.approx(zero_failure_bound(n, 0.05))
    assert (found.possible, found.n_images) == (possible, n)
    if not possible:
        assert found.n_needed == 149
        assert "epsilon 0.02 is out of reach, it needs at least 149 images" in found.sentence()


@pytest.mark.parametrize("method", ["auto", "betting", "hoeffding", "empirical-bernstein", "harm"])
def test_no_certificate_is_below_its_reach(method):
    asked = [item("yes", cluster=str(i // 2)) for i in range(80)]
    outcomes = Outcomes.of_words(asked, ["yes"] * 80, ["yes"] * 80)
    quantity = "accuracy_drop" if method == "harm" else "disagreement"
    found = reach(asked, epsilon=0.02, delta=0.05, method=method)
    level = {"epsilon": 0.02, "delta": 0.05, "method": method, "quantity": quantity}
    assert certificate_of(PLAN, outcomes, **level).bound == pytest.approx(found.best)
    more = [item("yes", cluster=str(i)) for i in range(found.n_needed or 0)]
    assert reach(more, epsilon=0.02, delta=0.05, method=method).possible


def test_reach_is_said_before_the_model_runs(items, caplog, monkeypatch):
    vlm = tiny_llava()
    monkeypatch.setattr(vlm.model, "forward", lambda *_, **__: pytest.fail("the model ran"))
    monkeypatch.setattr("vlm_bridge.evaluate.paired.answer_batch", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.INFO, "vlm_bridge"), pytest.raises(ZeroDivisionError):
        certify(vlm, items, PLAN, epsilon=0.02)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "5 images: epsilon" in record.message
    assert "out of reach" in record.message


def test_what_a_failure_would_take_holds_then():
    asked = [item(None, cluster=str(i)) for i in range(200)]
    failed = certificate_of(
        PLAN,
        Outcomes.of_words(asked, ["a"] * 200, ["b"] * 2 + ["a"] * 198),
        epsilon=0.02,
        delta=0.05,
    )
    assert not failed.holds
    words = what_it_takes(failed)
    n = int(words.split("about ")[1].split(" images")[0].replace(",", ""))
    changed = math.floor(n * failed.estimate)
    asked = [item(None, cluster=str(i)) for i in range(n)]
    again = Outcomes.of_words(asked, ["a"] * n, ["b"] * changed + ["a"] * (n - changed))
    assert certificate_of(PLAN, again, epsilon=0.02, delta=0.05).holds


def test_one_image_has_no_interval(items):
    one = [i for i in items if i.cluster == items[-1].cluster]
    vlm = tiny_llava()
    for run in (lambda: compare(vlm, one, PLAN), lambda: sweep(vlm, one, [PLAN])):
        with pytest.raises(BridgeError, match="needs at least 2 images, got 1"):
            run()
