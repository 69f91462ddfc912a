"""Search for a certified plan: the path, testing in sequence, the promise kept, end to end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import Certificate, certify_mean
from theory.certificates.clopper_pearson import clopper_pearson_upper_bound
from theory.systems import toy_vlm
from vlm_bridge.data import image_hashes
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import full_answers
from vlm_bridge.evaluate.certify import certify
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.paired import paired_outcomes
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules import Evidence, find_rule, nested_plans
from vlm_bridge.selection import (
    Step,
    bands,
    certify_path,
    greedy_plans,
    lazy_path,
    pareto_path,
    saving,
    search,
    tuned_path,
)

L = 6


def plan(*layers: int) -> SkipPlan:
    return SkipPlan("block", L, layers=layers)


EMPTY = plan()

# --- the yardstick --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", RULE_MODES)
def test_saving_is_a_share_and_grows_with_the_unit(mode: str) -> None:
    found = [saving(unit, modality=0.8) for unit in units(mode, L)]
    assert all(0 < one < 1 for one in found)
    if mode in ("early_exit", "token_pruning"):
        assert found == sorted(found, reverse=True)
    if mode == "late_entry":
        assert found == sorted(found)


@pytest.mark.parametrize(
    ("skipped", "expected"),
    [
        (plan(1, 2), 2 / 6),
        (SkipPlan("early_exit", L, exit=3), 0.5 * 0.8),
        (SkipPlan("band", L, entry=1, exit=4), 0.5 * 0.8),
        (SkipPlan("freeze", L, layers=(0, 1, 2)), 0.5 * 0.8 * 11 / 12),
        (SkipPlan("vision_attention", L, layers=(0, 1)), 2 / 6 * 0.8 * 3 / 12),
        (SkipPlan("vision_mlp", L, layers=(0, 1)), 2 / 6 * 0.8 * 2 / 3),
        (SkipPlan("sublayer", L, attention=(0,), mlp=(1, 2)), (1 / 3 + 2 / 3 * 2) / 6),
        (SkipPlan("token_pruning", L, after=3, keep=0.25), 0.5 * 0.8 * 0.75),
        (
            SkipPlan("progressive_pruning", L, stages=((1, 0.75), (3, 0.5), (5, 0.1))),
            0.8 * (2 * 0.25 + 2 * 0.5 + 0.9) / 6,
        ),
        (EMPTY, 0.0),
    ],
)
def test_saving_by_hand(skipped: SkipPlan, expected: float) -> None:
    assert saving(skipped, modality=0.8) == pytest.approx(expected)


def test_saving_refuses_no_share() -> None:
    with pytest.raises(BridgeError, match=r"a share of the prompt in \[0, 1\], got 2"):
        saving(EMPTY, modality=2)


# --- candidates -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 30])
def test_bands_are_all_contiguous_ones(n: int) -> None:
    found = {(one.entry or 0, n if one.exit is None else one.exit) for one in bands(n)}
    assert found == {(a, b) for a in range(n) for b in range(a + 1, n + 1)} - {(0, n)}
    assert len(bands(n)) == len(found)


def test_bands_with_a_step_keep_the_ends() -> None:
    found = {(one.entry or 0, 7 if one.exit is None else one.exit) for one in bands(7, step=3)}
    assert found == {(0, 3), (0, 6), (3, 6), (3, 7), (6, 7)}
    with pytest.raises(BridgeError, match="at least 1, got 0"):
        bands(4, step=0)


# --- the path -------------------------------------------------------------------------------

candidates = st.lists(
    st.tuples(st.sampled_from([0.0, 0.002, 0.004, 0.01, 0.019, 0.02, 0.03, 0.3]), st.floats(0, 1)),
    max_size=12,
)


@given(candidates)
def test_the_path_saves_more_and_more_within_its_rungs(drawn: list[tuple[float, float]]) -> None:
    rates, savings = [r for r, _ in drawn], [s for _, s in drawn]
    path = pareto_path([EMPTY] * len(drawn), rates, savings, epsilon=0.02)
    assert all(a.saving < b.saving for a, b in pairwise(path))
    assert all(step.rate <= 0.02 and step.saving > 0 for step in path)
    allowed = [s for r, s in drawn if r <= 0.02 and s > 0]
    assert (path[-1].saving if path else 0.0) == max(allowed, default=0.0)
    safest = [s for r, s in drawn if r == 0 and s > 0]
    if safest:
        assert path[0].saving == max(safest)


@given(candidates)
def test_the_lazy_path_is_the_path_and_measures_no_more_than_it_must(
    drawn: list[tuple[float, float]],
) -> None:
    rates, savings = [r for r, _ in drawn], [s for _, s in drawn]
    plans = [plan(*range(i % L)) for i in range(len(drawn))]
    at = {id(one): i for i, one in enumerate(plans)}
    asked: list[int] = []

    def measure(one: SkipPlan) -> float:
        asked.append(at[id(one)])
        rate = rates[asked[-1]]
        return rate if rate <= 0.02 else 0.0201  # what was given up is known to be above

    path = lazy_path(plans, savings, measure, epsilon=0.02)
    assert path == pareto_path(plans, rates, savings, epsilon=0.02)
    enough = max((s for r, s in drawn if r == 0), default=0.0)
    assert sorted(asked) == [i for i, s in enumerate(savings) if s > 0 and s >= enough]


@given(candidates)
def test_stairs_are_smaller_plans_of_the_lowest_rung(drawn: list[tuple[float, float]]) -> None:
    rates, savings = [r for r, _ in drawn], [s for _, s in drawn]
    plans = [plan(*range(i % L)) for i in range(len(drawn))]
    without = pareto_path(plans, rates, savings, epsilon=0.02)
    path = pareto_path(plans, rates, savings, epsilon=0.02, stairs=(0.25, 0.5))
    extra = path[: len(path) - len(without)]
    assert path[len(extra) :] == without
    assert all(a.saving < b.saving for a, b in pairwise(path))
    assert all(step.rate == 0 for step in extra)
    whole = max((s for r, s in drawn if r == 0), default=0.0)
    for share in (0.25, 0.5):
        best = max((s for r, s in drawn if r == 0 and 0 < s <= share * whole), default=None)
        assert best is None or best in [step.saving for step in extra]
    at = {id(one): i for i, one in enumerate(plans)}
    asked: list[int] = []

    def measure(one: SkipPlan) -> float:
        asked.append(at[id(one)])
        return rates[asked[-1]] if rates[asked[-1]] <= 0.02 else 0.0201

    assert lazy_path(plans, savings, measure, epsilon=0.02, stairs=(0.25, 0.5)) == path
    assert len(asked) == len(set(asked))  # no candidate runs twice


def test_an_unlucky_first_step_does_not_end_a_search_with_stairs() -> None:
    """The largest plan that 40 images allow fails on others; a smaller one holds."""
    plans = [SkipPlan("block", L, layers=tuple(range(k))) for k in range(1, 5)]
    steps = pareto_path(plans, [0.0] * 4, [0.1, 0.2, 0.3, 0.4], epsilon=0.05, stairs=(0.25, 0.5))
    assert [step.saving for step in steps] == [0.1, 0.2, 0.4]

    def certify_one(one: SkipPlan) -> Certificate:
        changed = [1.0] * (20 if len(one.layers) > 2 else 0)
        values = changed + [0.0] * (100 - len(changed))
        return certify_mean(values, range(100), quantity="disagreement", epsilon=0.05, delta=0.05)

    found = certify_path(steps, certify_one, empty=EMPTY)
    assert found.plan.layers == (0, 1)
    assert certify_path(steps[-1:], certify_one, empty=EMPTY).certificate is None


def test_a_path_of_unlike_lists_is_refused() -> None:
    with pytest.raises(BridgeError, match="stairs must ascend"):
        pareto_path([], [], [], epsilon=0.1, stairs=(0.5, 0.25))
    with pytest.raises(BridgeError, match="1 plans, 0 rates and 0 savings"):
        pareto_path([EMPTY], [], [], epsilon=0.1)
    with pytest.raises(BridgeError, match="rungs must ascend"):
        pareto_path([], [], [], epsilon=0.1, rungs=(1.0, 0.5))


# --- testing in sequence --------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """As much of a certificate as `certify_path` looks at."""

    holds: bool
    bound: float = 0.0
    epsilon: float = 0.02
    checked: tuple[str, ...] = ()


@given(st.lists(st.booleans(), max_size=6))
def test_the_sequence_stops_at_the_first_that_fails(holds: list[bool]) -> None:
    path = [Step(plan(*range(i + 1)), 0.0, (i + 1) / L) for i in range(len(holds))]
    asked: list[SkipPlan] = []

    def certify_one(one: SkipPlan) -> Said:
        asked.append(one)
        return Said(holds[len(asked) - 1])

    found = certify_path(path, certify_one, empty=EMPTY)  # type: ignore[arg-type]
    passed = holds.index(False) if False in holds else len(holds)
    assert found.plan == (path[passed - 1].plan if passed else EMPTY)
    assert len(asked) == min(passed + 1, len(holds))
    assert [one.bound for one in found.certificates] == [0.0] * len(asked)
    if passed:  # a step was chosen because it holds, so its own bound is no promise any more
        assert found.certificate is not None
        assert found.certificate.bound == 0.02
        said = f"tested in a fixed sequence: step {passed} of {len(path)}, and all before it hold"
        assert found.certificate.checked == (said,)
    else:
        assert found.certificate is None


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.02, 0.05])
def test_promises_are_broken_at_most_delta_of_the_time(epsilon: float) -> None:
    """A fixed pool of images whose mean is the truth; certification images drawn from it.

    Of six nested candidates the last ones are worse than epsilon by a little, the hardest
    case. 4,000 runs: the Monte-Carlo error at .05 is .0034, allowed for three times.
    """
    rng = np.random.default_rng(0)
    rates = epsilon * np.array([0.1, 0.3, 0.6, 1.02, 1.1, 2.0])
    pool = (rng.random((5000, 1)) < rates).astype(int)  # nested: what one changes the next does
    truth = pool.mean(axis=0)
    n, delta, runs, broken, found = 700, 0.05, 4000, 0, 0
    for _ in range(runs):
        counts = pool[rng.integers(len(pool), size=n)].sum(axis=0)
        bounds = [clopper_pearson_upper_bound(int(x), n, delta) for x in counts]
        path = [Step(plan(*range(i + 1)), 0.0, (i + 1) / 7) for i in range(len(rates) - 1)]
        held = iter(bounds)
        chosen = certify_path(
            path,
            lambda _, held=held: Said(next(held) <= epsilon),
            empty=EMPTY,  # type: ignore[arg-type, return-value]
        )
        size = len(chosen.plan.layers)
        found += size > 0
        broken += size > 0 and truth[size - 1] > epsilon
    assert broken / runs <= delta + 3 * math.sqrt(delta * (1 - delta) / runs)
    assert found / runs > 0.9


# --- end to end, on a model whose safe layers are planted -----------------------------------

TOY = toy_vlm()


@pytest.fixture(scope="module")
def vlm():
    return toy_llava(TOY)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Two folders of images that differ in their corner pixel."""
    both = toy_items(TOY, tmp_path_factory.mktemp("toy"), images=240, questions_per_image=1)
    return both[:60], both[60:]


