"""Parts of a run on made-up numbers: images, entry, searches, nulls, section 7, effort."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tests.vlm_bridge.claims_worlds import estimate
from tests.vlm_bridge.tiny import picture
from theory import certify_mean
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.experiments.claims import ClaimsSettings, protocol, read_asked, read_places
from vlm_bridge.experiments.claims.behaviour import calibration_error, false_yes
from vlm_bridge.experiments.claims.effort import count_effort
from vlm_bridge.experiments.claims.entry import enter
from vlm_bridge.experiments.claims.nulls import shuffled_images
from vlm_bridge.experiments.claims.plans import search_p_values
from vlm_bridge.experiments.claims.promise import ABOVE, check_promise
from vlm_bridge.experiments.claims.stability import resampled, stability
from vlm_bridge.experiments.claims.testing import null_point
from vlm_bridge.experiments.dealing import Place
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.measure.sensitivity import MarginSensitivity
from vlm_bridge.selection import CertifiedPlan, Step

SMALL = ClaimsSettings(profiling=1, tuning=2, certification=2, test=2, ranked=2)


# --- images -----------------------------------------------------------------------------------


def written(folder: Path, name: str, numbers: range) -> None:
    rows = []
    for number in numbers:
        picture(number).save(folder / f"{number}.png")
        rows += [
            {"image": f"{number}.png", "question": question, "answer": "no"}
            for question in ("is it red?", "is it blue?")
        ]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def images(items: tuple[Item, ...]) -> list[str]:
    return [item.image.name for item in items if item.image]


def test_one_file_is_dealt_in_order(tmp_path: Path) -> None:
    written(tmp_path, "all.jsonl", range(8))
    asked = read_asked(str(tmp_path / "all.jsonl"), SMALL)
    dealt = [images(part) for part in asked.splits.by_name.values()]
    assert dealt == [["0.png"], ["1.png", "2.png"], ["3.png", "4.png"], ["5.png", "6.png"]]
    assert len(asked.all_of_test) == 4
    assert not asked.training
    written(tmp_path, "few.jsonl", range(6))
    with pytest.raises(BridgeError, match="has 1 images from number 5 on, and 2 are wanted"):
        read_asked(str(tmp_path / "few.jsonl"), SMALL)
    with pytest.raises(BridgeError, match="is a file"):
        read_asked(str(tmp_path / "all.jsonl"), SMALL, {"test": Place("test", 1)})


def test_a_folder_has_a_file_for_each_split(tmp_path: Path) -> None:
    for at, name in enumerate(("profile", "tuning", "certification", "test", "train")):
        written(tmp_path, f"{name}.jsonl", range(10 * at, 10 * at + 6))
    asked = read_asked(str(tmp_path), SMALL, read_places(["test=test:3", "tuning=profile:1"]))
    assert images(asked.splits.test) == ["33.png", "34.png"]
    assert images(asked.splits.tuning) == ["1.png", "2.png"]
    assert images(asked.splits.profiling) == ["0.png"]
    assert len(asked.training) == 12
    with pytest.raises(BridgeError, match="share an image"):
        read_asked(str(tmp_path), SMALL, read_places(["tuning=profile:0"]))


@pytest.mark.parametrize("word", ["test", "test=", "tests=test:1", "test=test:x", "=test:1"])
def test_places_that_are_none(word: str) -> None:
    with pytest.raises(BridgeError, match="SPLIT=PART:FIRST"):
        read_places([word])


def test_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match="name a JSONL file, a folder of them, or one of"):
        read_asked(str(tmp_path / "none.jsonl"), SMALL)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tuning": 1}, "tuning must be at least 2, got 1"),
        ({"ranked": 500}, "ranked is 500, and there are 410"),
        ({"epsilon": 0.0}, "epsilon must lie between 0 and 1"),
        ({"delta": 1.0}, "delta must lie between 0 and 1"),
        ({"null_images": 1}, "0 or at least 2"),
        ({"samples": 0}, "samples must be at least 1"),
    ],
)
def test_settings_that_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(BridgeError, match=says):
        ClaimsSettings(**wrong)


# --- entry ------------------------------------------------------------------------------------


def book(right: int, n: int = 20, labels: bool = True) -> Any:
    items = tuple(
        Item(Path(f"{i}.png"), "is it red?", ("yes" if i % 2 else "no") if labels else None)
        for i in range(n)
    )
    texts = [(item.answer or "") if i < right else "wrong" for i, item in enumerate(items)]
    return SimpleNamespace(items=items, texts=lambda: texts)


TRAINING = [Item(Path(f"t{i}.png"), "is it red?", "yes" if i % 3 else "no") for i in range(9)]


@pytest.mark.parametrize(
    ("right", "harm", "enters"),
    [
        (13, [0.5, 0.0, 0.0], True),  # 15 points above a blind half, a third of the blocks
        (12, [0.5, 0.0, 0.0], False),
        (20, [0.5, 0.0, 0.0, 1.0], False),
        (20, [0.02, 0.9, 0.0, 1.0], True),
        (20, [0.019, 0.901, 0.95], False),
    ],
)
def test_a_model_enters_by_both_criteria(right: int, harm: list[float], enters: bool) -> None:
    found = enter(book(right), TRAINING, harm)
    assert found.enters is enters
    assert found.blind is not None
    assert found.blind.value == 0.5


def test_without_labels_harm_alone_decides() -> None:
    unlabelled = book(0, labels=False)
    assert enter(unlabelled, [], [0.5]).enters
    assert not enter(unlabelled, [], [0.0]).enters
    no_training = enter(book(20), [replace(item, answer=None) for item in TRAINING], [0.5])
    assert not no_training.enters
    assert "no training answers" in no_training.reason


# --- searches ---------------------------------------------------------------------------------


def searched(*changed: int, n: int = 100, epsilon: float = 0.1) -> CertifiedPlan:
    plans = [SkipPlan("block", 20, tuple(range(2, 3 + k))) for k in range(len(changed))]
    certificates = tuple(
        certify_mean([1.0] * x + [0.0] * (n - x), range(n), quantity="disagreement",
                     epsilon=epsilon, delta=0.05)
        for x in changed
    )  # fmt: skip
    steps = tuple(Step(plan, 0.0, 0.1) for plan in plans)
    held = sum(each.holds for each in certificates)
    plan = plans[held - 1] if held else SkipPlan("block", 20)
    return CertifiedPlan(plan, certificates[held - 1] if held else None, steps, certificates)


def test_the_p_value_of_a_search_is_the_largest_up_to_its_step() -> None:
    one = {x: float(binom.cdf(x, 100, 0.1)) for x in (0, 2, 3, 20)}
    assert search_p_values(searched(2, 0), 0.1)[0] == pytest.approx(one[2])
    assert search_p_values(searched(0, 3), 0.1)[0] == pytest.approx(one[3])
    p, opposite = search_p_values(searched(0, 20), 0.1)  # the second step fails
    assert p == pytest.approx(one[0])
    assert opposite == pytest.approx(1.0)
    p, opposite = search_p_values(searched(20), 0.1)  # nothing holds
    assert p == pytest.approx(one[20])
    assert opposite == pytest.approx(float(binom.sf(19, 100, 0.1)))
    assert search_p_values(CertifiedPlan(SkipPlan("block", 20), None, (), ()), 0.1) == (1.0, 1.0)


# --- nulls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "null", "difference", "holds", "surpasses"),
    [
        ((0.6, 0.4, 0.8), (0.1, -0.1, 0.3), (0.5, 0.1, 0.9), True, False),
        ((0.6, 0.4, 0.8), (0.5, 0.3, 0.7), (0.1, -0.1, 0.3), False, False),
        ((0.6, 0.4, 0.8), (0.9, 0.7, 1.0), (-0.3, -0.5, -0.1), False, True),
        ((0.6, 0.4, 0.8), (0.7, 0.5, 0.9), (-0.1, -0.3, 0.1), False, False),
    ],
)
def test_what_a_null_says(own, null, difference, holds, surpasses) -> None:
    sides = [estimate(*one) for one in (own, null, difference)]
    found = null_point("random weights", *sides, refutes=True)
    assert (found.holds, found.reversed) == (holds, surpasses)
    assert replace(found, reversed=False) == null_point("random weights", *sides)


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


# --- section 7 --------------------------------------------------------------------------------


def sensitivity(rows: np.ndarray[Any, Any]) -> MarginSensitivity:
    n = len(rows)
    change = np.full_like(rows, 1e9)  # the bound decides
    return MarginSensitivity(
        tuple(map(str, range(n))), np.ones(n), np.ones(n), {"block": rows}, {"block": change}
    )


COUNTED = np.arange(2, 14)


def test_a_ranking_that_no_image_disputes_is_stable() -> None:
    rows = np.tile(np.random.default_rng(0).permutation(16).astype(float), (10, 1))
    found = stability(sensitivity(rows), sensitivity(rows + 1), "block", COUNTED, other_name="x")
    assert found.jaccard.value == 1.0
    assert found.jaccard.interval == (1.0, 1.0)
    assert (found.size, found.n_units) == (3, 12)
    other = stability(sensitivity(rows), sensitivity(15.0 - rows), "block", COUNTED, other_name="x")
    assert other.jaccard.value == 0.0 < other.chance < 1.0


def test_a_ranking_that_one_image_decides_is_not() -> None:
    rng = np.random.default_rng(1)
    rows = rng.random((12, 16))
    rows[0] *= 1000
    found = stability(sensitivity(rows), sensitivity(rows), "block", COUNTED, other_name="x")
    assert found.jaccard.value == 1.0
    assert found.jaccard.interval[0] < 0.5
    drawn = resampled(sensitivity(rows), np.array([3, 3, 5]))
    assert drawn.score("block") == pytest.approx(rows[[3, 3, 5]].mean(axis=0))


def test_stability_needs_more_than_one_unit() -> None:
    rows = sensitivity(np.ones((3, 16)))
    with pytest.raises(BridgeError, match="a quarter of 1 units is all of them"):
        stability(rows, rows, "block", np.array([4]), other_name="x")


@pytest.mark.parametrize(
    ("confidence", "right", "error"),
    [
        ([1.0, 1.0], [1.0, 1.0], 0.0),
        ([1.0, 1.0], [0.0, 0.0], 1.0),
        ([0.5, 0.5], [1.0, 0.0], 0.0),  # one bin: right half of the time
        ([0.25, 0.75], [1.0, 0.0], 0.75),  # two bins, which do not cancel
        ([0.95, 0.0], [1.0, 0.0], 0.025),
    ],
)
def test_calibration_in_closed_form(confidence, right, error) -> None:
    assert calibration_error(np.array(confidence), np.array(right)) == pytest.approx(error)


def test_calibration_of_answers_that_are_as_sure_as_right() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(20_000)
    right = (rng.random(20_000) < sure).astype(float)
    assert calibration_error(sure, right) < 0.02
    assert calibration_error(np.minimum(1.0, sure + 0.3), right) > 0.15


def test_false_yes_is_of_questions_whose_answer_is_no() -> None:
    asked = [Item(Path(f"{i}.png"), "is it red?", "no") for i in range(4)]
    assert false_yes(["Yes.", "yes", "no", "red"], asked).value == 0.5
    with pytest.raises(BridgeError, match="whose answer is no"):
        false_yes(["yes"], [Item(Path("a.png"), "is it red?", "yes")])


class Certifying:
    """Certification images on which each plan changes a known share of the answers."""

    def __init__(self, rates: dict[SkipPlan, float], n: int = 200) -> None:
        self.items = tuple(Item(Path(f"{i}.png"), "?") for i in range(n))
        self.rates, self.n, self.asked = rates, n, list[SkipPlan]()

    def changed(self, plan: SkipPlan) -> np.ndarray[Any, Any]:
        self.asked.append(plan)
        x = round(self.rates[plan] * self.n)
        return np.repeat([1.0, 0.0], [x, self.n - x])

    def outcomes(self, plan: SkipPlan) -> Outcomes:
        x = round(self.rates[plan] * self.n)
        words = ["b"] * x + ["a"] * (self.n - x)
        return Outcomes.of_words(self.items, ["a"] * self.n, words)


def test_a_promise_that_can_fail_fails_as_often_as_the_binomial_says() -> None:
    at = units("block", 6)
    book: Any = Certifying({at[2]: 0.0, at[3]: 0.06, at[4]: 0.5})
    found = check_promise(
        book, [at[2]], [(0.5, at[4]), (0.07, at[3])], epsilon=0.05, delta=0.05, resamples=400,
        seed=0,
    )  # fmt: skip
    assert found.plan == at[3]
    assert found.rate == pytest.approx(0.06)
    assert 0.05 < 0.06 <= 0.05 + ABOVE
    assert at[4] not in book.asked
    most = int(binom.ppf(0.05, 200, 0.05)) - 1  # changed answers that are still certified
    while binom.cdf(most + 1, 200, 0.05) <= 0.05:
        most += 1
    wanted = float(binom.cdf(most, 200, 0.06))
    assert found.check is not None
    assert abs(found.check.rate - wanted) < 4 * (wanted * (1 - wanted) / 400) ** 0.5
    assert found.kept


def test_no_plan_lies_just_above_epsilon() -> None:
    at = units("block", 6)
    book: Any = Certifying({unit: 0.5 for unit in at})
    found = check_promise(
        book, [], [(0.5, unit) for unit in at], epsilon=0.05, delta=0.05, resamples=9, seed=0
    )
    assert (found.plan, found.check, found.kept, found.tried) == (None, None, None, 6)


def test_a_broken_promise_is_said_to_be_one() -> None:
    at = units("block", 6)
    book: Any = Certifying({at[3]: 0.06})
    found = check_promise(book, [at[3]], [], epsilon=0.05, delta=0.05, resamples=100, seed=0)
    assert found.check is not None
    assert not replace(found, check=replace(found.check, wrong=30)).kept


# --- effort -----------------------------------------------------------------------------------


def test_effort_counts_the_registered_sizes() -> None:
    effort = count_effort(30, protocol.MODES, ClaimsSettings(), seconds_per_answer=0.15)
    assert effort.answers["single units"] == (4 * 30 + 2 * 29) * 200
    assert effort.answers["nulls"] == 2 * 60 * (1 + 3 * 27 + 22 + 2)
    assert effort.hours == pytest.approx(effort.total * 0.15 / 3600)
    assert f"{effort.total:,.0f} forward passes" in effort.sentence()
    more = count_effort(30, protocol.MODES, ClaimsSettings(ranked=201), seconds_per_answer=0.15)
    assert more.total - effort.total == 1 + 178
    texts = count_effort(30, ("block",), ClaimsSettings(null_images=0), seconds_per_answer=0.15)
    assert texts.answers["nulls"] == 0
