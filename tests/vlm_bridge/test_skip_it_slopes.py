"""Our rule on the toy VLM: the planted truth exactly, and how simpler rules fail there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import pid_from_pmf
from tests.vlm_bridge.tiny import tiny_llava
from theory.systems import toy_vlm
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.plan.units import units
from vlm_bridge.rules import Evidence, find_rule, score_units
from vlm_bridge.rules.measure.suffix import FullPass
from vlm_bridge.rules.skip_it_slopes import (
    SkipItRuns,
    SkipItSlopes,
    coarse_to_fine,
    combined,
)


def schedule(seed: int) -> tuple[str, ...]:
    """A random order of layers that the toy allows: free layers strewn among the needed ones."""
    rng = np.random.default_rng(seed)
    made = ["encode", "copy", "answer"]
    made.insert(int(rng.integers(0, 2)), "scale_text")
    for _ in range(5):
        made.insert(int(rng.integers(0, len(made) + 1)), str(rng.choice(["identity", "kernel"])))
    copy = made.index("copy")
    made.insert(int(rng.integers(copy + 1, len(made) + 1)), "scale_vision")
    return tuple(made)


def evidence_of(seed: int, folder) -> tuple[Evidence, object]:
    rng = np.random.default_rng(100 + seed)
    m, k = int(rng.integers(2, 4)), int(rng.integers(3, 6))
    table = (np.arange(k)[None, :] + rng.permutation(k)[:m][:, None]) % k
    toy = toy_vlm(table, schedule=schedule(seed))
    return Evidence(toy_llava(toy), toy_items(toy, folder, images=k)), toy


def planted(toy, mode: str) -> tuple[int, ...]:
    """Positions in `units(mode, L)` that are safe by construction."""
    truth = toy.truth
    if mode in ("block", "freeze"):
        return truth.safe_blocks if mode == "block" else truth.safe_freezes
    if mode == "vision_mlp":  # only its MLPs change vision tokens
        return truth.safe_freezes
    if mode == "vision_attention":
        return tuple(range(toy.n_layers))
    if mode == "sublayer":  # what a layer does is done by its MLP, but for the copy
        copies = [kind == "copy" for kind in toy.schedule]
        safe = [layer in truth.safe_blocks for layer in range(toy.n_layers)]
        pairs = zip(safe, copies, strict=True)
        by_unit = [part for ok, copy in pairs for part in (ok or not copy, ok or copy)]
        return tuple(i for i, ok in enumerate(by_unit) if ok)
    depths = truth.safe_exits if mode == "early_exit" else truth.safe_entries
    return tuple(depth - 1 for depth in depths if 1 <= depth < toy.n_layers)


@pytest.mark.parametrize("seed", range(10))
def test_planted_layers_and_depths_are_recovered_exactly(seed, tmp_path):
    evidence, toy = evidence_of(seed, tmp_path)
    rule = SkipItSlopes()
    for mode in rule.modes:
        safe = planted(toy, mode)
        assert rule.safe(evidence, mode) == safe, (mode, toy.schedule)
        score = score_units(rule, evidence, mode)
        harmful = sorted(set(range(len(score))) - set(safe))
        if safe and harmful:
            assert score[list(safe)].max() < score[harmful].min(), (mode, toy.schedule)
    assert not any(name.startswith("candidate") for name in evidence.cost)


@pytest.fixture(scope="module")
def toy():
    return toy_vlm()


@pytest.fixture(scope="module")
def evidence(toy, tmp_path_factory):
    return Evidence(toy_llava(toy), toy_items(toy, tmp_path_factory.mktemp("toy"), images=8))


def changed(evidence, plan) -> float:
    """Share of first answer tokens that really change under a plan."""
    (run,) = evidence.candidates([plan])
    return run.disagreement


def test_cosine_alone_takes_what_harms_and_leaves_what_does_not(toy, evidence):
    """S6b: no distance where only the norm changes, a large one in a plane nothing reads."""
    distance = score_units(find_rule("shortgpt"), evidence)
    scaled, kernel = toy.schedule.index("scale_text"), toy.schedule.index("kernel")
    plans = units("block", toy.n_layers)
    assert distance[scaled] == pytest.approx(distance.min(), abs=1e-6)
    assert changed(evidence, plans[scaled]) == 1.0
    assert distance[kernel] == pytest.approx(distance.max(), abs=0.2)
    assert distance[kernel] > 10 * distance[toy.schedule.index("copy")]
    assert changed(evidence, plans[kernel]) == 0.0
    ours = score_units(SkipItSlopes(), evidence, "block")
    assert ours[scaled] > 100 * ours[kernel]


def codes(states: torch.Tensor) -> np.ndarray:
    """Every different state by a number, float noise aside."""
    flat = states.flatten(1).double().numpy()
    return np.unique(np.round(flat, 2), axis=0, return_inverse=True)[1].ravel()


def atoms(kept: FullPass, states: torch.Tensor):
    """PID of the full model's own answer in vision and last text state of the given states."""
    vision = codes(torch.stack([row[v][0] for row, v in zip(states, kept.vision, strict=True)]))
    text, answer = codes(states[:, -1]), np.unique(kept.logits.argmax(-1), return_inverse=True)[1]
    p = np.zeros((vision.max() + 1, text.max() + 1, answer.max() + 1))
    np.add.at(p, (vision, text, answer), 1.0 / len(answer))
    return pid_from_pmf(p, measure="broja", unit="bits")