@pytest.mark.slow
def test_exact_search_over_bands_finds_the_planted_one(vlm, splits) -> None:
    tuning, certification = splits
    found = search(vlm, tuning, certification, bands(TOY.n_layers), epsilon=0.02)
    truth = TOY.truth
    entry, exit = found.plan.entry or 0, found.plan.exit
    assert entry == max(truth.safe_entries)
    assert exit == min(truth.safe_exits)
    assert found.certificate is not None
    assert found.certificate.holds
    assert found.plan.provenance.settings["candidates"] == len(bands(TOY.n_layers))


def count_batches(monkeypatch) -> list[int]:
    """How many questions every call of the model's `generate` answers, from here on."""
    asked: list[int] = []
    run = full_answers.answer_batch

    def counted(vlm, batch, **options):
        asked.append(len(batch.items))
        return run(vlm, batch, **options)

    monkeypatch.setattr(full_answers, "answer_batch", counted)
    return asked


def test_search_goes_on_where_it_was_stopped(vlm, splits, tmp_path, monkeypatch) -> None:
    tuning, certification = splits
    plans = bands(TOY.n_layers, step=5)
    first = search(vlm, tuning, certification, plans, epsilon=0.02, checkpoint=tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"tuning-full.jsonl", "certification-full.jsonl"} < set(kept)
    steps = [name for name in kept if name.startswith("certification-")]
    assert len(steps) == 1 + len(first.certificates)
    asked = count_batches(monkeypatch)
    again = search(vlm, tuning, certification, plans, epsilon=0.02, checkpoint=tmp_path)
    assert again.to_json() == first.to_json()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert asked == []
    # Killed in the middle of a line of the last step: that batch alone is run again.
    (last,) = (p for p in tmp_path.iterdir() if first.certificates[-1].plan_hash[:12] in p.name
               and p.name.startswith("certification-"))  # fmt: skip
    last.write_bytes(kept[last.name][:-20])
    again = search(vlm, tuning, certification, plans, epsilon=0.02, checkpoint=tmp_path)
    assert again.to_json() == first.to_json()
    assert len(asked) == 1


