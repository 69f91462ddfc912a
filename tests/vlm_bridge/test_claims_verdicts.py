"""Verdicts: Holm, the points, seeds, all models; and worlds whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.claims_worlds import all_tests, made_test, null, passing, run, world
from theory.certificates.families import rejected
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims import protocol
from vlm_bridge.experiments.claims.p_values import rank_test
from vlm_bridge.experiments.claims.results import Point, TestResult
from vlm_bridge.experiments.claims.testing import null_point, worse
from vlm_bridge.experiments.claims.verdicts import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Verdict,
    holm,
    judge,
    overall,
)

P_VALUES = st.lists(st.floats(0, 0.2) | st.floats(0, 1), min_size=1, max_size=12)


@given(P_VALUES, st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], level: float) -> None:
    adjusted = holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    plain: set[int] = set()
    for step, i in enumerate(order):
        if p[i] > level / (len(p) - step):
            break
        plain.add(i)
    if min(abs(adjusted - level)) > 1e-9:  # away from rounding at the level itself
        assert (
            set(np.flatnonzero(adjusted <= level))
            == plain
            == set(rejected(p, level, control="holm"))
        )


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.04, 0.001, 0.9]) == pytest.approx([0.08, 0.003, 0.9])


@given(P_VALUES)
def test_holm_keeps_the_order_and_never_helps(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-12).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize("p", [[0.5, 1.5], [-0.1], [float("nan")], [[0.1]]])
def test_what_holm_refuses(p) -> None:
    with pytest.raises(BridgeError, match="numbers in"):
        holm(p)


def only(*tests: TestResult, **fields) -> Verdict:
    (verdict,) = judge([run("m", *tests, **fields)])
    return verdict


def test_a_test_that_rejects_with_every_point_is_supported() -> None:
    assert only(made_test("V2-measurable", 0.001)).verdict == SUPPORTED


def test_every_point_is_needed() -> None:
    for number, point in enumerate(passing()):
        points = list(passing())
        points[number] = replace(point, holds=False)
        found = only(made_test("V2-measurable", 0.001, points=tuple(points)))
        assert found.verdict == UNDECIDED
        assert any(point.name in reason for reason in found.reasons)


def test_correction_is_over_all_tests_of_all_models() -> None:
    lone = [run("a", made_test("V2-measurable", 0.02))]
    assert judge(lone)[0].verdict == SUPPORTED
    many = [*lone, run("b", made_test("V2-measurable", 0.9), made_test("V1-safe", 0.9))]
    found = judge(many)
    assert found[0].verdict == UNDECIDED
    assert found[0].adjusted == pytest.approx(0.06)


def test_the_opposite_direction_refutes() -> None:
    assert only(made_test("V2-measurable", 0.999, 0.001)).verdict == REFUTED
    assert only(made_test("V2-measurable", 0.8, 0.2)).verdict == UNDECIDED


def test_a_null_that_surpasses_the_model_refutes_though_the_test_rejects() -> None:
    points = (null(protocol.RANDOM_WEIGHTS, 0.6, 0.9), passing()[1])
    found = only(made_test("V2-measurable", 0.0001, points=points))
    assert found.verdict == REFUTED
    assert "random weights give at least as large a value" in found.reasons


def test_a_null_that_equals_the_model_is_no_support() -> None:
    points = (null(protocol.RANDOM_WEIGHTS, 0.6, 0.6), passing()[1])
    assert only(made_test("V2-measurable", 0.0001, points=points)).verdict == UNDECIDED


def test_seeds_are_one_model_and_the_worse_counts() -> None:
    seeds = [
        run("m", made_test("V1-safe", 0.0001), fingerprint="1"),
        run("m", made_test("V1-safe", 0.2), fingerprint="2"),
    ]
    (found,) = judge(seeds)
    assert (found.p, found.verdict) == (0.2, UNDECIDED)
    half = replace(seeds[1], tests=(made_test("V1-safe", 0.001, points=(
        null(protocol.RANDOM_WEIGHTS, 0.6, 0.9), passing()[1])),))  # fmt: skip
    (found,) = judge([seeds[0], half])
    assert found.verdict == UNDECIDED  # reversed in one seed only, and its point fails there


def test_models_that_do_not_enter_count_in_nothing() -> None:
    out = run("b", *all_tests(0.5), enters=False)
    with_it = judge([run("a", made_test("V1-safe", 0.04)), out])
    assert [each.model for each in with_it] == ["a"]
    assert with_it[0].adjusted == pytest.approx(0.04)
    other_seed = run("b", *all_tests(0.001), fingerprint="2")
    assert not judge([out, other_seed])


def test_results_of_two_protocols_are_not_joined() -> None:
    one, other = run("a", *all_tests(0.5)), run("b", *all_tests(0.5))
    for change in ({"protocol": "f" * 40}, {"protocol_sha256": "0" * 64}):
        with pytest.raises(BridgeError, match=r"2 versions of docs/protocol\.md"):
            judge([one, replace(other, **change)])
    with pytest.raises(BridgeError, match="twice with the same weights, as a and b"):
        judge([one, replace(other, fingerprint=one.fingerprint)])


def test_only_runs_of_equal_settings_and_data_are_joined() -> None:
    one, other = run("a", *all_tests(0.5)), run("b", *all_tests(0.5), settings={"epsilon": 0.2})
    with pytest.raises(BridgeError, match=r"different settings \(epsilon 0.2 \(registered: 0.05\)"):
        judge([one, other])
    assert judge([other])  # alone it is judged, and its page says that it confirms nothing
    assert run("c", settings={"batch_size": 4, "anyway": True}).unregistered == ()
    seed = replace(one, fingerprint="2", data="other")
    with pytest.raises(BridgeError, match="answer the same data"):
        judge([one, seed])


def test_a_clause_that_a_seed_lacks_is_undecided() -> None:
    seeds = [run("m", made_test("V1-safe", 0.0001)), run("m", fingerprint="2")]
    (found,) = judge(seeds)
    assert (found.verdict, found.p) == (UNDECIDED, 1.0)
    assert "only 1 of 2 seeds could be tested" in found.reasons


def test_several_modes_are_one_test_of_the_worse_p_values_and_all_points() -> None:
    block = made_test("V1-coincide", 0.001, 1.0, mode="block")
    failing = (null(protocol.RANDOM_WEIGHTS, 0.6, 0.6), passing()[1])
    freeze = made_test("V1-coincide", 0.001, 0.002, points=failing)
    for pair in ([block, freeze], [freeze, block]):
        found = worse(pair)
        assert (found.p, found.p_opposite) == (0.001, 1.0)
        assert only(found).verdict == UNDECIDED
    assert only(worse([block, made_test("V1-coincide", 0.9, 0.001)])).verdict == UNDECIDED


def models(clause: str, *verdicts: str) -> list[Verdict]:
    return [
        Verdict(clause, f"m{i}", verdict, verdict, 0.5, 0.5, 0.5, 0.5, ())
        for i, verdict in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("clause", "verdicts", "expected"),
    [
        ("V1-safe", [SUPPORTED] * 4, SUPPORTED),
        ("V1-safe", [SUPPORTED] * 3, UNDECIDED),
        ("V1-safe", [SUPPORTED] * 4 + [UNDECIDED], SUPPORTED),
        ("V1-safe", [SUPPORTED] * 4 + [REFUTED], UNDECIDED),
        ("V1-safe", [SUPPORTED] * 4 + [REFUTED] * 2, REFUTED),
        ("V2-early", [SUPPORTED] * 4 + [UNDECIDED], SUPPORTED),
        ("V2-early", [REFUTED] + [SUPPORTED] * 4, REFUTED),
        ("V2-late", [], UNDECIDED),
    ],
)
def test_over_models(clause, verdicts, expected) -> None:
    found = overall(models(clause, *verdicts))
    (own,) = [each for each in found if each.clause == clause]
    assert own.verdict == own.without_shuffled == expected
    assert sum(own.counts.values()) == len(verdicts)
    assert [each.clause for each in found] == list(protocol.CLAUSES)


def simulated(seed: int, *, coupled: float, copy: str) -> Verdict:
    """One model of 30 layers; its null is unrelated, equal, or the only one that is related."""
    scores, changed, depth = world(30, 60, seed, coupled=coupled)
    own = rank_test(scores, changed, depth, samples=199, seed=seed)
    other = own
    if copy == "unrelated":
        other = rank_test(*world(30, 60, seed + 50_000, coupled=0.0), samples=199, seed=seed)
    if copy == "stronger":
        other = rank_test(*world(30, 60, seed + 50_000, coupled=1.0), samples=199, seed=seed)
    points: tuple[Point, ...] = tuple(
        null_point(name, own.estimate, other.estimate, own.minus(other), refutes=True)
        for name in protocol.NULLS
    )
    result = TestResult(
        "V2-measurable", "freeze", own.estimate, own.p, own.p_opposite, points, own.rotation_p
    )
    (verdict,) = judge([run("m", result)])
    return verdict


def test_harm_of_noise_and_depth_is_supported_no_more_often_than_alpha() -> None:
    found = [simulated(seed, coupled=0.0, copy="unrelated").verdict for seed in range(200)]
    assert found.count(SUPPORTED) / 200 <= 0.05
    assert found.count(REFUTED) / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_a_score_that_is_harm_is_supported() -> None:
    found = [simulated(seed, coupled=1.0, copy="unrelated").verdict for seed in range(40)]
    assert found.count(SUPPORTED) > 30
    assert REFUTED not in found


def test_a_random_copy_that_does_the_same_is_never_supported() -> None:
    found = [simulated(seed, coupled=1.0, copy="equal").verdict for seed in range(40)]
    assert set(found) == {UNDECIDED}


def test_a_random_copy_that_does_better_refutes() -> None:
    found = [simulated(seed, coupled=0.0, copy="stronger").verdict for seed in range(60)]
    assert SUPPORTED not in found
    assert found.count(REFUTED) > 30


def test_a_clause_that_only_shuffled_images_reproduce_is_undecided_and_said() -> None:
    points = (null(protocol.RANDOM_WEIGHTS, 0.6, 0.1), null(protocol.SHUFFLED, 0.6, 0.6))
    (found,) = judge([run("m", made_test("V2-measurable", 1e-6, points=points))])
    assert (found.verdict, found.without_shuffled) == (UNDECIDED, SUPPORTED)
    points = (null(protocol.RANDOM_WEIGHTS, 0.6, 0.6), null(protocol.SHUFFLED, 0.6, 0.6))
    (found,) = judge([run("m", made_test("V2-measurable", 1e-6, points=points))])
    assert (found.verdict, found.without_shuffled) == (UNDECIDED, UNDECIDED)