@pytest.fixture(scope="module")
def kept(evidence):
    return FullPass(evidence.vlm, next(iter(batches(evidence.vlm, evidence.items, batch_size=16))))


def test_unique_information_alone_calls_every_exit_safe(tmp_path):
    """S9: what leaves with vision is unique information *and* synergy."""
    # As many questions as classes: image and question alone say nothing about the answer.
    toy = toy_vlm((np.arange(4)[None, :] + np.arange(4)[:, None]) % 4)
    evidence = Evidence(toy_llava(toy), toy_items(toy, tmp_path, images=4))
    kept = FullPass(evidence.vlm, next(iter(batches(evidence.vlm, evidence.items, batch_size=16))))
    plans, copy = units("early_exit", toy.n_layers), toy.schedule.index("copy")
    for depth in range(1, copy + 1):
        found = atoms(kept, kept.inputs[depth])
        assert found.unique_1 == pytest.approx(0.0, abs=1e-6)  # "safe", and all answers change:
        assert found.synergistic == pytest.approx(2.0, abs=1e-6)
        assert changed(evidence, plans[depth - 1]) == 1.0
    after = atoms(kept, kept.inputs[copy + 1])
    assert after.unique_1 + after.synergistic == pytest.approx(0.0, abs=1e-6)
    assert changed(evidence, plans[copy]) == 0.0
    assert SkipItSlopes().safe(evidence, "early_exit") == planted(toy, "early_exit")


@torch.no_grad()
def test_bayes_information_alone_calls_every_block_safe(toy, evidence, kept):
    """S1: a skipped layer loses no information about the answer; the fixed tail loses it all."""
    encode = toy.schedule.index("encode")
    with_layer, without = (x[encode] for x in (kept.outputs, kept.inputs))
    known = [atoms(kept, states).total for states in (with_layer, without)]
    assert known == pytest.approx([2.0, 2.0], abs=1e-3)  # 4 answers, told without error
    assert changed(evidence, units("block", toy.n_layers)[encode]) == 1.0
    assert encode not in SkipItSlopes().safe(evidence, "block")


