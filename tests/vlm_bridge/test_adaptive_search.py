"""Adaptive search: the thresholds that matter, the promise kept, end to end, by command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from theory import certify_mean
from vlm_bridge.data import image_ids
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import adaptive_cost
from vlm_bridge.evaluate.adaptive import adaptive_answers
from vlm_bridge.evaluate.adaptive_cost import gate_costs
from vlm_bridge.evaluate.adaptive_latency import StreamLatency, stream_latency
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection.adaptive import (
    CertifiedAdaptive,
    adaptive_search,
    pareto_front,
)
from vlm_bridge.selection.certified import of_sequence, until_one_fails
from vlm_bridge.selection.chains import find_chains
from vlm_bridge.selection.path import pareto_places
from vlm_bridge.selection.sureness import KnownAnswers, PlanAnswers, Sureness

PLANS = [SkipPlan("early_exit", 4, exit=3), SkipPlan("freeze", 4, layers=(2, 3))]
SHORT = {"max_new_tokens": 2}
EPSILON = 0.4

answers = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 2.0])), min_size=1)


def sureness(changed, signals):
    n = len(changed)
    return Sureness(np.array(changed, float), np.array(signals, float), list(map(str, range(n))))


@given(answers)
def test_no_other_threshold_is_better(drawn):
    """Every threshold at all is matched by a listed one: no more changed, no more fallback."""
    sure = sureness([c for c, _ in drawn], [s for _, s in drawn])

    def both(limit):
        stands = sure.stands(limit)
        return (sure.changed * stands).sum(), (~stands).sum()

    listed = [both(limit) for limit in sure.thresholds()]
    assert listed[-1][0] == 0
    assert all(a[0] > b[0] and a[1] < b[1] for a, b in pairwise(listed))
    for limit in (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 9.0, math.inf):
        changed, fallback = both(limit)
        assert any(c <= changed and f <= fallback for c, f in listed)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-0.5, 1)), max_size=20))
def test_the_front_is_what_nothing_beats(drawn):
    rates, savings = [r for r, _ in drawn], [s for _, s in drawn]
    front = pareto_front(rates, savings)
    assert all(savings[a] > savings[b] and rates[a] > rates[b] for a, b in pairwise(front))
    for i, (rate, saved) in enumerate(drawn):
        beaten = any(savings[j] >= saved and rates[j] <= rate for j in front)
        assert beaten or saved <= 0, i


def population(rng, n):
    """Signals 1 to 4; a threshold of 3 leaves changed answers at epsilon = .05, just above it."""
    signals = rng.integers(1, 5, n).astype(float)
    chance = {1.0: 0.1, 2.0: 0.06, 3.0: 0.04, 4.0: 4 * (0.05 + 1e-9)}
    changed = rng.random(n) < np.array([chance[s] for s in signals])
    return sureness(changed, signals)


def true_rate(threshold):
    """Of `population`."""
    chance = {1.0: 0.1, 2.0: 0.06, 3.0: 0.04, 4.0: 4 * (0.05 + 1e-9)}
    return sum(p / 4 for s, p in chance.items() if s > threshold)


def texts_of(sure):
    return tuple("other" if changed else "same" for changed in sure.changed)


def promise(seed, n=200):
    """Whether one user gets a certificate for a plan that breaks it; every plan does."""
    rng = np.random.default_rng(seed)
    tuning, images = population(rng, 60), population(rng, n)
    made = PlanAnswers(texts_of(tuning), (0,) * 60, {"margin": tuning.signals})
    known = KnownAnswers(("same",) * 60, tuple(tuning.clusters), {PLANS[0]: made})
    chains = find_chains(known, PLANS[:1], ["margin"], lambda _: (0.6, 0.4), gates=1)
    gates = [chain.plan for chain in chains]
    rates, savings = [c.changed for c in chains], [1 - c.cost for c in chains]
    path = pareto_places(rates, savings, epsilon=0.05, rungs=(0, 0.5, 1, 2, 4))

    def certify_one(plan):
        stands = images.stands(plan.gates[0].threshold)
        changed = images.changed * stands
        return certify_mean(
            changed, images.clusters, quantity="disagreement", epsilon=0.05, delta=0.05
        )

    certificates = until_one_fails([gates[i] for i in path], certify_one)
    certificate = of_sequence(certificates, len(path))
    return certificate is not None, any(true_rate(gates[i].gates[0].threshold) > 0.05 for i in path)


@pytest.mark.slow
def test_the_promise_is_kept_on_the_limit():
    """2,000 users for whom every certificate but that of the full model would be wrong."""
    assert true_rate(3.0) == pytest.approx(0.05, abs=1e-8)
    users = [promise(seed) for seed in range(2000)]
    tested = np.mean([tested for _, tested in users])
    wrong = np.mean([certified and tested for certified, tested in users])
    assert tested > 0.5  # otherwise nothing was at stake
    assert 0 < wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


# --- end to end ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def flops_of_two_questions():
    """Counting passes is most of the work of a tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptive_cost, "SAMPLED", 2)
        yield


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """20 tuning and 40 certification images."""
    items = asked_pictures(tmp_path_factory.mktemp("pictures"), 60)
    return items[:20], items[20:]


