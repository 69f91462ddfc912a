import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import (
    MEASURES,
    TAIL_GRID,
    MeanAccumulator,
    PairAccumulator,
    PairRows,
    Profile,
    cosine_distance,
    profile_states,
)
from estimators.profile import QUANTILE_LEVELS


def walk(layers=3, n=60, d=8, seed=0):
    rng = np.random.default_rng(seed)
    states = [rng.normal(size=(n, d))]
    for _ in range(layers):
        states.append(states[-1] + 0.3 * rng.normal(size=(n, d)))
    return states


IMAGES = np.repeat(np.arange(20), 3)
MASKS = {"vision": np.arange(60) % 3 > 0, "text": np.arange(60) % 3 == 0}


def accumulators(layers=2, rows=40):
    out = []
    for layer in range(layers):
        pair = PairAccumulator()
        if rows:
            x = np.random.default_rng(layer).normal(size=(rows, 4))
            pair.update(PairRows.of(x, x + 1.0), np.arange(rows))
        out.append(pair)
    return out


def means(layers=2, rows=40):
    out = []
    for layer in range(layers):
        mean = MeanAccumulator(bounds=(0.0, 1.0))
        mean.update(np.full(rows, 0.1 * layer), np.arange(rows))
        out.append(mean)
    return out


@given(st.integers(1, 4), st.integers(2, 30), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_profile_of_states_equals_the_plain_means(layers, n, seed):
    states = walk(layers, n, seed=seed)
    profile = profile_states(states)
    plain = [cosine_distance(a, b).mean() for a, b in pairwise(states)]
    np.testing.assert_allclose(profile.values("all", "cosine_distance"), plain, atol=1e-12)
    assert (profile.n_layers, profile.n_images, profile.n_rows) == (layers, n, {"all": n})


def test_groups_are_profiled_apart():
    states = walk()
    profile = profile_states(states, clusters=IMAGES, token_groups=MASKS, model="toy")
    assert profile.groups == ("vision", "text")
    assert profile.n_rows == {"vision": 40, "text": 20}
    assert (profile.n_images, profile.model) == (20, "toy")
    for group, mask in MASKS.items():
        alone = profile_states([s[mask] for s in states], clusters=IMAGES[mask])
        for name in MEASURES:
            assert profile.estimates(group, name) == alone.estimates("all", name)
        assert profile.tails[group] == alone.tails["all"]


def test_clusters_widen_intervals_but_leave_values():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8))
    shared = np.repeat(rng.random(40), 10)[:, None]
    states = [x, x + shared * rng.normal(size=x.shape)]
    alone = profile_states(states).estimates("all", "cosine_distance")[0]
    labels = [f"image {i // 10}" for i in range(400)]
    tied = profile_states(states, clusters=labels).estimates("all", "cosine_distance")[0]
    assert tied.value == pytest.approx(alone.value)
    assert np.ptp(tied.interval) > 1.5 * np.ptp(alone.interval)
    assert (alone.n, tied.n) == (400, 40)


def test_a_group_without_rows_is_left_out():
    empty = {"all": np.ones(60, dtype=bool), "audio": np.zeros(60, dtype=bool)}
    assert profile_states(walk(), token_groups=empty).groups == ("all",)


def test_a_mapping_of_states_is_read_in_its_order():
    states = walk()
    named = {f"block {i}": state for i, state in enumerate(states)}
    assert profile_states(named).to_json() == profile_states(states).to_json()


def test_the_hash_follows_data_and_clusters():
    states = walk()
    base = profile_states(states, clusters=IMAGES).data_hash
    assert profile_states(walk(), clusters=[f"i{c}" for c in IMAGES]).data_hash == base
    assert profile_states(states).data_hash != base
    assert profile_states(walk(seed=1), clusters=IMAGES).data_hash != base


def test_tensors_are_accepted():
    torch = pytest.importorskip("torch")
    states = [torch.tensor(s, requires_grad=True) for s in walk()]
    assert profile_states(states).to_json() == profile_states(walk()).to_json()
    half = profile_states([s.to(torch.bfloat16) for s in states])
    exact = profile_states(walk()).values("all", "norm_ratio")
    np.testing.assert_allclose(half.values("all", "norm_ratio"), exact, rtol=1e-2)


