"""Choosing, comparing and certifying a plan, on tiny models."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vlm_bridge.profiles import made_profile
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, with_other_inputs
from vlm_bridge.evaluate.certify import certify, certify_both
from vlm_bridge.evaluate.compare import Comparison, compare
from vlm_bridge.evaluate.from_outcomes import certificate_of
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.paired import paired_outcomes
from vlm_bridge.evaluate.reach import reach
from vlm_bridge.model.prompts import batch_places
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence, find_rule, nested_plans, score_units
from vlm_bridge.selection import modality_share, pareto_path, saving, tuned_path
from vlm_bridge.selection.choose import choose_plan
from vlm_bridge.skip import skipping


def test_skip_it_formula():
    made = made_profile(3, image=[0.5, 0.02, 0.08], tail=[1.0, 0, 0.25], text_var=[0.1, 0.2, 0.4])
    got = score_units(find_rule("skip-it"), Evidence(profile=made))
    np.testing.assert_allclose(got, [(1 + 2) * 0.6, 0.2 * 0.4, 0.0], rtol=1e-12)


def test_shortgpt_formula_weighs_tokens():
    made = made_profile(2, image=[0.4, 0.0], text=[0.0, 0.4])
    np.testing.assert_allclose(
        score_units(find_rule("shortgpt"), Evidence(profile=made)), [0.3, 0.1], rtol=1e-12
    )


@pytest.mark.parametrize("name", ["skip-it", "shortgpt"])
def test_nested_plans_grow_by_score(name):
    made = made_profile(image=[0.4, 0.1, 0.3, 0.2], text=[0.4, 0.1, 0.3, 0.2])
    rule = find_rule(name)
    plans = nested_plans(rule, Evidence(profile=made))
    order = np.argsort(score_units(rule, Evidence(profile=made)), kind="stable")
    for k, plan in enumerate(plans, start=1):
        assert set(plan.layers) == set(order[:k].tolist())
        assert plan.mode == rule.modes[0]
        assert plan.provenance.rule == name


def test_unknown_rule_is_named():
    with pytest.raises(
        BridgeError, match="unknown rule 'best'; choose from skip-it, skip-it-slopes, shortgpt"
    ):
        find_rule("best")


def redundant_llava(layers):
    """A model some of whose layers do nothing to anybody."""
    vlm = tiny_llava()
    with torch.no_grad():
        for index in layers:
            vlm.layout.layers[index].self_attn.o_proj.weight.zero_()
            vlm.layout.layers[index].mlp.down_proj.weight.zero_()
    return vlm


@pytest.mark.parametrize("rule", ["skip-it", "shortgpt"])
def test_layers_that_do_nothing_are_found(items, rule):
    vlm = redundant_llava([1, 2])
    plan = choose_plan(vlm, profile(vlm, items), items, rule=rule, epsilon=0.02, max_new_tokens=8)
    if rule == "skip-it":  # the last layer's vision is never read: freezing it is free too
        assert set(plan.layers) >= {1, 2, 3}
    else:
        assert set(plan.layers) == {1, 2}
    assert plan.provenance.settings["tried"][-1]["rate"] == 0
    assert compare(vlm, items, plan, max_new_tokens=8).disagreement.value == 0


def test_nothing_is_skipped_where_nothing_is_redundant(items):
    vlm = tiny_llava()
    plan = choose_plan(
        vlm, profile(vlm, items), items, rule="shortgpt", epsilon=0.02, max_new_tokens=8
    )
    assert plan.is_empty
    assert len(plan.provenance.settings["tried"]) == 4


@pytest.mark.slow
def test_the_order_of_images_does_not_change_the_choice(items):
    vlm = redundant_llava([1])
    found = profile(vlm, items)
    plans = [
        choose_plan(
            vlm, found, asked, rule="shortgpt", epsilon=epsilon, batch_size=size, max_new_tokens=8
        )
        for epsilon in (0.02, 0.5, 0.9)
        for asked, size in ((items, 1), (items[::-1], 2), (items, 9))
    ]
    for alike in (plans[:3], plans[3:6], plans[6:]):
        assert len(set(alike)) == 1
    # The plain reading of the definition: every candidate on every item, no early end.
    for epsilon, plan in ((0.02, plans[0]), (0.5, plans[3]), (0.9, plans[6])):
        fits = [
            p
            for p in nested_plans(find_rule("shortgpt"), Evidence(profile=found))
            if compare(vlm, items, p, max_new_tokens=8).disagreement.value <= epsilon / 2
        ]
        assert plan == fits[-1]


def test_choose_refuses_bad_input(items):
    vlm = tiny_llava()
    with pytest.raises(BridgeError, match="1 full answers for 9 questions"):
        choose_plan(vlm, made_profile(image=[0.1] * 4), items, full=["yes"], max_new_tokens=8)
    with pytest.raises(BridgeError, match="epsilon must lie between 0 and 1, got 2"):
        choose_plan(vlm, made_profile(image=[0.1] * 4), items, epsilon=2, max_new_tokens=8)
    with pytest.raises(BridgeError, match="the profile has 3 layers, the model 4"):
        choose_plan(vlm, made_profile(3, image=[0.1] * 3), items, max_new_tokens=8)


def test_compare_pairs_both_models(items):
    vlm, plan = tiny_llava(), SkipPlan("early_exit", 4, exit=0)
    full = answer(vlm, items, max_new_tokens=8)
    with skipping(vlm, plan, fast=False):
        skipped = answer(vlm, items, max_new_tokens=8)
    outcomes = paired_outcomes(vlm, items, plan, batch_size=4, max_new_tokens=8)
    at = {id(item): place for place, item in enumerate(items)}
    for item, changed in zip(outcomes.items, outcomes.disagree, strict=True):
        assert changed == (full[at[id(item)]] != skipped[at[id(item)]])
    assert 0 < sum(outcomes.disagree)
    assert all(k > 0 for k in outcomes.kl_full_skipped)
    found = compare(vlm, items, plan, batch_size=4, max_new_tokens=8)
    assert found.n_images == 5
    assert found.n_questions == 9
    low, high = found.disagreement.interval
    assert low <= found.disagreement.value <= high


def test_drop_is_full_minus_skipped():
    made = [Item("x.png", "?", "a", str(n)) for n in range(3)]  # type: ignore[arg-type]
    even = torch.full((3, 2), 0.5).log()
    sure = torch.tensor([[0.75, 0.25]] * 3).log()
    outcomes = Outcomes.of(made, (["a", "a", "b"], even), (["b", "a", "a"], sure))
    assert outcomes.drop == [1, 0, -1]
    assert outcomes.disagree == (1, 0, 1)
    np.testing.assert_allclose(outcomes.kl_full_skipped, np.log(4 / 3) / 2, rtol=1e-5)
    np.testing.assert_allclose(outcomes.kl_skipped_full, np.log(27 / 16) / 4, rtol=1e-5)


def test_answers_do_not_depend_on_the_batch(items):
    vlm = tiny_llava()
    assert answer(vlm, items, batch_size=1, max_new_tokens=8) == answer(
        vlm, items, batch_size=9, max_new_tokens=8
    )


def test_certificates(items):
    vlm, plan = tiny_llava(), SkipPlan("early_exit", 4, exit=4)
    certificate = certify(vlm, items, plan, epsilon=0.5, delta=0.05, max_new_tokens=8)
    assert certificate.estimate == 0
    assert certificate.n_images == 5
    assert certificate.holds == (certificate.bound <= 0.5)
    assert certificate.plan_hash == plan.hash()
    bad = SkipPlan("early_exit", 4, exit=0)
    assert not certify(vlm, items, bad, epsilon=0.5, max_new_tokens=8).holds
    outcomes = paired_outcomes(vlm, items, bad, max_new_tokens=8)
    drop = certificate_of(bad, outcomes, epsilon=0.5, delta=0.05, quantity="accuracy_drop")
    assert drop.quantity == "accuracy_drop"
    with pytest.raises(BridgeError, match="unknown quantity 'loss'"):
        certificate_of(bad, outcomes, epsilon=0.5, delta=0.05, quantity="loss")
    unlabelled = paired_outcomes(
        vlm, [replace(i, answer=None) for i in items], bad, max_new_tokens=8
    )
    with pytest.raises(BridgeError, match="needs answers in the data"):
        certificate_of(bad, unlabelled, epsilon=0.5, delta=0.05, quantity="accuracy_drop")
    free = certificate_of(
        bad,
        unlabelled,
        epsilon=0.5,
        delta=0.05,
        quantity="accuracy_drop",
        method="label-free",
    )
    first = certificate_of(bad, unlabelled, epsilon=0.5, delta=0.05)
    assert (free.quantity, free.label_free, free.bound) == ("accuracy_drop", True, first.bound)
    with pytest.raises(BridgeError, match="label-free bounds an accuracy_drop, not a disagreement"):
        certificate_of(bad, unlabelled, epsilon=0.5, delta=0.05, method="label-free")
    with pytest.raises(BridgeError, match="epsilon"):
        certificate_of(bad, outcomes, epsilon=7, delta=0.05)


@pytest.mark.parametrize(
    ("method", "methods"),
    [
        ("clopper-pearson", ("clopper-pearson", "harm")),
        ("hoeffding", ("hoeffding", "hoeffding")),
        ("harm", ("betting", "harm")),
        ("label-free", ("betting", "betting")),
    ],
)
def test_both_certificates_take_the_methods_they_can(items, method, methods):
    made = certify_both(
        redundant_llava([1]),
        items,
        SkipPlan("block", 4, layers=(1,)),
        method=method,
        max_new_tokens=8,
    )
    assert tuple(one.method for one in made) == methods
    assert [one.label_free for one in made] == [False, method == "label-free"]


@pytest.mark.parametrize("size", [1, 4])
def test_a_limit_counts_images_not_questions(items, size):
    """Questions stop being asked at the first batch after which the mean must exceed the limit."""
    vlm, plan = tiny_llava(), SkipPlan("early_exit", 4, exit=0)
    full = FullAnswers.ask(vlm, items, batch_size=size, max_new_tokens=8)
    whole = full.outcomes(vlm, plan, batch_size=size)
    asked = Counter(item.cluster for item in whole.items)
    sizes = [len(places) for places in batch_places(whole.items, size)]
    seen = set()
    for limit in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8):
        total, done = 0.0, 0
        for count in sizes:
            for item, changed in list(zip(whole.items, whole.disagree, strict=True))[done:][:count]:
                total += changed / asked[item.cluster]
            done += count
            if total / len(asked) > limit:
                break
        found = full.outcomes(vlm, plan, batch_size=size, limit=limit)
        assert found.items == whole.items[:done]
        assert found.disagree == whole.disagree[:done]
        seen.add(done)
    assert len(seen) > 1


def test_a_tuned_path_is_the_path_of_measured_rates(items):
    """Plans that change some answers, but few enough, are on it; a plain reading of all rates."""
    vlm, epsilon = tiny_llava(), 0.9
    plans = [SkipPlan("early_exit", 4, exit=depth) for depth in (0, 1, 2, 3)]
    rates = [compare(vlm, items, plan, max_new_tokens=8).disagreement.value for plan in plans]
    savings = [saving(plan, modality=modality_share(vlm, items)) for plan in plans]
    wanted = pareto_path(plans, rates, savings, epsilon=epsilon)
    found = tuned_path(vlm, items, plans, epsilon=epsilon, batch_size=1, max_new_tokens=8)
    assert [(s.plan, s.saving) for s in found] == [(s.plan, s.saving) for s in wanted]
    assert [s.rate for s in found] == pytest.approx([s.rate for s in wanted])
    assert any(0 < step.rate for step in found)


def test_images_that_chose_a_plan_cannot_certify_it(items):
    vlm = redundant_llava([1])
    plan = choose_plan(vlm, profile(vlm, items), items, max_new_tokens=8)
    with pytest.raises(BridgeError, match="2 of these images chose the plan"):
        certify(
            vlm,
            [item for item in items if item.image.name in ("1.png", "3.png")],
            plan,
            max_new_tokens=8,
        )


def test_blind_answers():
    def item(question, given):
        return Item("x.png", question, given)  # type: ignore[arg-type]

    training = [
        item("a", "yes"),
        item("a", "no"),
        item("a", "no"),
        item("b", "red"),
        item("c", "no"),
    ]
    asked = [item("a", "no"), item("b", "blue"), item("never", "no")]
    texts = blind_answers(training, asked)
    assert texts == ["no", "red", "no"]
    forms = [
        *(item("is it a cat ?", "yes"), item("is it a dog ?", "yes"), item("is it a cow ?", "no")),
        *(
            item("which is it, a cat or a dog ?", "cat"),
            item("which is it, a cow or a cat ?", "cat"),
        ),
        *(item("which is it, a dog or a cow ?", "dog"), item("x", "no"), item("y", "no")),
    ]
    new = [
        "is it a hen ?",
        "which is it, a hen or a dog ?",
        "which is it, a hen or an ox ?",
        "why ?",
    ]
    assert blind_answers(forms, [item(q, None) for q in new]) == ["yes", "dog", "cat", "no"]
    assert blind_answers([item("a", "b"), item("a", "a")], asked[:1]) == ["a"]
    scored = accuracy(texts, [replace(i, cluster=str(n)) for n, i in enumerate(asked)])
    assert scored.value == pytest.approx(2 / 3)
    with pytest.raises(BridgeError, match="training items with answers"):
        blind_answers([item("a", None)], asked)
    with pytest.raises(BridgeError, match="needs items with an answer; none of 1 has one"):
        accuracy(["x"], [item("a", None)])


def test_without_images_a_question_has_one_answer(items):
    vlm = tiny_llava()
    texts = answer(vlm, items, with_images=False, max_new_tokens=8)
    assert len({(i.question, t) for i, t in zip(items, texts, strict=True)}) == len(
        {i.question for i in items}
    )
    assert texts != answer(vlm, items, max_new_tokens=8)


@pytest.mark.parametrize("word", ["image", "recording", "text"])
def test_sentences_name_what_the_questions_are_about(word, tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    files = {"image": {"image": tmp_path / "a"}, "recording": {"audio": tmp_path / "a"}, "text": {}}
    items = [
        Item(**({"image": None} | files[word]), question="why?", answer="so", cluster=str(n))
        for n in range(3)
    ]
    outcomes = Outcomes.of_words(items, ["so"] * 3, ["so", "so", "no"], max_new_tokens=4)
    plan = SkipPlan("block", 4, layers=(1,))
    certificate = certificate_of(plan, outcomes, epsilon=0.5, delta=0.05)
    assert f"(3 {word}s, " in certificate.sentence()
    assert f"these 3 {word}s were not used before" in certificate.assumed
    comparison = Comparison.of(plan, outcomes, "generated answer")
    assert f"100.00%, 3 {word}s)" in comparison.sentence()
    assert f", 3 {word}s)" in comparison.accuracy_sentence()
    assert reach(items).sentence().startswith(f"3 {word}s: ")
    assert reach(items).sentence().endswith(f"149 {word}s")


def test_other_inputs_are_those_of_other_units(tmp_path):
    def item(name, cluster, label):
        return Item(tmp_path / name, "what ?", label, cluster)

    items = [item("a", "1", "x"), item("a", "1", "y"), item("b", "2", "x"), item("c", "3", "z")]
    found = with_other_inputs(items)
    assert [one.image.name for one in found] == ["b", "b", "c", "a"]
    assert [one.cluster for one in found] == ["2", "2", "3", "1"]
    assert [one.answer for one in found] == ["x", "y", "x", "z"]
    for wrong in (items[:2], [Item(None, "why?"), Item(None, "how?")]):
        with pytest.raises(BridgeError, match="two images or recordings, in two units"):
            with_other_inputs(wrong)


def test_a_model_that_is_never_right_has_nothing_to_lose():
    items = [Item(None, f"why {n}?", "so") for n in range(30)]
    said = "the full model answers none of these questions as labelled, so it has no accuracy"
    level, plan = {"epsilon": 0.2, "delta": 0.05}, SkipPlan("block", 4, layers=(1,))
    for right, expected in (("no", True), ("so", False)):
        outcomes = Outcomes.of_words(items, [right, *["no"] * 29], ["no"] * 30)
        drop = certificate_of(plan, outcomes, quantity="accuracy_drop", **level)
        assert (said in drop.sentence()) == expected
    assert said not in certificate_of(plan, outcomes, **level).sentence()
