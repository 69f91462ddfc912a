"""Scores of rules: plain computations, invariances, intervals by image, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, rankdata, spearmanr, ttest_1samp

from estimators.rank_correlation import partial_spearman, spearman
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.scoring import (
    HARMFUL,
    SAFE,
    UNDETERMINED,
    Truth,
    auc,
    false_safe,
    leave_one_model_out,
    score_rule,
    spearman_difference,
)
from vlm_bridge.experiments.scoring.truth import intervals, verdicts
from vlm_bridge.plan.skip_plan import SkipPlan

#: Few distinct values, so that ties happen.
scores = st.integers(0, 4).map(float)
units = st.lists(st.tuples(scores, st.sampled_from([SAFE, UNDETERMINED, HARMFUL])), min_size=1)


def columns(drawn: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in drawn]), np.array([v for _, v in drawn])


@given(units)
def test_auc_counts_pairs(drawn: list[tuple[float, int]]) -> None:
    score, verdict = columns(drawn)
    pairs = [
        1.0 if h > s else 0.5 if h == s else 0.0
        for h, is_h in drawn
        for s, is_s in drawn
        if is_h == HARMFUL and is_s == SAFE
    ]
    found = auc(score, verdict)
    assert math.isnan(found) if not pairs else found == pytest.approx(sum(pairs) / len(pairs))


@given(units)
def test_auc_sees_order_only_and_turns_round_with_it(drawn: list[tuple[float, int]]) -> None:
    score, verdict = columns(drawn)
    found = auc(score, verdict)
    if math.isnan(found):
        return
    assert auc(np.exp(score), verdict) == pytest.approx(found)
    assert auc(-score, verdict) == pytest.approx(1 - found)
    assert auc(np.zeros(len(score)), verdict) == pytest.approx(0.5)


@given(st.lists(st.tuples(scores, scores), min_size=2))
def test_spearman_is_scipys(drawn: list[tuple[float, float]]) -> None:
    a, b = np.array(drawn).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert math.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


@given(units)
def test_false_safe_is_the_mean_over_orders_of_ties(drawn: list[tuple[float, int]]) -> None:
    score, verdict = columns(drawn)
    k = int((verdict == SAFE).sum())
    found = false_safe(score, verdict)
    if not k:
        assert math.isnan(found)
        return
    known = [(s, v) for s, v in drawn if v != UNDETERMINED]
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        order = sorted(range(len(known)), key=lambda i: (known[i][0], rng.random()))
        shares.append(np.mean([known[i][1] == HARMFUL for i in order[:k]]))
    assert found == pytest.approx(np.mean(shares), abs=0.12)


def test_a_perfect_ranking_and_its_opposite() -> None:
    verdict = np.array([SAFE, SAFE, HARMFUL, HARMFUL, UNDETERMINED])
    score = np.array([0.0, 1.0, 2.0, 3.0, 9.0])
    assert (auc(score, verdict), false_safe(score, verdict)) == (1.0, 0.0)
    assert (auc(-score, verdict), false_safe(-score, verdict)) == (0.0, 1.0)


def test_intervals_of_disagreement_are_clopper_pearson() -> None:
    values = np.zeros((40, 3))
    values[:3, 1] = values[:, 2] = 1.0
    low, high = intervals(values, "disagreement", 0.9)
    assert low == pytest.approx([0.0, beta.ppf(0.05, 3, 38), beta.ppf(0.05, 40, 1)])
    assert high == pytest.approx([beta.ppf(0.95, 1, 40), beta.ppf(0.95, 4, 37), 1.0])


def test_intervals_of_drop_are_students() -> None:
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=(30, 2))
    low, high = intervals(values, "drop", 0.95)
    for unit in range(2):
        plain = ttest_1samp(values[:, unit], 0.0).confidence_interval(0.95)
        assert (low[unit], high[unit]) == pytest.approx((plain.low, plain.high))


def test_verdicts_of_a_stack_are_those_of_its_parts() -> None:
    rng = np.random.default_rng(1)
    stack = (rng.random((5, 60, 7)) < rng.random(7)).astype(float)
    together = verdicts(stack, "disagreement", 0.3, 0.95)
    apart = [verdicts(one, "disagreement", 0.3, 0.95) for one in stack]
    assert (together == np.stack(apart)).all()
    assert {SAFE, HARMFUL} <= set(together.ravel().tolist())


def plans(n: int) -> list[SkipPlan]:
    return [SkipPlan("freeze", n, layers=(layer,)) for layer in range(n)]


def items(groups: list[str], answer: str | None = "yes") -> tuple[Item, ...]:
    return tuple(
        Item(image=f"{group}.png", question="?", answer=answer, cluster=group) for group in groups
    )


def outcomes(asked: tuple[Item, ...], disagree: list[float], drop: list[float]) -> Outcomes:
    zero = tuple(0.0 for _ in asked)
    return Outcomes(
        asked, tuple(disagree), tuple(max(d, 0.0) for d in drop), tuple(max(-d, 0.0) for d in drop),
        zero, zero,
    )  # fmt: skip


def test_truth_is_by_image() -> None:
    asked = items(["a", "b", "a", "a"])
    found = Truth.of(
        plans(2),
        [outcomes(asked, [1, 0, 0, 1], [1, 0, 0, -1]), outcomes(asked, [0, 1, 0, 0], [0, 1, 0, 0])],
    )
    assert found.images == ("a", "b")
    assert found.disagreement == pytest.approx(np.array([[2 / 3, 0], [0, 1]]))
    assert found.drop == pytest.approx(np.array([[0, 0], [0, 1]]))


def test_truth_without_labels_has_no_drop() -> None:
    asked = items(["a"], answer=None)
    none = Outcomes(asked, (1.0,), None, None, (0.0,), (0.0,))
    found = Truth.of(plans(1), [none])
    with pytest.raises(BridgeError, match="no drop was measured"):
        found.values("drop")
    with pytest.raises(BridgeError, match="unknown quantity 'accuracy'"):
        found.values("accuracy")


def test_truth_refuses_other_questions() -> None:
    one, two = items(["a"]), items(["b"])
    with pytest.raises(BridgeError, match="different questions"):
        Truth.of(plans(2), [outcomes(one, [0], [0]), outcomes(two, [0], [0])])
    with pytest.raises(BridgeError, match="2 plans need as many outcomes, got 1"):
        Truth.of(plans(2), [outcomes(one, [0], [0])])


def simulated(n_images: int, rates: np.ndarray, seed: int = 0) -> Truth:
    rng = np.random.default_rng(seed)
    changed = (rng.random((n_images, len(rates))) < rates).astype(float)
    return Truth(tuple(plans(len(rates))), changed, changed, tuple(str(i) for i in range(n_images)))


RATES = np.array([0.0, 0.0, 0.01, 0.05, 0.3, 0.4, 0.5, 0.6])


def test_a_score_carries_counts_and_intervals() -> None:
    truth = simulated(200, RATES)
    found = score_rule(RATES, truth, rule="r", requires="forward pass", model="m", epsilon=0.05)
    assert (found.safe, found.harmful) == (3, 4)
    assert found.undetermined == 1
    assert found.auc.value == 1.0
    assert found.auc.n == 200
    assert found.spearman.interval[0] <= found.spearman.value <= found.spearman.interval[1] <= 1.0
    assert found.false_safe.value == 0.0
    assert found.to_json()["auc"]["value"] == 1.0


def test_resamples_are_of_whole_images_and_units() -> None:
    """With one image and a perfect order of two units, every sample that is defined agrees."""
    truth = simulated(1, np.array([0.0, 1.0]))
    found = score_rule(
        np.array([0.0, 1.0]), truth, rule="r", requires="nothing", model="m", epsilon=0.5
    )
    assert found.spearman.interval == pytest.approx((1.0, 1.0))
    assert not found.spearman.reliable  # half of the samples draw one unit twice


def test_partial_is_the_correlation_of_what_depth_leaves_over() -> None:
    """By hand: residuals of the ranks after a straight line in the ranks of depth."""
    rng = np.random.default_rng(3)
    x, y, depth = rng.normal(size=(3, 30)) + np.linspace(0, 3, 30)
    a, b, z = (rankdata(each) - 15.5 for each in (x, y, depth))
    left = [each - z * (each @ z) / (z @ z) for each in (a, b)]
    assert partial_spearman(x, y, depth) == pytest.approx(np.corrcoef(*left)[0, 1])
    assert math.isnan(partial_spearman(depth, y, depth))
    assert math.isnan(partial_spearman(x, -depth, depth))
    assert math.isnan(partial_spearman(x, np.ones(30), depth))


def test_a_rule_of_depth_has_nothing_left_given_depth() -> None:
    rates = np.array([0.6, 0.1, 0.4, 0.3, 0.2, 0.05])
    truth = simulated(200, rates)
    options = {"requires": "nothing", "model": "m", "epsilon": 0.1}
    depth = score_rule(-np.arange(6.0), truth, rule="deepest-first", **options)
    assert math.isnan(depth.partial.value)
    assert "ordered by depth" in depth.partial.reason
    perfect = score_rule(truth.disagreement.mean(axis=0), truth, rule="r", **options)
    assert perfect.partial.value == pytest.approx(1.0)


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(5)
    truth = simulated(60, rng.random(20))
    mean = truth.disagreement.mean(axis=0)
    ours = mean + 0.3 * rng.normal(size=20)
    same = spearman_difference(ours, ours * 2.0, truth)
    assert (same.value, same.interval) == (0.0, (0.0, 0.0))
    other = rng.permutation(ours)
    found = spearman_difference(ours, other, truth)
    assert found.value == pytest.approx(spearman(ours, mean) - spearman(other, mean))
    back = spearman_difference(other, ours, truth)
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    with pytest.raises(BridgeError, match="rule 'other' needs 20 finite scores"):
        spearman_difference(ours, other[:3], truth)


@pytest.mark.slow
def test_intervals_are_about_other_layers_too() -> None:
    """Layers drawn from a population, whose own Spearman is known from a large sample.

    Resampled images alone cover it in a third of the runs: many images say nothing of new layers.
    """
    rng = np.random.default_rng(0)

    def layers(n: int) -> tuple[np.ndarray, np.ndarray]:
        harm = rng.normal(size=n)
        return harm + rng.normal(size=n), 1 / (1 + np.exp(-2 * harm))

    limit, covered = spearman(*layers(200_000)), 0
    for seed in range(60):
        score, rates = layers(24)
        found = score_rule(
            score, simulated(200, rates, seed), rule="r", requires="nothing", model="m",
            epsilon=0.1, resamples=200, seed=seed,
        )  # fmt: skip
        covered += found.spearman.interval[0] <= limit <= found.spearman.interval[1]
    assert covered >= 51  # binomial(60, .95) is below that once in 3,000


@pytest.mark.slow
def test_bootstrap_interval_covers_the_long_run() -> None:
    score = np.array([0.0, 3.0, 1.0, 2.0, 4.0, 5.0, 7.0, 6.0])
    rates = np.linspace(0.02, 0.6, 8)
    limit = spearman(score, rates)
    covered = 0
    for seed in range(60):
        found = score_rule(
            score, simulated(150, rates, seed), rule="r", requires="nothing", model="m",
            epsilon=0.1, resamples=200, seed=seed,
        )  # fmt: skip
        covered += found.spearman.interval[0] <= limit <= found.spearman.interval[1]
    assert covered >= 51  # binomial(60, .95) is below that once in 3,000


def test_what_is_not_defined_says_so() -> None:
    truth = simulated(100, np.zeros(4))
    found = score_rule(np.arange(4.0), truth, rule="r", requires="nothing", model="m", epsilon=0.1)
    assert math.isnan(found.auc.value)
    assert "no unit is safe, or none is harmful" in found.auc.reason
    assert found.to_json()["auc"]["value"] is None


def test_bad_scores_are_refused() -> None:
    truth = simulated(10, np.zeros(2))

    def score(values: list[float], epsilon: float = 0.1) -> None:
        score_rule(
            np.array(values), truth, rule="r", requires="nothing", model="m", epsilon=epsilon
        )

    with pytest.raises(BridgeError, match="rule 'r' needs 2 finite scores"):
        score([0.0])
    with pytest.raises(BridgeError, match="rule 'r' needs 2 finite scores"):
        score([0.0, math.nan])
    with pytest.raises(BridgeError, match=r"epsilon must lie between 0 and 1, got 1\.5"):
        score([0.0, 1.0], epsilon=1.5)


def test_leaving_one_model_out_never_looks_at_it() -> None:
    figures = {
        "m": {"a": 0.9, "b": 0.6, "c": math.nan},
        "n": {"a": 0.5, "b": 0.8, "c": 0.99},
        "o": {"a": 0.7, "b": 0.6, "c": 0.99},
    }
    found = {one.model: one for one in leave_one_model_out(figures)}
    assert found["m"].chosen == "c"
    assert math.isnan(found["m"].here)
    assert found["m"].best == "a"
    assert found["n"].chosen == "a"  # c is not defined on m
    assert found["n"].there == pytest.approx(0.8)
    changed = {**figures, "n": {"a": 0.0, "b": 0.0, "c": 0.0}}
    assert {one.model: one for one in leave_one_model_out(changed)}["n"].chosen == "a"
    assert found["m"].to_json()["here"] is None


def test_leaving_one_out_needs_two() -> None:
    with pytest.raises(BridgeError, match="needs at least two, got 1"):
        leave_one_model_out({"m": {"a": 1.0}})
    with pytest.raises(BridgeError, match="no rule has a figure on every model but m"):
        leave_one_model_out({"m": {"a": 1.0}, "n": {"a": math.nan}})
