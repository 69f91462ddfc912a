"""Certificates of a model per group, of several risks, and growing by images, with a ledger."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import vlm_bridge as vb
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import tiny_llava
from theory import certify_mean
from vlm_bridge.cli.joint import growing as grow
from vlm_bridge.cli.joint import read_limits
from vlm_bridge.cli.replacing import held_in
from vlm_bridge.data import Item, items_hash, link_units
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import growing
from vlm_bridge.evaluate.certify import certify
from vlm_bridge.evaluate.from_outcomes import HAND_MADE
from vlm_bridge.evaluate.growing import GrowingCertificate, certify_anytime
from vlm_bridge.evaluate.joint import GROUPINGS, certify_groups, certify_risks
from vlm_bridge.evaluate.of_plan import GroupsOfPlan, RisksOfPlan
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.paired import paired_outcomes
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger

PLAN = SkipPlan("block", 4, layers=(0, 1))
SHORT = {"max_new_tokens": 2}
LIMITS = {"disagreement": 0.5, "accuracy_drop": 0.5, "length_change": 0.5}


def back(record):
    return type(record).from_json(json.loads(json.dumps(record.to_json())))


# --- groups and risks -----------------------------------------------------------------------


def test_groups_are_those_of_the_questions(items):
    vlm = tiny_llava()
    made = certify_groups(vlm, items, PLAN, epsilon=0.5, delta=0.06, **SHORT)
    assert set(made.certificates) == {"is there", "what is", "is the"}
    outcomes = paired_outcomes(vlm, items, PLAN, **SHORT)
    assert any(outcomes.disagree)
    for name, certificate in made.certificates.items():
        chosen = [n for n, item in enumerate(items) if GROUPINGS["opening"](item) == name]
        alone = certify_mean(
            [outcomes.disagree[n] for n in chosen],
            [outcomes.clusters[n] for n in chosen],
            quantity="disagreement",
            epsilon=0.5,
            delta=0.02,
        )
        assert (certificate.bound, certificate.n_images) == (alone.bound, alone.n_images)
        assert certificate.plan_hash == PLAN.hash()
    assert made.smallest == "is the"
    by_text = certify_groups(vlm, items, PLAN, lambda item: item.answer or "", **SHORT)
    assert set(by_text.certificates) == {"yes", "no", "circle"}
    with pytest.raises(BridgeError, match="unknown grouping 'openin'; did you mean opening"):
        certify_groups(vlm, items, PLAN, "openin")


def test_a_group_has_the_certificate_of_its_questions_alone(items):
    vlm = tiny_llava()
    made = certify_groups(vlm, items, PLAN, epsilon=0.5, delta=0.06, **SHORT)
    assert made.data_hash == items_hash(items)
    for name, certificate in made.certificates.items():
        chosen = [item for item in items if GROUPINGS["opening"](item) == name]
        assert certificate == certify(vlm, chosen, PLAN, epsilon=0.5, delta=0.02, **SHORT)
    assert back(made) == made


def test_a_joint_certificate_says_whose_it_is(items, tmp_path):
    vlm, ledger = tiny_llava(), Ledger(tmp_path / "ledger.jsonl", delta=0.09)
    groups = certify_groups(vlm, items, PLAN, delta=0.03, **SHORT)
    risks = certify_risks(vlm, items, PLAN, LIMITS, delta=0.03, **SHORT)
    assert back(risks) == risks
    for each in (risks, *groups.certificates.values()):
        assert (each.model, each.fingerprint) == (vlm.name, vlm.fingerprint)
        assert (each.plan_hash, each.max_new_tokens) == (PLAN.hash(), 2)
    assert risks.data_hash == items_hash(items)
    for made in (groups, risks):
        assert "answers up to 2 tokens were compared" in made.sentence()
        assert made.sentence().count(HAND_MADE) == 1
        assert "were not used before" in made.sentence().rsplit(";", 1)[1]
    options = {"delta": 0.03, "ledger": ledger, **SHORT}
    before = 0.0
    for made in (
        certify_groups(vlm, items, PLAN, **options),
        certify_risks(vlm, items, PLAN, LIMITS, **options),
    ):
        said = f"delta 0.03 of 0.09 is spent here on this data and {before:g} before"
        assert said in made.sentence()
        assert made.sentence().endswith("assuming no use outside it")
        assert "not used before" not in made.sentence()
        before += 0.03


def test_risks_say_what_of_the_answers_is_open(items):
    risks = certify_risks(tiny_llava(), items, PLAN, LIMITS, delta=0.03, **SHORT)
    some = replace(risks, n_unlabelled=3, share_at_limit=0.5)
    assert "questions without a label (3) count as lost if changed" in some.sentence()
    assert "; 50 % of the full model's answers reach 2 tokens, and nothing" in some.sentence()
    label_free = replace(some, limits={"disagreement": 0.5}, certified=())
    assert "without a label" not in label_free.sentence()


def test_risks_are_those_of_the_outcomes(items):
    vlm = tiny_llava()
    made = certify_risks(vlm, items, PLAN, LIMITS, delta=0.05, **SHORT)
    outcomes = paired_outcomes(vlm, items, PLAN, **SHORT)
    by_image: dict[str, list[float]] = {}
    for item, change in zip(outcomes.items, outcomes.length_change, strict=True):
        by_image.setdefault(item.cluster, []).append(change)
    means = [sum(values) / len(values) for values in by_image.values()]
    assert made.estimates["length_change"] == pytest.approx(sum(means) / len(means))
    assert list(made.limits) == list(LIMITS)
    with pytest.raises(BridgeError, match="unknown risk 'length'"):
        certify_risks(vlm, items, PLAN, {"length": 0.1})
    bare = [replace(item, answer=None) for item in items]
    with pytest.raises(BridgeError, match="an accuracy drop needs answers in the data"):
        certify_risks(vlm, bare, PLAN, LIMITS)
    with pytest.raises(BridgeError, match="unknown control 'hope'"):
        certify_risks(vlm, items, PLAN, LIMITS, control="hope", **SHORT)


@pytest.mark.parametrize(
    ("full", "skipped", "wanted"),
    [("", "", 0.0), ("abcd", "a", 0.75), ("a", "abcd", 0.75), ("ab", "xy", 0.0), ("a", "", 1.0)],
)
def test_a_change_in_length_is_a_share_of_the_longer_answer(full, skipped, wanted):
    outcomes = Outcomes.of_words([Item(None, "why?")], [full], [skipped])
    assert outcomes.length_change == (wanted,)


def test_the_ledger_is_charged_once_for_all_groups(items, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", delta=0.05)
    vlm = tiny_llava()
    made = certify_groups(vlm, items, PLAN, delta=0.03, ledger=ledger, **SHORT)
    assert made.delta == 0.03
    rest = certify_risks(vlm, items, PLAN, LIMITS, delta=0.03, ledger=ledger, **SHORT)
    assert rest.delta == 0.02
    with pytest.raises(BridgeError, match="leaves no delta"):
        certify_groups(vlm, items, PLAN, "question", delta=0.03, ledger=ledger, **SHORT)


# --- growing --------------------------------------------------------------------------------


def texts(n, start=0):
    return [Item(None, f"question number {k} ?") for k in range(start, start + n)]


@pytest.fixture
def answered(monkeypatch):
    """Both models' answers, made up: those to the questions in the returned set differ."""
    changed: set[str] = set()
    asked: list[str] = []

    def outcomes(vlm, items, plan, **sizes):
        asked.extend(item.question for item in items)
        skipped = ["b" if item.question in changed else "a" for item in items]
        return Outcomes.of_words(
            items, ["a"] * len(items), skipped, at_limit=[False] * len(items), max_new_tokens=2
        )

    monkeypatch.setattr(growing, "paired_outcomes", outcomes)
    return changed, asked