def test_the_full_model_is_run_once_on_each_split(vlm, splits, monkeypatch) -> None:
    tuning, certification = splits[0], splits[1][:96]
    layers = TOY.truth.safe_freezes
    plans = [SkipPlan("freeze", TOY.n_layers, layers=layers[:n]) for n in (1, 2)]
    asked = count_batches(monkeypatch)
    found = search(vlm, tuning, certification, plans, epsilon=0.05, batch_size=16)
    # The larger plan reaches the lowest rung, so the smaller one is not asked at all.
    assert sum(asked) == 2 * len(tuning) + 2 * len(certification)
    assert [step.plan for step in found.path] == [plans[1]]
    assert found.certificate is not None
    assert found.certificate.bound == 0.05 > found.certificates[-1].bound


def test_a_harmful_plan_is_given_up_after_a_batch(vlm, splits, monkeypatch) -> None:
    tuning = splits[0]
    harmful = [SkipPlan("early_exit", TOY.n_layers, exit=1)]
    asked = count_batches(monkeypatch)
    assert tuned_path(vlm, tuning, harmful, epsilon=0.1, batch_size=10) == []  # 6 of 60 may change
    assert asked == [10] * 6 + [10]


def test_steps_are_held_against_the_same_answers(vlm, splits, tmp_path) -> None:
    items = splits[1][:40]
    full = FullAnswers.ask(vlm, items, batch_size=8, checkpoint=tmp_path / "full.jsonl")
    assert FullAnswers.ask(vlm, items, batch_size=8, checkpoint=tmp_path / "full.jsonl") == full
    nothing = full.outcomes(vlm, SkipPlan("early_exit", TOY.n_layers, exit=TOY.n_layers))
    assert sum(nothing.disagree) == 0
    for exit in (1, 3, 7):
        one = SkipPlan("early_exit", TOY.n_layers, exit=exit)
        alone = certify(vlm, items, one, epsilon=0.3)
        shared = certify(vlm, full, one, epsilon=0.3)
        assert shared == alone
        assert full.outcomes(vlm, one).drop == paired_outcomes(vlm, items, one).drop
    tuned = replace(one, provenance=Provenance(tuned=image_hashes(items[:3])))
    with pytest.raises(BridgeError, match="of these images chose the plan"):
        certify(vlm, full, tuned)
    with pytest.raises(BridgeError, match="39 full answers for 40 questions"):
        replace(full, texts=full.texts[1:])
    other = replace(vlm, name="other")
    with pytest.raises(BridgeError, match=f"the answers of {vlm.name}, not of other"):
        full.outcomes(other, one)
    full.outcomes(vlm, one, checkpoint=tmp_path / "one.jsonl")
    lied = replace(full, texts=("else", *full.texts[1:]))
    with pytest.raises(BridgeError, match="belongs to another run"):
        lied.outcomes(vlm, one, checkpoint=tmp_path / "one.jsonl")


