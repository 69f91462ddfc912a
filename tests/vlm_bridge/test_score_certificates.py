"""Certificates of the drop of a score in [0, 1]: their level, their words, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import vlm_bridge as vb
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import tiny_llava
from theory import Certificate
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.certify import certify, certify_both
from vlm_bridge.evaluate.from_outcomes import certificate_of
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.of_plan import ScoreCertificate, of_score
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.scorers import EXACT, find_scorer
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger

PLAN = SkipPlan("block", 4, layers=(1,))
SHORT = {"max_new_tokens": 4, "batch_size": 8}
DROP = {"quantity": "accuracy_drop", **SHORT}


def outcomes_of(rng: np.random.Generator, n: int, harmed: float) -> Outcomes:
    """Both questions of an image change together, with probability `harmed`; F1 then is 1/2."""
    changed = np.repeat(rng.random(n) < harmed, 2)
    items = [
        Item(None, f"question {i}?", "red car", cluster=f"image {i // 2}") for i in range(2 * n)
    ]
    skipped = ["red" if each else "red car" for each in changed]
    score = find_scorer("token-f1").score
    return Outcomes.of_words(items, ["red car"] * (2 * n), skipped, score, max_new_tokens=4)


#: F1 of "red" for "red car" is 2/3, so that the loss is 1/3 where an answer changes.
LOSS = 1 / 3


@pytest.mark.parametrize("method", ["auto", "hoeffding", "hoeffding-bentkus"])
def test_the_bound_of_a_soft_score_is_wrong_in_at_most_delta_of_the_samples(method):
    rng, delta, trials = np.random.default_rng(0), 0.1, 150
    by = "betting" if method == "auto" else method
    truth = 0.3 * LOSS
    wrong = sum(
        certificate_of(
            PLAN,
            outcomes_of(rng, 40, 0.3),
            epsilon=0.5,
            delta=delta,
            quantity="accuracy_drop",
            method=by,
            scorer=find_scorer("token-f1"),
        ).bound
        < truth
        for _ in range(trials)
    )
    assert wrong <= delta * trials + 3 * np.sqrt(delta * (1 - delta) * trials)


def test_the_simulation_notices_a_bound_that_forgets_the_images():
    """Planted fault: the mean itself as the bound is wrong in about half of the samples."""
    rng, trials = np.random.default_rng(0), 150
    wrong = sum(np.mean(outcomes_of(rng, 40, 0.3).drop or []) < 0.3 * LOSS for _ in range(trials))
    assert wrong > 0.1 * trials + 3 * np.sqrt(0.09 * trials)


def test_a_soft_score_is_certified_where_accuracy_is_not():
    """Half of a right answer is half a loss: 10 % changed lose 3.3 % of the score."""
    made = outcomes_of(np.random.default_rng(0), 400, 0.1)
    level = {"epsilon": 0.1, "delta": 0.05, "quantity": "accuracy_drop", "method": "betting"}
    soft = certificate_of(PLAN, made, **level, scorer=find_scorer("token-f1"))
    assert soft.holds
    assert soft.estimate == pytest.approx(np.mean(made.drop))
    hard = Outcomes.of_words(
        made.items, ["red car"] * 800, ["red" if d else "red car" for d in made.disagree]
    )
    assert not certificate_of(PLAN, hard, **level).holds


def test_a_certificate_of_a_score_says_whose(items):
    vlm = tiny_llava()
    made = certify(vlm, items, PLAN, epsilon=0.9, scorer="token-f1", **DROP)
    assert isinstance(made, ScoreCertificate)
    assert (made.scorer, made.method, made.quantity) == ("token-f1", "betting", "accuracy_drop")
    assert made.sentence().startswith("drop of the score token-f1 of answers up to 4 tokens <= ")
    assert any("F1 of the words" in each for each in made.checked)
    assert ScoreCertificate.from_json(json.loads(made.dumps())) == made
    assert (made.model, made.fingerprint) == (vlm.name, vlm.fingerprint)


def test_a_score_needs_no_quantity(items):
    """A named score is of the drop; without one the certificate is of the disagreement."""
    wanted = {"epsilon": 0.9, **SHORT}
    made = certify(tiny_llava(), items, PLAN, scorer="token-f1", **wanted)
    assert made == certify(
        tiny_llava(), items, PLAN, scorer="token-f1", quantity="accuracy_drop", **wanted
    )
    assert made.scorer == "token-f1"
    for scorer in ("exact", EXACT):
        plain = certify(tiny_llava(), items, PLAN, scorer=scorer, **wanted)
        assert plain.quantity == "disagreement"


def test_accuracy_keeps_its_certificate(items):
    plain = certify(tiny_llava(), items, PLAN, epsilon=0.9, **DROP)
    named = certify(tiny_llava(), items, PLAN, epsilon=0.9, scorer="exact", **DROP)
    assert type(named) is Certificate
    assert plain == named
    assert plain.sentence().startswith("accuracy drop of answers up to 4 tokens <= ")


def test_full_answers_are_scored_as_questions_are(items):
    vlm = tiny_llava()
    full = FullAnswers.ask(vlm, items, **SHORT)
    shared = certify(
        vlm, full, PLAN, epsilon=0.9, quantity="accuracy_drop", scorer="token-f1", batch_size=8
    )
    assert shared == certify(vlm, items, PLAN, epsilon=0.9, scorer="token-f1", **DROP)


def test_both_certificates_with_a_score(items, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    level = {"epsilon": 0.9, "delta": 0.02, **SHORT}
    changed, lost = certify_both(tiny_llava(), items, PLAN, ledger=ledger, scorer=nearly, **level)
    assert (changed.quantity, lost.quantity) == ("disagreement", "accuracy_drop")
    assert type(changed) is Certificate
    assert lost.scorer.endswith(":nearly")
    again, _ = certify_both(tiny_llava(), items, PLAN, ledger=ledger, scorer=nearly, **level)
    assert again.bound == changed.bound  # the same run costs nothing
    with pytest.raises(BridgeError, match="delta"):  # another score is another look
        certify_both(tiny_llava(), items, PLAN, ledger=ledger, scorer="token-f1", **level)


def test_another_score_on_the_same_images_spends_delta_anew(items, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", delta=0.05)
    level = {"epsilon": 0.9, "delta": 0.05, **DROP}
    first = certify(tiny_llava(), items, PLAN, ledger=ledger, scorer="token-f1", **level)
    same = certify(tiny_llava(), items, PLAN, ledger=ledger, scorer="token-f1", **level)
    assert same.bound == first.bound
    with pytest.raises(BridgeError, match="delta"):
        certify(tiny_llava(), items, PLAN, ledger=ledger, scorer="rouge-l", **level)


def nearly(item: Item, text: str) -> float:
    return 1.0 / (1 + len(text))


def test_a_function_needs_no_labels(items):
    bare = [Item(item.image, item.question) for item in items]
    made = certify(tiny_llava(), bare, PLAN, epsilon=0.9, scorer=nearly, **DROP)
    assert isinstance(made, ScoreCertificate)
    with pytest.raises(BridgeError, match="an accuracy drop needs answers in the data"):
        certify(tiny_llava(), bare, PLAN, epsilon=0.9, scorer="token-f1", **DROP)


def test_without_labels_the_disagreement_bounds_every_score(items):
    made = certify(
        tiny_llava(), items, PLAN, epsilon=0.9, scorer="anls", method="label-free", **DROP
    )
    changed = certify(tiny_llava(), items, PLAN, epsilon=0.9, **SHORT)
    assert made.label_free
    assert made.bound == changed.bound
    assert "drop of the score anls" in made.sentence()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scorer": "cider"}, "the score cider of an answer depends on the other questions"),
        ({"scorer": "bleu"}, "bleu is a score of a whole corpus"),
        ({"scorer": "anls", "method": "harm"}, "harm counts answers that are right or wrong"),
        ({"scorer": "anls", "quantity": "disagreement"}, "the score anls is of an accuracy_drop"),
        ({"scorer": "vqa"}, "vqa compares with the answers of several people"),
    ],
)
def test_no_answer_is_looked_at_for_what_has_no_certificate(given, message, items, monkeypatch):
    monkeypatch.setattr("vlm_bridge.evaluate.paired.answer_batch", lambda *_, **__: 1 / 0)
    with pytest.raises(BridgeError, match=message):
        certify(tiny_llava(), items, PLAN, epsilon=0.9, **{**DROP, **given})


def test_a_score_certificate_names_its_score():
    plain = Certificate("accuracy_drop", 0.1, 0.05, 9, 0.05, True, 0.0, "betting", (), ())
    assert of_score(plain, EXACT) is plain
    with pytest.raises(ValueError, match="bounds the drop of a named score"):
        ScoreCertificate("accuracy_drop", 0.1, 0.05, 9, 0.05, True, 0.0, "betting", (), ())
    with pytest.raises(ValueError, match="got disagreement of 'anls'"):
        ScoreCertificate(
            *("disagreement", 0.1, 0.05, 9, 0.05, True, 0.0, "betting", (), ()), scorer="anls"
        )


def test_the_command_certifies_a_score(folder, jsonl, tmp_path, capsys):
    words = ("certify", folder, "block layers=1", "--data", jsonl, "--max-new-tokens", 4)
    out = ("--out", tmp_path / "out.json", "--no-ledger")
    assert run(*words, "--epsilon", 0.9, "--scorer", "token-f1", *out) == 0
    said = capsys.readouterr().out
    assert "disagreement of answers up to 4 tokens <= " in said
    assert "drop of the score token-f1 of answers up to 4 tokens <= " in said
    _, lost = json.loads((tmp_path / "out.json").read_text())
    assert ScoreCertificate.from_json(lost).scorer == "token-f1"
    assert run(*words, "--scorer", "cider", *out) == 2
    assert "the score cider of an answer depends on" in capsys.readouterr().err
    assert run(*words, "--scorer", "anls", "--scorer", "token-f1", *out) == 2
    said = capsys.readouterr().err
    assert "--scorer is given 2 times (anls, token-f1)" in said
    assert "run the command once for each, with another --out" in " ".join(said.split())
    other = ("--out", tmp_path / "groups.json", "--no-ledger")
    assert run(*words, "--scorer", "anls", "--per", "opening", *other) == 2
    assert "--per certifies no score but accuracy" in capsys.readouterr().err


def test_the_public_names():
    assert vb.find_scorer("exact") is EXACT