def test_it_stops_at_the_first_look_that_holds(answered):
    _, asked = answered
    made = certify_anytime(tiny_llava(), texts(400), PLAN, epsilon=0.02, look=10, **SHORT)
    assert made.certificate.holds
    assert made.certificate.n_images == len(asked) == 220  # 211 without a change, in tens
    assert made.certificate.method == "anytime"
    assert "220 texts, anytime" in made.certificate.sentence()
    assert len(made.identities) >= 400
    assert back(made) == made


def test_a_file_sorted_by_kind_is_not_asked_in_its_order(answered):
    """In the order of the file, 250 unchanged answers would certify .02 at a rate of .05."""
    changed, asked = answered
    changed.update(item.question for item in texts(25, start=250))
    made = certify_anytime(tiny_llava(), texts(500), PLAN, epsilon=0.02, **SHORT)
    assert not made.certificate.holds
    assert sorted(asked) == sorted(item.question for item in texts(500))
    late = [place for place, question in enumerate(asked) if question in changed]
    assert 200 < sum(late) / len(late) < 300  # 262 in the file's order; 249.5 +- 29 at random
    assert max(late) - min(late) > 300


def test_the_order_depends_on_the_identities_alone(answered):
    _, asked = answered
    options = {"look": 7, "epsilon": 0.001, **SHORT}
    certify_anytime(tiny_llava(), texts(60), PLAN, **options)
    first = list(asked)
    asked.clear()
    certify_anytime(tiny_llava(), texts(60)[::-1], PLAN, **options)
    assert asked == first
    asked.clear()
    certify_anytime(tiny_llava(), texts(80), PLAN, **options)
    assert [question for question in asked if question in set(first)] == first
    assert asked[:60] != first


