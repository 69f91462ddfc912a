"""Parts of `skipit claims` on made-up numbers: overlap, origins, converses, verdicts, records."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from estimators import Estimate
from theory import certify_mean
from vlm_bridge.cost import Cost, PhaseCost
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.first_token import DECISION
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.claims.accuracy import Accuracies
from vlm_bridge.experiments.claims.certified_plan import CertifiedPlanResult, best_certified
from vlm_bridge.experiments.claims.comparisons import (
    compared_size,
    control_size,
    our_conditions,
    peers_of,
    units_skipped,
)
from vlm_bridge.experiments.claims.conclusions import combined, conclusions, of_control, of_overlap
from vlm_bridge.experiments.claims.control import Control, control_plans
from vlm_bridge.experiments.claims.converse import HARMFUL, HARMLESS, Ranking, converses
from vlm_bridge.experiments.claims.nulls import shuffled_images
from vlm_bridge.experiments.claims.overlap import Overlap, overlap
from vlm_bridge.experiments.claims.results import ModelClaims
from vlm_bridge.experiments.rule_benchmark import Chosen, ModelBenchmark, RuleResult
from vlm_bridge.experiments.scoring import RuleScore
from vlm_bridge.experiments.scoring.truth import intervals, least_images
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules import RULES, Origin
from vlm_bridge.selection import CertifiedPlan, Step

LAYERS = 24


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, interval=(low, high), n=60, method="made up")


ZERO = estimate(0.0, 0.0, 0.04)


# --- overlap ----------------------------------------------------------------------------------


@given(st.data())
def test_the_mean_is_that_of_the_pairs(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 9))
    size = data.draw(st.integers(1, n - 1))
    ours, *theirs = (data.draw(st.permutations(range(n))) for _ in range(3))
    peers = {f"p{i}": list(map(float, one)) for i, one in enumerate(theirs)}
    found = overlap(list(map(float, ours)), peers, size, rule="r", mode="block", draws=50)
    assert found.jaccard == pytest.approx(np.mean([one.jaccard for one in found.peers]))
    assert found.expected == pytest.approx(found.peers[0].expected)
    assert len(found.chosen) == size
    assert set(found.chosen) == set(np.argsort(ours)[:size].tolist())


def test_chance_of_the_mean_is_that_of_all_sets() -> None:
    """Two methods that agree are one piece of evidence: their mean is as likely as one."""
    n, size, rng = 8, 3, np.random.default_rng(1)
    ours, a, b = (rng.permutation(n).astype(float) for _ in range(3))
    peers = {"a": a, "b": b}
    found = overlap(ours, peers, size, rule="r", mode="block")
    sets = [set(np.argsort(one)[:size].tolist()) for one in (ours, a, b)]

    def mean(chosen: set[int]) -> float:
        return float(np.mean([len(chosen & s) / len(chosen | s) for s in sets[1:]]))

    every = np.array([mean(set(one)) for one in combinations(range(n), size)])
    exact = (every >= mean(sets[0]) - 1e-12).mean()
    assert found.p_permutation == pytest.approx(exact, abs=0.012)
    turned = [mean({(i + turn) % n for i in sets[0]}) for turn in range(n)]
    assert found.p_rotation == pytest.approx(np.mean(np.array(turned) >= mean(sets[0]) - 1e-12))
    rare = overlap(range(24), {"a": range(24)}, 12, rule="r", mode="block", draws=50)
    assert rare.p_permutation == 1 / 51  # never 0: what was measured is one of the draws
    twice = overlap(ours, {"a": a, "again": a}, size, rule="r", mode="block")
    once = overlap(ours, {"a": a}, size, rule="r", mode="block")
    assert twice.p_permutation == once.p_permutation
    assert once.p_permutation == pytest.approx(once.peers[0].p_permutation, abs=0.012)


def test_an_overlap_needs_a_method() -> None:
    with pytest.raises(BridgeError, match="rule 'r' needs a published method"):
        overlap([0.0, 1.0], {}, 1, rule="r", mode="block")


# --- roles and sizes --------------------------------------------------------------------------


ORIGINS = {
    "ours": {"skip-it", "skip-it-slopes", "skip-it-runs"},
    "framework": {"var"},
    "control": {"random", "deepest-first"},
    "published": {
        *("shortgpt", "angular", "adaskip", "arank", "delask", "skip-vision"),
        *("shannon-invariants", "lvlm-pid", "shortv", "vtw", "deepinsert", "fastv", "gm-skip"),
        *("unified", "relative-error", "interchange", "cka", "svcca"),
        *("attend-transform", "information-horizon", "vision-swap"),
    },
}


def test_every_rule_has_its_origin() -> None:
    found: dict[str, set[str]] = {}
    for name, rule in RULES.items():
        found.setdefault(rule.origin, set()).add(name)
    assert found == ORIGINS


def result(
    rule: str,
    mode: str = "block",
    *,
    requires: str = "forward pass",
    origin: Origin | None = None,
    plan: SkipPlan | None = None,
    path: tuple[Step, ...] = (),
    scores: tuple[float, ...] | None = None,
    disagreement: Estimate = ZERO,
) -> RuleResult:
    score = RuleScore(
        rule, requires, mode, "m", "disagreement", 0.05, 1, 1, 0, ZERO, ZERO, ZERO, ZERO, 1.0
    )
    n = len(units(mode, LAYERS))
    empty = SkipPlan("block", LAYERS)
    searched = CertifiedPlan(plan or empty, None, path, ())
    return RuleResult(
        condition="none",
        source="someone",
        origin=origin or (RULES[rule].origin if rule in RULES else "published"),
        keep=None,
        scores=scores or tuple(map(float, range(n))),
        spent={},
        score=score,
        chosen=Chosen(searched, ZERO, disagreement, ZERO, None, None, None, None),
    )


def benchmark(*results: RuleResult) -> ModelBenchmark:
    return ModelBenchmark("m", LAYERS, 0.05, 0.05, {"test": 60}, {}, (), results, ())


@pytest.mark.parametrize(
    ("mode", "fields", "skipped", "control", "compared"),
    [
        ("block", {}, 0, 6, 6),
        ("block", {"layers": (1, 2, 3)}, 3, 3, 6),
        ("freeze", {"layers": tuple(range(20))}, 20, 12, 12),
        ("sublayer", {"attention": (1, 2), "mlp": (3,)}, 3, 3, 12),
        ("early_exit", {"exit": 16}, 8, 8, 8),
        ("late_entry", {"entry": 2}, 2, 2, 6),
        ("token_pruning", {"after": 20, "keep": 0.5}, 4, 4, 6),
    ],
)
def test_sizes(
    mode: str, fields: dict[str, Any], skipped: int, control: int, compared: int
) -> None:
    made = result("r", mode, plan=SkipPlan(mode, LAYERS, **fields) if fields else None)
    assert units_skipped(made) == skipped
    assert control_size(made) == control
    assert compared_size(made) == compared


def test_our_rankings_and_whom_they_are_compared_with() -> None:
    ours = result("skip-it", "freeze")
    slopes = [result("skip-it-slopes", mode) for mode in ("freeze", "block")]
    runs = result("skip-it-runs", "freeze", requires="candidate runs")
    both = [result("gm-skip", mode) for mode in ("freeze", "block")]
    others = [result("shortgpt"), result("shortv", "freeze"), result("random", origin="control")]
    made = benchmark(ours, *slopes, runs, *both, *others)
    assert our_conditions(made) == [ours, *slopes]

    def names(one: RuleResult) -> list[tuple[str, str]]:
        return [(peer.score.rule, peer.score.mode) for peer in peers_of(made, one)]

    frozen = [("gm-skip", "freeze"), ("shortv", "freeze")]
    assert sorted(names(ours)) == [*frozen[:1], ("shortgpt", "block"), frozen[1]]
    assert names(slopes[0]) == frozen
    assert names(slopes[1]) == [("gm-skip", "block"), ("shortgpt", "block")]


class Certifying:
    """A store whose plans of k layers change `counts[k]` of 60 images, 6 more on the test split."""

    vlm = SimpleNamespace(layout=SimpleNamespace(n_layers=LAYERS), name="m", fingerprint="f")
    splits: dict[str, tuple[Item, ...]] = {"certification": ()}  # noqa: RUF012

    def __init__(self, folder: Path, counts: dict[int, int]) -> None:
        self.folder, self.counts = folder, counts
        Image.new("RGB", (1, 1)).save(folder / "one.png")

    def outcomes(self, split: str, plans: list[SkipPlan]) -> list[Outcomes]:
        image = self.folder / "one.png"
        items = [Item(image, "?", "yes", cluster=str(i)) for i in range(60)]
        found = []
        for plan in plans:
            wrong = self.counts[len(plan.layers)] + 6 * (split == "test")
            words = ["no"] * wrong + ["yes"] * (60 - wrong)
            found.append(Outcomes.of_words(items, ["yes"] * 60, words))
        return found


def searched(rule: str, mode: str, *sizes: int) -> RuleResult:
    steps = [Step(SkipPlan(mode, LAYERS, layers=tuple(range(k))), 0.0, k / LAYERS) for k in sizes]
    return result(rule, mode, path=tuple(steps))


def test_a_promise_is_paid_for_by_all_searches(tmp_path: Path) -> None:
    """0 of 60 bounds the mean by .0487 at delta .05, by .066 at .05 / 3: two searches of three."""
    wide = replace(benchmark(), epsilon=0.08)
    one = searched("skip-it", "freeze", 2, 9)
    other = searched("skip-it-slopes", "freeze", 3, 5)
    third = searched("skip-it-slopes", "block", 8)  # fails at its first step
    peer = searched("shortgpt", "block", 12)
    store = Certifying(tmp_path, {2: 0, 9: 1, 3: 0, 5: 0, 8: 7, 12: 0})
    found = best_certified(replace(wide, rules=(one, third, other, peer)), store)  # type: ignore[arg-type]
    assert found is not None
    assert (found.rule, found.mode) == ("skip-it-slopes", "freeze")
    assert found.tested.plan.layers == tuple(range(5))  # 9 layers: 1 of 60 is too much at .05 / 3
    assert found.saving == 5 / LAYERS
    assert found.tested.disagreement.value == 0.1
    assert (found.certificate.delta, found.certificate.bound) == (0.05, 0.08)
    assert found.certificate.checked[-1] == "one of 3 searches, each at delta 0.05 / 3"
    alone = best_certified(replace(wide, rules=(one,)), store)  # type: ignore[arg-type]
    assert alone is not None
    assert alone.tested.plan.layers == tuple(range(9))


def test_no_promise_where_nothing_holds(tmp_path: Path) -> None:
    store = Certifying(tmp_path, {2: 30})
    for rules in ((), (result("skip-it", "freeze"),), (searched("skip-it", "freeze", 2),)):
        assert best_certified(benchmark(*rules), store) is None  # type: ignore[arg-type]


def test_control_plans_are_the_ends_of_the_ranking() -> None:
    scores = tuple(float(x) for x in np.random.default_rng(0).permutation(LAYERS))
    plan = SkipPlan("block", LAYERS, layers=(0, 1, 2))
    safe, unsafe = control_plans(
        result("skip-it", plan=plan, scores=scores), units("block", LAYERS)
    )
    assert {scores[i] for i in safe.layers} == {0.0, 1.0, 2.0}
    assert {scores[i] for i in unsafe.layers} == {21.0, 22.0, 23.0}
    with pytest.raises(BridgeError, match="early_exit has one plan of each size"):
        control_plans(result("skip-it", "early_exit"), units("early_exit", LAYERS))


# --- converses --------------------------------------------------------------------------------


class Known:
    """A store whose units change known numbers of images of each split."""

    sizes: ClassVar[dict[str, int]] = {"screen": 16, "tuning": 14, "test": 80}

    def __init__(self, changes: dict[int, dict[str, int]]) -> None:
        self.changes, self.splits = changes, dict.fromkeys(self.sizes)
        self.asked: list[tuple[str, int]] = []

    def outcomes(self, split: str, plans: list[SkipPlan]) -> list[Outcomes]:
        n = self.sizes[split]
        items = tuple(Item(Path(f"{split}{i}.png"), "?") for i in range(n))
        found = []
        for plan in plans:
            (layer,) = plan.layers
            self.asked.append((split, layer))
            k = self.changes.get(layer, {}).get(split, 0)
            disagree = tuple(float(i < k) for i in range(n))
            found.append(Outcomes(items, disagree, None, None, None, None))
        return found


def harm(**changes: int) -> dict[str, int]:
    return {"screen": 16, "tuning": 14, "test": 80} | changes


def ranking(is_distance: bool = True) -> Ranking:
    return Ranking("r", tuple(units("block", 8)), tuple(map(float, range(8))), is_distance)


def test_a_converse_is_found_on_tuning_images_and_confirmed_on_others() -> None:
    store = Known({1: harm(), 4: harm(), 5: {"screen": 1, "test": 1}, 6: {}, 7: harm()})
    far, near = converses([ranking()], store, epsilon=0.05)
    assert (far.claim, far.unit.layers, far.place, far.considered) == (HARMLESS, (6,), 7, 4)
    assert far.verdict == "confirmed"
    assert far.tuning.n == 30  # both parts of the tuning images
    low, high = intervals(np.zeros((80, 1)), "disagreement", 0.9)
    assert far.test.interval == (low[0], high[0])
    assert (near.claim, near.unit.layers, near.place, near.considered) == (HARMFUL, (1,), 2, 2)
    assert near.verdict == "confirmed"
    assert {layer for split, layer in store.asked if split == "test"} == {6, 1}


def test_what_was_found_may_not_be_confirmed() -> None:
    store = Known({0: {"screen": 16, "test": 0}, 7: {"test": 4}, 4: harm(), 5: harm(), 6: harm()})
    far, near = converses([ranking()], store, epsilon=0.05)
    assert (far.unit.layers, far.verdict) == ((7,), "not confirmed")  # 4 of 80 may be too many
    assert (near.unit.layers, near.verdict) == ((0,), "not confirmed")


def test_none_found_is_said() -> None:
    store = Known({layer: harm() for layer in (4, 5, 6, 7)})
    far, near = converses([ranking()], store, epsilon=0.05)
    assert far.verdict == near.verdict == "none found"
    assert (far.unit, far.test, near.tuning) == (None, None, None)
    assert not any(split == "test" for split, _ in store.asked)
    (only,) = converses([ranking(is_distance=False)], store, epsilon=0.05)
    assert only.claim == HARMLESS


def test_one_change_in_the_first_batch_finds_nothing() -> None:
    """1 of 16 is above epsilon, 1 of 30 is not; the unit of 4 of 30 is the one found."""
    store = Known({0: {"screen": 1}, 1: {"screen": 1, "tuning": 3, "test": 20}})
    (near,) = (one for one in converses([ranking()], store, epsilon=0.05) if one.claim == HARMFUL)
    assert (near.unit.layers, near.verdict) == ((1,), "confirmed")
    store = Known({0: {"screen": 1}})
    (near,) = (one for one in converses([ranking()], store, epsilon=0.05) if one.claim == HARMFUL)
    assert near.verdict == "none found"


def test_units_turned_down_by_the_first_batch_are_not_run_again() -> None:
    store = Known({4: harm(), 5: harm(), 6: {}, 7: {}})
    (far,) = converses([ranking(is_distance=False)], store, epsilon=0.05)
    assert far.unit.layers == (7,)  # of two that change nothing, the one farther outside
    assert {layer for split, layer in store.asked if split == "tuning"} == {6, 7}


# --- baselines --------------------------------------------------------------------------------


def test_blind_answers_come_from_training() -> None:
    """Training answers no to "a" and mostly yes; what is asked has it the other way round."""
    asked = tuple(
        Item(Path(f"{i}.png"), question, answer, f"g{i}")
        for i, (question, answer) in enumerate(
            [("a", "no"), ("b", "no"), ("b", "no"), ("a", "yes")]
        )
    )
    said = [("a", "no"), ("b", "yes"), ("b", "yes"), ("c", "yes")]
    training = [Item(Path("t.png"), question, answer) for question, answer in said]
    right = (1.0, 1.0, 0.0, 0.0)
    found = Accuracies.of(Outcomes(asked, right, right, right, None, None), training)
    values = [one and one.value for one in (found.model, found.blind, found.majority)]
    assert values == [0.5, 0.25, 0.25]
    unlabelled = Outcomes(asked, right, None, None, None, None)
    assert Accuracies.of(unlabelled, training) == Accuracies(None, None, None)


# --- nulls ------------------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(1, 3), st.integers(0, 5))
def test_no_question_keeps_its_image(n: int, questions: int, seed: int) -> None:
    items = [
        Item(Path(f"{i}.png"), f"q{j}", "yes", f"g{i}") for i in range(n) for j in range(questions)
    ]
    made = shuffled_images(items, seed=seed)
    assert all(
        a.image != b.image and a.cluster != b.cluster for a, b in zip(items, made, strict=True)
    )
    assert [(a.question, a.answer) for a in items] == [(b.question, b.answer) for b in made]
    assert {b.cluster: b.image for b in made} == {a.cluster: a.image for a in items}
    assert len({(b.cluster, b.question) for b in made}) == len(items)


def test_images_are_shuffled_among_two() -> None:
    with pytest.raises(BridgeError, match="at least two, got 1"):
        shuffled_images([Item(Path("a.png"), "?")])


@given(st.floats(0.01, 0.5))
def test_fewest_images_that_can_be_safe(epsilon: float) -> None:
    n = least_images(epsilon)
    ends = [intervals(np.zeros((k, 1)), "disagreement", 0.95)[1][0] for k in (n, n - 1) if k]
    assert ends[0] <= epsilon * (1 + 1e-9)
    assert n == 1 or ends[1] > epsilon


# --- conclusions ------------------------------------------------------------------------------


def pair(jaccard: float, expected: float, p: float, turned: float, n: int = LAYERS) -> Overlap:
    found = overlap(range(n), {"a": range(n)}, 2, rule="skip-it", mode="freeze", draws=1)
    values = {"jaccard": jaccard, "expected": expected, "p_permutation": p, "p_rotation": turned}
    return replace(found, **values)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (pair(0.8, 0.3, 0.01, 0.04), "supported"),
        (pair(0.8, 0.3, 0.01, 0.2), "undecided"),
        (pair(0.8, 0.3, 0.01, 0.125, n=8), "supported"),  # 8 units: rotations cannot tell
        (pair(0.8, 0.3, 0.2, 0.04), "undecided"),
        (pair(0.3, 0.3, 0.5, 0.5), "refuted"),
        (pair(0.1, 0.3, 0.9, 0.9), "refuted"),
    ],
)
def test_clause_i(found: Overlap, verdict: str) -> None:
    assert of_overlap(found) == verdict


def measured(plan: SkipPlan, disagreement: Estimate) -> Comparison:
    return Comparison(plan, DECISION, 1, None, 60, 60, 0, "", disagreement, *[None] * 5)  # type: ignore[arg-type]


def control(unsafe: Estimate, difference: Estimate, safe: Estimate = ZERO) -> Control:
    plans = [SkipPlan("block", LAYERS, layers=(layer,)) for layer in (1, 2)]
    inside, outside = measured(plans[0], safe), measured(plans[1], unsafe)
    return Control("skip-it", "block", 1, inside, outside, difference)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (control(estimate(0.4, 0.3, 0.5), estimate(0.4, 0.2, 0.6)), "supported"),
        (control(estimate(0.4, 0.04, 0.5), estimate(0.4, 0.2, 0.6)), "undecided"),
        (control(estimate(0.4, 0.3, 0.5), estimate(0.1, -0.1, 0.6)), "undecided"),
        (control(estimate(0.0, 0.0, 0.05), estimate(0.0, -0.1, 0.1)), "refuted"),
        (control(estimate(0.4, 0.3, 0.5), estimate(-0.4, -0.6, -0.2)), "refuted"),
    ],
)
def test_clause_iv(found: Control, verdict: str) -> None:
    assert of_control(found, 0.05) == verdict


SKIPPED = SkipPlan("block", LAYERS, layers=(3,))


def model(
    *,
    overlaps: tuple[Overlap, ...] = (),
    controls: tuple[Control, ...] = (),
    latency: Estimate | None = None,
    tested: Estimate = ZERO,
    certified: bool = True,
    plan: SkipPlan = SKIPPED,
) -> ModelClaims:
    result = None
    if certified:
        certificate = certify_mean(
            [0.0] * 60, range(60), quantity="disagreement", epsilon=0.05, delta=0.05
        )
        result = CertifiedPlanResult("skip-it-slopes", 0.1, certificate, measured(plan, tested))
    cost = None
    if latency is not None:
        phase = PhaseCost(10, 8, 1.0, latency.value, latency)
        cost = Cost(phase, None, 1, 1, 1, 1, 4, 9, "cpu", "float32")
    accuracies = Accuracies(None, None, None)
    return ModelClaims("made", benchmark(), accuracies, result, cost, overlaps, controls, (), ())


def verdict(found: ModelClaims, clause: str) -> str:
    (one,) = [one for one in conclusions(found) if one.clause == clause]
    return one.verdict


@pytest.mark.parametrize(
    ("latency", "said"),
    [
        (estimate(0.8, 0.7, 0.9), "supported"),
        (estimate(1.1, 1.0, 1.2), "refuted"),
        (estimate(0.9, 0.7, 1.0), "undecided"),
        (estimate(0.8, -math.inf, math.inf), "undecided"),
        (None, "undecided"),
    ],
)
def test_clause_ii(latency: Estimate | None, said: str) -> None:
    assert verdict(model(latency=latency), "ii") == said


def test_clause_iii() -> None:
    assert verdict(model(tested=estimate(0.02, 0.0, 0.09)), "iii") == "supported"
    assert verdict(model(tested=estimate(0.2, 0.051, 0.3)), "iii") == "refuted"
    assert verdict(model(certified=False), "iii") == "undecided"
    harmful = estimate(0.4, 0.3, 0.5)
    bad = control(harmful, ZERO, safe=harmful)
    assert verdict(model(certified=False, controls=(bad,)), "iii") == "refuted"
    fair = control(harmful, ZERO)
    assert verdict(model(certified=False, controls=(bad, fair)), "iii") == "undecided"


def test_rankings_must_agree() -> None:
    yes, no = pair(0.8, 0.3, 0.01, 0.04), pair(0.1, 0.3, 0.9, 0.9)
    assert verdict(model(overlaps=(yes, yes)), "i") == "supported"
    assert verdict(model(overlaps=(no, no)), "i") == "refuted"
    assert verdict(model(overlaps=(yes, no)), "i") == "undecided"
    assert verdict(model(), "i") == verdict(model(), "iv") == "undecided"
    good = control(estimate(0.4, 0.3, 0.5), estimate(0.4, 0.2, 0.6))
    assert verdict(model(controls=(good,)), "iv") == "supported"
    assert combined(["undecided"]) == "undecided"


def test_a_conclusion_says_its_numbers() -> None:
    found = model(latency=estimate(0.8, 0.7, 0.9), overlaps=(pair(0.8, 0.3, 0.01, 0.04),))
    said = {one.clause: str(one) for one in conclusions(found)}
    assert "coincide with those that popular methods skip: supported. Mean Jaccard" in said["i"]
    assert "0.80 where chance gives 0.30 (p 0.01, rotation 0.04; supported)" in said["i"]
    assert "latency of the prefill 0.80 [0.70, 0.90]" in said["ii"]
    assert "0.000 [0.000, 0.040] of the first answer tokens on 60 test images" in said["iii"]
    assert "(by skip-it-slopes) is certified" in said["iii"]


def test_a_depth_is_not_put_down_to_the_rule() -> None:
    found = model(plan=SkipPlan("late_entry", LAYERS, entry=3))
    assert "(by tuning images alone) is certified" in conclusions(found)[2].reason