def test_conditions_can_be_inspected(toy, evidence):
    found = SkipItSlopes().explain(evidence, "block", epsilon=0.1)
    assert len(found) == 4 * toy.n_layers
    by = {(r.unit, r.bound.statement): r for r in found}
    scaled, identity = toy.schedule.index("scale_text"), 0
    assert by[identity, "S6"].safe
    assert by[identity, "S6"].margin == pytest.approx(0.1)
    assert by[scaled, "G-F"].safe  # the geometric condition is wrong here, S6 is right
    assert not by[scaled, "S6"].safe
    assert "linear" in by[scaled, "S6"].bound.assumed[0]
    assert "not safe by -0.9" in str(by[scaled, "S6"])
    assert {r.bound.statement for r in SkipItSlopes().explain(evidence, "early_exit")} == {
        "S6",
        "S7",
    }


def test_what_is_explained_is_what_safe_goes_by(items):
    evidence, rule = Evidence(tiny_llava(), items), SkipItSlopes()
    for mode in rule.modes:
        found = evidence.sensitivity(rule.images, mode)
        shares = [r for r in rule.explain(evidence, mode) if r.bound.statement == "S6"]
        assert [r.bound.value for r in shares] == pytest.approx(found.flips(mode).tolist())
        counted = [
            float(r.bound.checked[0].split(" on ")[1].split(" of ")[0]) / len(found.margins)
            for r in shares
        ]
        reached = np.abs(found.change[mode]) >= found.margins[:, None]
        assert counted == pytest.approx((1.0 - reached.mean(axis=0)).tolist())
        assert rule.safe(evidence, mode) == tuple(r.unit for r in shares if r.safe)
    assert 0 < found.flips("block").mean() < 1


def test_more_conditions_want_more_images(toy, evidence):
    with pytest.raises(BridgeError, match="at least 20 images, got 8"):
        SkipItSlopes().explain(evidence, "block", probes=True)
    with pytest.raises(BridgeError, match="no mode 'band'"):
        SkipItSlopes().explain(evidence, "band")


def test_with_runs_it_stays_in_its_budget_and_measures(tmp_path):
    toy = toy_vlm()
    evidence = Evidence(toy_llava(toy), toy_items(toy, tmp_path))
    rule = SkipItRuns(forward_cost=11.0)
    score = score_units(rule, evidence, "early_exit")
    spent = evidence.spent[rule.name]
    assert spent["slopes of the margin, 8 images"] == 7.0
    assert 8.0 < sum(spent.values()) <= 11.0
    ran = [
        i
        for i, plan in enumerate(units("early_exit", 11))
        if any(plan.hash()[:12] in k for k in spent)
    ]
    assert 0 < len(ran) < 10
    predicted = score_units(SkipItSlopes(), evidence, "early_exit")
    measured = np.sqrt(2 * evidence.candidate_kl("early_exit"))
    assert score[ran] == pytest.approx(np.sqrt(predicted * measured)[ran])
    assert set(ran) == set(np.argsort(predicted, kind="stable")[: len(ran)])


def test_what_was_run_last_says_what_a_prediction_is_worth():
    s = np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 2.0, 3.0])
    worth = np.array([0.1, 0.1, 4.0, 4.0, 9.0, 4.0, 1.0])
    found = combined(s, list(range(7)), (worth * s[:7]) ** 2 / 2)
    assert found[:7] == pytest.approx(s[:7] * np.sqrt(worth))
    assert found[7:] == pytest.approx([4.0, 6.0])  # sqrt(4), the median of the last five


@given(
    predicted=st.lists(st.just(0.0) | st.floats(1e-6, 10.0), min_size=4, max_size=4),
    kl=st.lists(st.just(0.0) | st.floats(1e-9, 5.0), min_size=4, max_size=4),
)
def test_two_readings_keep_what_both_say(predicted, kl):
    s, kl = np.array(predicted), np.array(kl)
    none = combined(s, [], np.empty(0))
    assert none == pytest.approx(s)
    every = combined(s, [0, 1, 2, 3], kl)
    for i in range(4):
        for j in range(4):
            if s[i] <= s[j] and kl[i] <= kl[j]:
                assert every[i] <= every[j] * (1 + 1e-9)
    # What was not run is never safe because nothing was felt of what was.
    rest = combined(s, [0, 1], np.zeros(2))
    assert rest[2:] == pytest.approx(s[2:])
    # A prediction that is right to a factor is only scaled.
    right = combined(s, [1, 2], (3.0 * s[[1, 2]]) ** 2 / 2)
    scale = np.sqrt(3.0) if s[[1, 2]].any() else 1.0
    assert right == pytest.approx(scale * s, abs=1e-12)