def test_a_unit_that_was_counted_is_not_counted_again_under_another_name(answered):
    """More questions may join two units into one, whose name may be another."""

    def pair(name, *pictures):
        images = [np.full((2, 2, 3), each, np.uint8) for each in pictures]
        return link_units([Item.of(*images, name)])

    vlm, options = tiny_llava(), {"epsilon": 0.001, **SHORT}
    first = certify_anytime(vlm, [*pair("a", 1, 2), *pair("b", 3, 4)], PLAN, **options)
    for again in (pair("c", 0, 2), pair("d", 2), pair("e", 1, 9)):
        with pytest.raises(BridgeError, match=r"1 new .* share an image with questions"):
            certify_anytime(vlm, again, PLAN, earlier=first, **options)
    more = certify_anytime(vlm, pair("f", 5, 6), PLAN, earlier=first, **options)
    assert more.certificate.n_images == 3


def test_another_version_spends_again(answered, tmp_path, monkeypatch):
    """Two ways of looking at the same images may each be wrong with probability delta."""
    ledger = Ledger(tmp_path / "ledger.jsonl", delta=0.08)
    options = {"delta": 0.05, "ledger": ledger, **SHORT}
    with monkeypatch.context() as earlier:
        earlier.setattr(GrowingCertificate, "SCHEMA_VERSION", 1)
        first = certify_anytime(tiny_llava(), texts(60), PLAN, **options)
    second = certify_anytime(tiny_llava(), texts(60), PLAN, **options)
    assert (first.certificate.delta, second.certificate.delta) == (0.05, pytest.approx(0.03))


def test_more_images_continue_it_and_nothing_is_asked_twice(answered):
    changed, asked = answered
    changed.add("question number 3 ?")
    vlm, looks = tiny_llava(), []
    first = certify_anytime(vlm, texts(200), PLAN, look=100, keep=looks.append, **SHORT)
    assert not first.certificate.holds
    assert [look.certificate.n_images for look in looks] == [100, 200]
    second = certify_anytime(vlm, texts(600), PLAN, look=50, earlier=back(first), **SHORT)
    assert second.certificate.holds
    assert second.clusters[:200] == first.clusters
    assert len(asked) == len(set(asked)) == second.certificate.n_images > 250
    whole = certify_anytime(vlm, texts(len(asked)), PLAN, look=10**6, **SHORT)
    assert whole.certificate.bound == second.certificate.bound
    again = certify_anytime(vlm, texts(600), PLAN, earlier=second, **SHORT)
    assert again.certificate == second.certificate