@pytest.fixture(scope="module")
def found(vlm, split):
    return adaptive_search(vlm, *split, PLANS, epsilon=EPSILON, **SHORT)


def test_a_search_certifies_what_it_measures(vlm, split, found):
    assert found.plan is not None
    assert found.certificate.holds
    assert found.certificate.bound == EPSILON
    assert found.certificate.plan_hash == found.plan.hash()
    assert set(found.plan.provenance.tuned) == set(image_ids(split[0]))
    assert set(found.plan.provenance.certified) == set(image_ids(split[1]))
    made = adaptive_answers(vlm, split[1], found.plan, **SHORT)
    full = answer(vlm, split[1], **SHORT)
    last = found.tested[sum(each.holds for each in found.certificates) - 1]
    changed = np.mean([a != b for a, b in zip(full, made.texts, strict=True)])
    assert last.changed.value == pytest.approx(changed)
    assert last.full.value == pytest.approx(np.mean(made.gates))
    at_gate, behind = gate_costs(vlm, split[0], found.plan)
    assert found.cost.value == pytest.approx(at_gate + last.full.value * behind)
    assert found.saving == pytest.approx(1 - found.cost.value)
    assert found.cost.level == pytest.approx(1 - 0.05 / len(found.path))


def test_the_path_gets_cheaper_and_the_front_holds_the_fixed_plans(found):
    assert all(a.cost.value > b.cost.value for a, b in pairwise(found.path))
    assert len(found.fixed) == len(PLANS)
    assert all(each.plan.gates[0].threshold == -math.inf for each in found.fixed)
    for each in found.fixed:
        beaten = (
            p.cost.value <= each.cost.value + 1e-12 and p.changed.value <= each.changed.value
            for p in found.front
        )
        assert any(beaten) or each.cost.value >= 1
    assert found.front[0].plan.provenance.spent == frozenset()


def test_a_result_survives_a_file(found):
    again = CertifiedAdaptive.from_json(json.loads(found.dumps()))
    assert again == found
    assert again.to_json() == found.to_json()


def test_a_checkpoint_and_a_ledger_make_the_same_search_free(vlm, split, found, tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    kept = {"checkpoint": tmp_path / "c", "ledger": ledger, **SHORT}
    first = adaptive_search(vlm, *split, PLANS, epsilon=EPSILON, **kept)
    assert "ledger" in first.certificate.sentence()
    assert first.plan == found.plan
    assert adaptive_search(vlm, *split, PLANS, epsilon=EPSILON, **kept) == first
    with pytest.raises(BridgeError, match="leaves no delta for this data"):
        adaptive_search(vlm, *split, PLANS, epsilon=EPSILON / 2, **kept)


def test_without_a_certificate_there_is_no_plan(vlm, split):
    none = adaptive_search(vlm, split[0], split[1][:5], PLANS, epsilon=0.01, **SHORT)
    assert (none.plan, none.certificate, none.cost, none.saving) == (None, None, None, 0.0)
    assert len(none.tested) == len(none.certificates) <= 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"signals": ["luck"]}, "a list of some of margin, entropy, confidence, agreement, got"),
        ({"signals": "margin"}, "confidence, agreement, got 'margin'"),
        ({"signals": []}, "a list of some of margin, entropy"),
        ({"gates": 0}, "gates of a search are a number from 1 to 8, got 0"),
        ({"gates": 9}, "a number from 1 to 8, got 9"),
        ({"gates": True}, "a number from 1 to 8, got True"),
        ({"over": "last"}, "must be one of answer, first, token, got 'last'"),
        ({"epsilon": 0.0}, r"epsilon must lie in \(0, 1\)"),
        ({"delta": 1.0}, r"delta must lie in \(0, 1\)"),
    ],
)
def test_bad_settings_are_refused(vlm, split, change, says):
    with pytest.raises(BridgeError, match=says):
        adaptive_search(vlm, *split, PLANS, **change)