def test_the_weight_leads_from_prediction_to_measurement():
    s, kl = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.02, 2.0])
    assert combined(s, [0, 1, 2], kl, 0.0) == pytest.approx(s)
    assert combined(s, [0, 1, 2], kl, 1.0) == pytest.approx(np.sqrt(2 * kl))
    quarter = combined(s, [0, 1, 2], kl, 0.25)
    assert quarter == pytest.approx(s**0.75 * np.sqrt(2 * kl) ** 0.25)
    assert combined(s, [0], np.array([8.0]), 1.0)[1:] == pytest.approx(4.0 * s[1:])


def test_classes_are_kept_apart(items):
    assert (SkipItSlopes().requires, SkipItRuns().requires) == ("forward pass", "candidate runs")
    evidence = Evidence(tiny_llava(), items)
    rule = SkipItSlopes(images=2)
    for mode in rule.modes:
        score_units(rule, evidence, mode)
    # 2 of 5 images, 3 of 9 questions; two passes, two backward, and one without vision keys, or
    # four without a sublayer.
    assert evidence.spent["skip-it-slopes"] == {
        "slopes of the margin, 2 images": pytest.approx(7.0 * 3 / 9),
        "slopes of the margin by sublayer, 2 images": pytest.approx(10.0 * 3 / 9),
    }


def test_a_small_budget_runs_nothing(items):
    evidence = Evidence(tiny_llava(), items)
    score = score_units(SkipItRuns(forward_cost=7.5), evidence, "block")
    assert score == pytest.approx(score_units(SkipItSlopes(), evidence, "block"))
    assert not any(name.startswith("candidate") for name in evidence.cost)


def test_bad_requests_are_named(evidence):
    for ask in (SkipItSlopes().explain, SkipItSlopes().safe):
        with pytest.raises(BridgeError, match="epsilon must lie between 0 and 1, got 0"):
            ask(evidence, "block", epsilon=0)


@pytest.mark.parametrize(("budget", "depths"), [(3.0, [0, 9]), (6.0, [0, 2, 4, 6, 9]), (40, None)])
def test_entries_are_measured_at_spread_depths_and_interpolated(tmp_path, budget, depths):
    toy = toy_vlm()
    evidence = Evidence(toy_llava(toy), toy_items(toy, tmp_path))
    rule = SkipItRuns(forward_cost=budget)
    score = score_units(rule, evidence, "late_entry")
    spent = evidence.spent[rule.name]
    assert not [name for name in spent if "slopes" in name]
    assert sum(spent.values()) <= budget
    ran = [i for i, unit in enumerate(evidence.units("late_entry")) if is_in(unit, spent)]
    assert ran == (list(range(10)) if depths is None else depths)
    truth = np.sqrt(2 * evidence.candidate_kl("late_entry"))
    assert score == pytest.approx(np.interp(range(10), ran, truth[ran]))
    assert score[0] < score[-1]


def is_in(unit, spent):
    return any(unit.hash()[:12] in name for name in spent)


def test_one_entry_alone_is_no_comparison(items):
    evidence = Evidence(tiny_llava(), items)
    with pytest.raises(BridgeError, match=r"costs 3 forward passes; the budget is 2\.9"):
        score_units(SkipItRuns(forward_cost=2.9), evidence, "late_entry")


@given(st.integers(2, 60))
def test_every_prefix_of_depths_is_spread(n):
    """No gap between neighbours is more than twice another, give or take the rounding."""
    order = coarse_to_fine(n)
    assert sorted(order) == list(range(n))
    for count in range(2, n + 1):
        gaps = np.diff(sorted(order[:count]))
        assert gaps.max() <= 2 * gaps.min() + 2