def test_nothing_is_promised_where_nothing_is_safe(vlm, splits) -> None:
    tuning, certification = splits
    harmful = [
        SkipPlan("block", TOY.n_layers, layers=(layer,))
        for layer in range(TOY.n_layers)
        if layer not in TOY.truth.safe_blocks
    ]
    found = search(vlm, tuning, certification, harmful, epsilon=0.02)
    assert found.plan.is_empty
    assert found.certificate is None
    assert not found.path


def test_greedy_growth_takes_every_safe_layer_first(vlm, splits) -> None:
    evidence = Evidence(vlm, splits[0][:16])
    grown = greedy_plans(find_rule("shortgpt"), evidence, "block", width=TOY.n_layers)
    safe = set(TOY.truth.safe_blocks)
    assert set(grown[len(safe) - 1].layers) == safe
    assert all(set(a.layers) < set(b.layers) for a, b in pairwise(grown))


def test_greedy_growth_of_width_one_is_the_rules_own_order(vlm, splits) -> None:
    evidence = Evidence(vlm, splits[0][:4])
    rule = find_rule("shortgpt")
    grown = greedy_plans(rule, evidence, "block", width=1, most=3)
    assert [one.layers for one in grown] == [
        one.layers for one in nested_plans(rule, evidence, "block")[:3]
    ]
    assert "full model for candidates" not in evidence.cost


def test_what_search_refuses(vlm, splits) -> None:
    tuning, certification = splits
    plans = bands(TOY.n_layers, step=6)
    with pytest.raises(BridgeError, match="60 images are in both splits"):
        search(vlm, tuning, tuning, plans)
    with pytest.raises(BridgeError, match=r"epsilon must lie strictly between 0 and 1, got 0"):
        search(vlm, tuning, certification, plans, epsilon=0)
    with pytest.raises(BridgeError, match=r"delta must lie in \(0, 1\), got 1"):
        search(vlm, tuning, certification, plans, delta=1)
    with pytest.raises(BridgeError, match="none of 0 candidates"):
        search(vlm, tuning, certification, [])
    evidence = Evidence(vlm, tuning)
    with pytest.raises(BridgeError, match="mode 'early_exit' has depths: use bands"):
        greedy_plans(find_rule("random"), evidence, "early_exit")
    with pytest.raises(BridgeError, match="width counts candidates from 1, got 0"):
        greedy_plans(find_rule("shortgpt"), evidence, "block", width=0)