def test_build_with_extra_measures():
    profile = Profile.build(
        "toy",
        {"text": accumulators(), "vision": accumulators(rows=0)},
        extra={
            "text": {"var": means()},
            "other": {"var": means(rows=30)},
            "none": {"var": means(rows=0)},
        },
        n_images=40,
        data_hash="abc",
        quantile_levels=(0.5,),
    )
    assert profile.groups == ("text", "other")
    assert profile.values("text", "var").tolist() == [0.0, 0.1]
    assert tuple(profile.measures["text"]) == (*MEASURES, "var")
    assert profile.n_rows == {"text": 40, "other": 30}
    assert tuple(profile.tails) == ("text",)
    assert profile.tail_grid == TAIL_GRID
    assert len(profile.quantiles["text"][0]) == 1
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_default_quantiles_hold_the_middle_80_percent():
    profile = profile_states(walk())
    assert {0.1, 0.5, 0.9} < set(QUANTILE_LEVELS)
    assert profile.quantile_levels == QUANTILE_LEVELS == tuple(sorted(QUANTILE_LEVELS))
    distance = cosine_distance(*walk()[:2])
    exact = np.quantile(distance, QUANTILE_LEVELS, method="inverted_cdf")
    np.testing.assert_allclose(profile.quantiles["all"][0], exact, atol=1 / 4096)


def test_json_round_trip_is_strict():
    profile = profile_states(walk(), clusters=IMAGES, token_groups=MASKS)
    text = json.dumps(profile.to_json(), allow_nan=False)
    assert Profile.from_json(json.loads(text)) == profile
    assert "state l is the input of layer l" in profile.index_convention


@pytest.mark.parametrize("change", [{"schema_version": 99}, {"type": "Estimate"}, {"x": 1}])
def test_foreign_json_is_refused(change):
    data = {**profile_states(walk()).to_json(), **change}
    with pytest.raises(ValueError, match=r"version 99|not of type Profile|does not know x"):
        Profile.from_json(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 4}, r"measures\[all\]\[cosine_distance\] has 3 entries, expected 4"),
        ({"groups": ()}, r"measures has groups not in \(\): \['all'\]"),
        ({"tail_grid": (0.1,)}, r"tails\[all\]\[0\] has 9 entries, expected 1"),
        ({"quantiles": {"all": ((0.5,),)}}, r"quantiles\[all\] has 1 entries, expected 3"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(profile_states(walk()), **change)


@pytest.mark.parametrize(
    ("group", "measure", "message"),
    [
        ("vision", "norm_ratio", "no group 'vision'; this profile has all"),
        ("all", "var", "group 'all' has no 'var'; it has cosine_distance, angular_distance"),
    ],
)
def test_missing_values_name_those_that_exist(group, measure, message):
    with pytest.raises(ValueError, match=message):
        profile_states(walk()).values(group, measure)


def build(accs, extra=None):
    return Profile.build("toy", accs, extra=extra, n_images=1, data_hash="")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build({}), r"one accumulator per layer, got \{\}"),
        (lambda: build({"a": []}), r"one accumulator per layer, got \{'a': 0\}"),
        (
            lambda: build({"a": accumulators(2), "b": accumulators(3)}),
            r"one accumulator per layer, got \{'a': 2, 'b': 3\}",
        ),
        (lambda: build({"a": accumulators(rows=0)}), "no group has any rows"),
        (
            lambda: build({"a": accumulators(1) + accumulators(1, rows=0)}),
            "a: layer 1 has 0 rows, layer 0 has 40",
        ),
        (
            lambda: build({"a": accumulators()}, {"a": {"norm_ratio": means()}}),
            "'norm_ratio' is a standard measure",
        ),
        (lambda: profile_states([np.ones((2, 2))]), "at least two states are needed, got 1"),
        (lambda: profile_states([np.ones(2), np.ones(2)]), r"state 0 has \(2,\)"),
        (lambda: profile_states(walk(), clusters=[1, 2]), "60 rows but 2 cluster labels"),
        (
            lambda: profile_states(walk(), token_groups={"v": np.ones(60)}),
            r"group 'v' needs a boolean mask of shape \(60,\), got float64",
        ),
        (
            lambda: profile_states([*walk(1), np.ones((59, 8))]),
            r"state 2 has shape \(59, 8\) but state 0 has \(60, 8\)",
        ),
        (
            lambda: Profile.build(
                "toy",
                {"a": accumulators()},
                estimates={"a": {"norm_ratio": []}},
                n_images=1,
                data_hash="",
            ),
            "group 'a' has no rows, or has 'norm_ratio' already",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