def test_the_ledger_counts_it_once_with_all_of_its_images(answered, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", delta=0.08)
    vlm = tiny_llava()
    options = {"delta": 0.05, "ledger": ledger, **SHORT}
    first = certify_anytime(vlm, texts(60), PLAN, **options)
    second = certify_anytime(vlm, texts(120), PLAN, earlier=first, **options)
    assert first.certificate.delta == second.certificate.delta == 0.05
    late = texts(20, start=100)  # known to the ledger since the second call
    one = certify_groups(vlm, late, PLAN, delta=0.05, ledger=ledger, **SHORT)
    assert one.delta == pytest.approx(0.03)
    with pytest.raises(BridgeError, match="leaves no delta"):
        certify_groups(vlm, texts(5), PLAN, delta=0.05, ledger=ledger, **SHORT)


def test_a_certificate_that_grows_cannot_choose_among_its_images(answered, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", delta=0.05)
    vlm = tiny_llava()
    first = certify_anytime(vlm, texts(60), PLAN, ledger=ledger, **SHORT)
    assert certify_anytime(vlm, texts(60), PLAN, ledger=ledger, **SHORT) == first
    with pytest.raises(
        BridgeError, match="knows 10 more images of this certificate; it only grows"
    ):
        certify_anytime(vlm, texts(50, start=10), PLAN, ledger=ledger, **SHORT)


def test_images_of_others_are_not_added(answered, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", delta=0.08)
    vlm = tiny_llava()
    certify_groups(vlm, texts(10, start=500), PLAN, delta=0.05, ledger=ledger, **SHORT)
    options = {"delta": 0.05, "ledger": ledger, **SHORT}
    first = certify_anytime(vlm, texts(60), PLAN, **options)
    taken = [*texts(60), *texts(10, start=500)]
    with pytest.raises(BridgeError, match=r"leaves 0\.03 of 0\.08 for this data: .* new here"):
        certify_anytime(vlm, taken, PLAN, earlier=first, **options)


def test_what_does_not_continue_is_refused(answered):
    vlm = tiny_llava()
    first = certify_anytime(vlm, texts(10), PLAN, **SHORT)
    other = SkipPlan("block", 4, layers=(2,))
    cases = {
        "is of another plan": {"plan": other},
        "is of another longest answer": {"max_new_tokens": 3},
        "has delta 0.05, not 0.1": {"delta": 0.1},
        "look must be a whole number": {"look": 0},
    }
    for message, changes in cases.items():
        options = {"vlm": vlm, "items": texts(20), "plan": PLAN, "earlier": first, **SHORT}
        with pytest.raises(BridgeError, match=message):
            certify_anytime(**{**options, **changes})
    with pytest.raises(ValueError, match="2 images have 10 values"):
        replace(first, clusters=first.clusters[:2])


# --- the command ----------------------------------------------------------------------------


def test_an_earlier_version_is_refused_with_advice(folder, jsonl, tmp_path, capsys):
    out = tmp_path / "c.json"
    out.write_text('{"type": "GrowingCertificate", "schema_version": 1}')
    command = ("certify", folder, "block layers=0", "--data", jsonl, "--anytime", "--out", out)
    assert run(*command, "--no-ledger") == 2
    error = capsys.readouterr().err
    assert "has schema version 1; this code reads version 3; name another --out" in error


def test_the_command_takes_every_form(folder, jsonl, tmp_path, capsys):
    base = ("certify", folder, "block layers=0,1", "--data", jsonl, "--max-new-tokens", 2)
    base += ("--no-ledger", "--epsilon", "0.95")
    kinds = {
        "--per opening": GroupsOfPlan,
        "--risks disagreement=0.9,length_change=0.9": RisksOfPlan,
        "--anytime": GrowingCertificate,
    }
    held = {
        "--per": "certificates of groups",
        "--risks": "a certificate of risks",
        "--anytime": "a growing certificate",
    }
    for number, (words, kind) in enumerate(kinds.items()):
        out = tmp_path / "out" / f"{number}.json"
        assert run(*base, *words.split(), "--out", out) == 0
        made = kind.from_json(json.loads(out.read_text()))
        assert held_in(out) == held[words.split()[0]]
        capsys.readouterr()
        assert run(*base, *words.split(), "--out", out, "--json", "--check") in (0, 1)
        assert kind.from_json(json.loads(capsys.readouterr().out)) == made


def test_data_that_a_growing_certificate_did_not_look_at_are_named(answered, tmp_path, capsys):
    vlm, out = tiny_llava(), tmp_path / "growing.json"
    out.write_text("")  # an empty file holds nothing to continue
    options = {"epsilon": 0.1, "delta": 0.05, **SHORT}
    _, held = grow(vlm, texts(120), PLAN, out, options)
    said = capsys.readouterr().out
    assert held
    assert "70 of 120 texts of --data were not looked at: the certificate held without" in said
    _, asked = answered
    before = len(asked)
    _, held = grow(vlm, texts(30, start=500), PLAN, out, options)
    assert held
    assert len(asked) == before
    said = capsys.readouterr().out
    assert "no new answer was looked at" in said
    assert f"is about the {before} texts of earlier commands; 30 of 30 texts of --data" in said
    assert "name another --out to certify on --data" in said
    looked_at = {item.cluster for item in texts(120)} & set(
        GrowingCertificate.from_json(json.loads(out.read_text())).clusters
    )
    grow(vlm, [item for item in texts(120) if item.cluster in looked_at], PLAN, out, options)
    assert "looked at" not in capsys.readouterr().out


def test_forms_that_do_not_go_together_are_refused(folder, jsonl, tmp_path, capsys):
    base = ("certify", folder, "block layers=0", "--data", jsonl, "--out", tmp_path / "o.json")
    cases = {
        "--per and --anytime do not go together": ("--per", "opening", "--anytime"),
        "leave --method out": ("--anytime", "--method", "betting"),
        "--risks takes each risk once": ("--risks", "disagreement=a"),
        "unknown risk 'pain'": ("--risks", "pain=0.1"),
        "unknown grouping 'kind'": ("--per", "kind"),
    }
    for message, words in cases.items():
        assert run(*base, *words) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize("words", ["", "a", "a=1,a=2", "a=", "=1,"])
def test_limits_in_words_are_whole(words):
    with pytest.raises(BridgeError, match="--risks takes each risk once"):
        read_limits(words)


def test_the_verbs_are_public():
    assert vb.certify_anytime is certify_anytime
    assert vb.certify_groups is certify_groups
    assert vb.certify_risks is certify_risks