def test_candidates_in_words_are_the_plans(vlm, split, found):
    words = ["early_exit 3", "freeze 2-3"]
    assert adaptive_search(vlm, *split, words, epsilon=EPSILON, **SHORT) == found
    with pytest.raises(BridgeError, match="neither a plan file nor a plan in words"):
        adaptive_search(vlm, *split, ["freez 2"])
    with pytest.raises(BridgeError, match="list of plans is wanted, got 'freeze 2'"):
        adaptive_search(vlm, *split, "freeze 2")


def test_bad_data_and_candidates_are_refused(vlm, split, found):
    with pytest.raises(BridgeError, match="in both splits"):
        adaptive_search(vlm, split[0], split[0], PLANS)
    with pytest.raises(BridgeError, match="skips nothing"):
        adaptive_search(vlm, *split, [SkipPlan("block", 4)])
    with pytest.raises(BridgeError, match="certified the plan"):
        adaptive_search(vlm, *split, [found.path[-1].plan.gates[0].plan, *_spent(split)])


def _spent(split):
    return [replace(PLANS[0], provenance=Provenance(certified=tuple(image_ids(split[1]))))]


# --- latency and the command line -----------------------------------------------------------------


def test_a_stream_is_timed_beside_the_full_model(vlm, split):
    plan = AdaptivePlan((Gate(PLANS[0], threshold=math.inf),))
    timed = stream_latency(vlm, split[0], plan, batch_size=8, **SHORT)
    assert (timed.n_batches, timed.n_questions, timed.full_share) == (3, 20, 1.0)
    assert timed.adaptive_ratio.value == timed.seconds_adaptive / timed.seconds_full
    assert 0 < timed.decision_share < 1
    assert StreamLatency.from_json(timed.to_json()) == timed
    with pytest.raises(BridgeError, match="gives no interval"):
        stream_latency(vlm, split[0], plan, batch_size=20, **SHORT)


@pytest.mark.slow
def test_the_command_line_searches_and_runs(folder, jsonl, split, tmp_path, capsys):
    files = {}
    for name, items in zip(("tuning", "certification"), split, strict=True):
        files[name] = items[0].image.parent / f"{name}.jsonl"
        rows = [{"image": i.image.name, "question": i.question, "answer": "yes"} for i in items]
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "search"
    words = ("--data", files["tuning"], "--certification", files["certification"])
    words += ("--how", "bands", "--max-new-tokens", 2, "--out", out, "--epsilon", 0.7)
    assert run("search", folder, *words, "--adaptive", "--signal", "margin") == 0
    said = capsys.readouterr().out
    assert "expected prefill FLOPs" in said
    assert (out / "front.png").stat().st_size > 1000
    found = CertifiedAdaptive.from_json(json.loads((out / "search.json").read_text()))
    assert AdaptivePlan.read(out / "adaptive.json") == found.plan
    again = ("search", folder, *words, "--adaptive", "--signal", "margin")
    assert run(*again) == 0  # resumable, and free
    assert CertifiedAdaptive.from_json(json.loads((out / "search.json").read_text())) == found
    assert "cuts both sets" not in capsys.readouterr().err
    assert run(*again, "--limit", 5, "--no-ledger", "--out", tmp_path / "few") == 0
    said = capsys.readouterr().err
    assert "--limit 5 cuts both sets: 5 images of --data and 5 of --certification" in said
    run_it = ("adaptive", folder, out / "adaptive.json", "--data", jsonl, "--max-new-tokens", 2)
    assert run(*run_it, "--json", "--latency", 1, "--out", tmp_path / "r.json") == 2  # no interval
    assert "gives no interval" in capsys.readouterr().err
    assert run(*run_it, "--json", "--latency", 0, "--out", tmp_path / "r.json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["measured"]["plan"]["type"] == "AdaptivePlan"
    assert body == json.loads((tmp_path / "r.json").read_text())
    run_it = ("adaptive", folder, out / "adaptive.json", "--data", files["certification"])
    assert run(*run_it, "--max-new-tokens", 2, "--latency", 16, "--out", tmp_path / "s.json") == 0
    assert "whole answers at batch 8" in capsys.readouterr().out


def test_the_command_line_refuses(folder, jsonl, tmp_path, capsys):
    words = ("--data", jsonl, "--certification", jsonl, "--out", tmp_path / "s")
    assert (
        run("search", folder, *words, "--adaptive", "--stack", "vision", "--rule", "shortgpt") == 2
    )
    assert "searches layers of the decoder" in capsys.readouterr().err
    assert run("search", folder, *words, "--signal", "margin") == 2
    assert "go with --adaptive" in capsys.readouterr().err
    assert run("adaptive", folder, jsonl, "--data", jsonl, "--out", tmp_path / "a.json") == 2
    assert "adaptive plan" in capsys.readouterr().err
