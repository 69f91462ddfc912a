"""CALM and CATs: thresholds by hand, the promise of each kept, and the chain as it runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from theory.certificates.bentkus import bentkus_p_value
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import adaptive_answers
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.exits import (
    GRID,
    calm_threshold,
    cats_threshold,
    exit_chain,
    exit_plans,
)
from vlm_bridge.selection.sureness import KnownAnswers, PlanAnswers, ask_plans

EXITS = exit_plans(3, 2)


def known_of(*exits, clusters=None):
    """(right, confidence) of every image at each exit."""
    n = len(exits[0][0])
    by_plan = {
        plan: PlanAnswers(
            tuple("y" if r else "n" for r in right), (0,) * n, {"confidence": np.array(sure, float)}
        )
        for plan, (right, sure) in zip(EXITS, exits, strict=False)
    }
    return KnownAnswers(("y",) * n, tuple(clusters or map(str, range(n))), by_plan)


@pytest.mark.parametrize(
    ("n_layers", "exits", "depths"),
    [(8, 7, range(1, 8)), (8, 3, (2, 4, 6)), (30, 4, (6, 12, 18, 24)), (2, 8, (1,)), (8, 1, (4,))],
)
def test_exits_are_spread_and_leave_out_all_later_layers(n_layers, exits, depths):
    wanted = [tuple(range(depth, n_layers)) for depth in depths]
    assert [plan.layers for plan in exit_plans(n_layers, exits)] == wanted


def test_the_threshold_of_cats_is_an_order_statistic():
    """9 images with wrong confidences .1 to .9 at the first exit; the second is always right."""
    sure = np.arange(1, 10) / 10
    known = known_of((np.zeros(9), sure), (np.ones(9), np.ones(9)))
    assert [cats_threshold(known, EXITS, epsilon=e) for e in (0.5, 0.2, 0.11)] == [0.5, 0.8, 0.9]
    assert cats_threshold(known, EXITS, epsilon=0.05) == math.inf  # ten images are too few
    right = known_of((np.ones(9), sure), (np.ones(9), sure))
    assert cats_threshold(right, EXITS, epsilon=0.2) == -math.inf


def test_the_surest_wrong_exit_of_an_image_counts():
    known = known_of(
        ([0, 1, 1, 0], [0.2, 0.9, 0.9, 0.3]),
        ([0, 0, 1, 1], [0.6, 0.5, 0.9, 0.9]),
        clusters=["a", "b", "c", "a"],
    )
    found = [cats_threshold(known, EXITS, epsilon=e) for e in (0.74, 0.5, 0.25)]
    assert found == [0.5, 0.5, 0.6]  # of -inf, .5 and .6, the 2nd, 2nd and 3rd


def test_calm_stops_at_the_first_threshold_that_is_not_rejected():
    """100 images; one wrong answer for each .02 of confidence below 1."""
    wrong = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    sure = np.concatenate([wrong + 0.01, np.full(95, 0.99)])
    right = np.concatenate([np.zeros(5), np.ones(95)])
    known = known_of((right, sure), (np.ones(100), np.ones(100)))
    exits, grid = EXITS[:1], (1.0, 0.85, 0.75, 0.65, 0.55, 0.45)

    def found(delta):
        return calm_threshold(known, exits, epsilon=0.1, delta=delta, grid=grid)

    def p_of(count):
        return float(
            bentkus_p_value(np.repeat([1.0, 0.0], [count, 100 - count]), 0.1, low=0, high=1)
        )

    p_values = [p_of(count) for count in range(6)]
    for delta in (0.001, 0.01, 0.05, 0.2):
        held = sum(p <= delta for p in p_values)
        assert found(delta) == (grid[held - 1] if held else None)
    assert len({found(delta) for delta in (1e-9, 0.001, 0.01, 0.05, 0.2)}) > 3


def test_a_later_threshold_that_would_pass_is_not_reached():
    """Below .5 all stand at the first exit, which is right; above, a tenth is wrong at the second.

    A sequence that goes on behind a failure would return .4.
    """
    wrong = np.arange(200) < 20
    known = known_of((np.ones(200), np.full(200, 0.5)), (~wrong, np.where(wrong, 0.9, 0.1)))
    wanted = {"epsilon": 0.05, "delta": 0.05}
    assert calm_threshold(known, EXITS, **wanted, grid=(0.95, 0.8, 0.4)) == 0.95
    assert calm_threshold(known, EXITS, **wanted, grid=(0.95, 0.4)) == 0.4


@pytest.mark.slow
def test_both_promises_are_kept():
    """Wrong with probability 1 - confidence: CALM errs for at most delta of users, CATs on mean."""
    epsilon, delta, users = 0.1, 0.1, 1500
    rng = np.random.default_rng(0)

    def draw(n):
        sure = rng.random((2, n))
        right = rng.random((2, n)) < 0.5 + sure / 2
        return known_of(*zip(right, sure, strict=True))

    held_out = draw(100_000)

    def rate(threshold):
        changed, _ = held_out.replay(exit_chain(EXITS, threshold))
        return float(np.mean(changed))

    rates = {threshold: rate(threshold) for threshold in GRID}
    errs, of_cats = [], []
    for _ in range(users):
        known = draw(150)
        chosen = calm_threshold(known, EXITS, epsilon=epsilon, delta=delta)
        errs.append(chosen is not None and rates[chosen] > epsilon)
        threshold = cats_threshold(known, EXITS, epsilon=epsilon)
        nearest = min(GRID, key=lambda t: abs(t - threshold))
        of_cats.append(rates[nearest])
    assert max(rates.values()) > epsilon  # otherwise nothing was at stake
    assert np.mean(errs) <= delta + 3 * math.sqrt(delta * (1 - delta) / users)
    assert np.mean(of_cats) <= epsilon + 0.01


def test_bad_arguments_are_refused():
    known = known_of(([1], [0.5]))
    with pytest.raises(BridgeError, match="a number from 1 to 8, got 9"):
        exit_plans(8, 9)
    with pytest.raises(BridgeError, match="a decoder of 1 layers has no exit"):
        exit_plans(1, 1)
    with pytest.raises(BridgeError, match="must descend, got"):
        calm_threshold(known, EXITS[:1], epsilon=0.1, delta=0.1, grid=(0.5, 0.9))
    with pytest.raises(BridgeError, match="epsilon"):
        calm_threshold(known, EXITS[:1], epsilon=1.5, delta=0.1)
    with pytest.raises(BridgeError, match=r"epsilon must lie in \(0, 1\), got 0"):
        cats_threshold(known, EXITS[:1], epsilon=0)


def test_the_chain_runs_as_it_is_replayed(tmp_path):
    vlm, items = tiny_llava(), asked_pictures(tmp_path, 12)
    exits = exit_plans(4, 3)
    assert exits[0] == SkipPlan("block", 4, layers=(1, 2, 3))
    full = FullAnswers.ask(vlm, items, max_new_tokens=3)
    known = ask_plans(full, vlm, exits, batch_size=16)
    middle = float(np.median([known.by_plan[plan].signals["confidence"] for plan in exits]))
    changed, at = known.replay(exit_chain(exits, middle))
    made = adaptive_answers(vlm, full.items, exit_chain(exits, middle), max_new_tokens=3)
    assert list(made.gates) == at
    assert len(set(at)) > 1
    assert changed == [float(a != b) for a, b in zip(made.texts, full.texts, strict=True)]
