"""States of any network: caches of hooks, sequences, padding, last tokens, a target."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import (
    PairRows,
    cosine_distance,
    last_rows,
    linear_cka,
    mutual_information,
    profile_states,
    usable_information,
)
from estimators.hooks import order, ordered_states
from estimators.token_groups import spread


def walk(depth=3, b=20, s=4, d=6, seed=0):
    rng = np.random.default_rng(seed)
    states = [rng.normal(size=(b, s, d))]
    for _ in range(depth):
        states.append(states[-1] + 0.3 * rng.normal(size=(b, s, d)))
    return states


class Cache:
    """As TransformerLens' ActivationCache: keys and items, yet no Mapping."""

    def __init__(self, table):
        self.table = table

    def keys(self):
        return self.table.keys()

    def __getitem__(self, key):
        return self.table[key]


def json(profile):
    return profile.to_json()


# --- caches of hook libraries ---------------------------------------------------------------


def test_transformer_lens_cache_is_read_whatever_else_it_holds():
    states = [torch.tensor(state) for state in walk(depth=12)]
    table = {"hook_embed": states[0], "ln_final.hook_normalized": states[-1]}
    for layer in reversed(range(12)):
        table[f"blocks.{layer}.attn.hook_pattern"] = torch.ones(20, 2, 4, 4)
        table[f"blocks.{layer}.hook_resid_pre"] = states[layer]
        table[f"blocks.{layer}.hook_resid_mid"] = states[layer] * 7
        table[f"blocks.{layer}.hook_resid_post"] = states[layer + 1]
    found = profile_states(Cache(table))
    assert json(found) == json(profile_states(states))
    assert found.n_layers == 12


def test_inputs_alone_give_one_layer_less_and_outputs_alone_too():
    states = walk()
    before = {f"blocks.{layer}.hook_resid_pre": states[layer] for layer in range(3)}
    after = {f"blocks.{layer}.hook_resid_post": states[layer + 1] for layer in range(3)}
    assert json(profile_states(before)) == json(profile_states(states[:3]))
    assert json(profile_states(after)) == json(profile_states(states[1:]))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: (s, None), lambda s: trace(s, "output")])
@pytest.mark.parametrize("name", ["model.layers.{}", "transformer.h.{}.output", "encoder/{}/out"])
def test_module_names_are_sorted_by_their_number(name, wrap):
    states = walk(depth=11)
    table = {name.format(layer): wrap(states[layer]) for layer in (10, 2, 11, 0, *range(3, 10), 1)}
    assert json(profile_states(table)) == json(profile_states(states))


def trace(state, attribute):
    return SimpleNamespace(**{attribute: state})


def test_an_embedding_comes_first_and_saved_proxies_are_opened():
    states = [trace(torch.tensor(state), "value") for state in walk()]
    names = ("model.layers.0", "model.layers.1", "model.layers.2", "model.embed_tokens")
    table = dict(zip(names, [*states[1:], states[0]], strict=True))
    assert json(profile_states(table)) == json(profile_states(walk()))


def test_names_without_numbers_keep_their_order():
    assert order(["embed", "middle", "end"]) == ["embed", "middle", "end"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["h.0", "h.1", "h.3"], "layer 2 is missing between h.0 and h.3"),
        (
            ["blocks.0.hook_resid_pre", "blocks.2.hook_resid_pre"],
            "layer 1 is missing between blocks.0",
        ),
        (
            ["blocks.0.hook_resid_pre", "blocks.2.hook_resid_post"],
            "block 2 has an output but no hook_resid_pre",
        ),
        (["h.0.attn", "h.0.mlp", "h.1.mlp"], r"not one state per layer: h\.#\.attn, h\.#\.mlp"),
        (["h.0.1", "h.1.2"], r"not one state per layer: h\.0\.1, h\.1\.2"),
        (["h.0", "h.1", "norm"], "norm: neither a layer nor a single embedding"),
        (["h.0", "embed", "wte"], "embed, wte: neither a layer"),
    ],
)
def test_names_that_leave_doubt_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        order(names)


def test_half_precision_and_gradients_come_along():
    states = [torch.tensor(state, requires_grad=True) for state in walk()]
    exact = profile_states(walk())
    assert json(profile_states(states)) == json(exact)
    for dtype in (torch.float16, torch.bfloat16):
        half = profile_states([state.to(dtype) for state in states])
        wanted = exact.values("all", "norm_ratio")
        np.testing.assert_allclose(half.values("all", "norm_ratio"), wanted, rtol=1e-2)
    single = profile_states([state.float() for state in states])
    for measure in ("cosine_distance", "cka", "relative_update_norm"):
        wanted = exact.values("all", measure)
        np.testing.assert_allclose(single.values("all", measure), wanted, rtol=2e-6)
    assert isinstance(ordered_states(states)[0], np.ndarray)


# --- sequences, groups, the last token ------------------------------------------------------


def test_sequences_are_the_clusters_of_their_tokens():
    states = walk()
    flat = [state.reshape(80, 6) for state in states]
    alike = profile_states(flat, clusters=np.repeat(np.arange(20), 4))
    assert json(profile_states(states)) == json(alike)
    images = np.arange(20) // 2
    per_sequence = profile_states(states, clusters=images)
    assert json(per_sequence) == json(profile_states(flat, clusters=np.repeat(images, 4)))
    assert per_sequence.n_images == 10


def test_masks_of_either_shape_and_padding_that_holds_anything():
    states = walk()
    text = np.zeros((20, 4), dtype=bool)
    text[:, 1:] = True
    for state in states:
        state[:, 0] = 0.0  # a zero row has no direction
    found = profile_states(states, token_groups={"text": text})
    assert json(found) == json(profile_states(states, token_groups={"text": text.ravel()}))
    alone = profile_states([state[:, 1:] for state in states])
    assert found.estimates("text", "cka") == alone.estimates("all", "cka")
    assert found.n_rows == {"text": 60}
    with pytest.raises(ValueError, match=r"layer 0, group 'all' .*: row 0 of x is the zero vector"):
        profile_states(states)


def test_last_tokens_are_the_last_that_count():
    states = walk()
    lengths = np.random.default_rng(0).integers(1, 5, size=20)
    tokens = np.arange(4) < lengths[:, None]
    found = profile_states(states, token_groups={"text": tokens}, last_token=True)
    rows = [state[np.arange(20), lengths - 1] for state in states]
    assert found.groups == ("text", "last")
    for layer in range(3):
        wanted = cosine_distance(rows[layer], rows[layer + 1]).mean()
        assert found.values("last", "cosine_distance")[layer] == pytest.approx(wanted, abs=1e-12)
    flat = [state.reshape(80, 6) for state in states]
    again = profile_states(
        flat,
        clusters=np.repeat(np.arange(20), 4),
        token_groups={"text": tokens.ravel()},
        last_token=True,
    )
    assert json(again) == json(found)


def test_every_sequence_has_a_last_token_though_two_share_an_image():
    found = profile_states(walk(), clusters=np.arange(20) // 2, last_token=True)
    assert found.n_rows["last"] == 20
    assert found.estimates("last", "cosine_distance")[0].n == 10


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_last_rows_by_loop(labels):
    wanted = sorted({label: row for row, label in enumerate(labels)}.values())
    assert last_rows(labels).tolist() == wanted
    x, y = np.random.default_rng(0).normal(size=(2, len(labels), 3))
    alone = PairRows.of(x, y).select(last_rows(labels))
    assert (alone.cosine == cosine_distance(x[wanted], y[wanted])).all()


def test_cka_is_the_plain_one_and_a_sample_of_clusters_where_rows_abound():
    states = walk(b=60)
    found = profile_states(states)
    codes = np.repeat(np.arange(60), 4)
    plain = linear_cka(states[1].reshape(240, 6), states[2].reshape(240, 6), clusters=codes)
    assert found.estimates("all", "cka")[1] == plain
    few = profile_states(states, cka_rows=100).estimates("all", "cka")[1]
    assert (few.n, few.diagnostics["n_rows"]) == (25, 100)
    assert few.interval[0] < plain.value < few.interval[1]


def test_cka_takes_no_more_clusters_than_it_needs():
    states = [state.reshape(320, 6) for state in walk(b=80)]
    sizes = np.r_[np.ones(40, dtype=int), np.full(40, 7)]  # one row, or seven
    codes = np.repeat(np.arange(80), sizes)
    for seed in range(5):
        one = profile_states(states, clusters=codes, cka_rows=50, seed=seed).estimates(
            "all", "cka"
        )[0]
        assert 50 <= one.diagnostics["n_rows"] < 57


def test_a_state_without_spread_is_aligned_with_nothing():
    flat = np.ones((8, 3))
    found = profile_states([flat, flat * 2.0]).estimates("all", "cka")[0]
    assert np.isnan(found.value)
    assert "all rows of a state are equal" in found.reason
    assert "cka" not in profile_states([flat[:3], flat[:3]]).measures["all"]


# --- a target -------------------------------------------------------------------------------


def test_what_layers_tell_about_a_target():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(600, 1))
    states = [
        np.hstack((rng.normal(size=(600, 2)), target + s * rng.normal(size=(600, 1))))
        for s in (3.0, 1.0, 0.3)
    ]
    found = profile_states(states, target)
    after = found.values("all", "mutual_information")
    before = found.values("all", "mutual_information_before")
    assert before[1] == after[0]
    assert before[0] < after[0] < after[1]
    for layer, state in enumerate(states[1:]):
        one = found.estimates("all", "mutual_information")[layer]
        assert one == mutual_information(state, target, clusters=np.arange(600))
        other = found.estimates("all", "usable_information")[layer]
        assert other == usable_information(state, target, method="linear", clusters=np.arange(600))
    column = profile_states(states, target[:, 0])
    assert column.measures == found.measures


def test_a_target_of_labels():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, size=400)
    states = [rng.normal(size=(400, 2)), label[:, None] + 0.2 * rng.normal(size=(400, 2))]
    states.insert(1, np.where(np.arange(2) > 0, states[0], states[1]))
    found = profile_states(states, np.array(["cat", "dog"])[label])
    for name in ("usable_information", "mutual_information"):
        assert found.values("all", f"{name}_before")[0] == pytest.approx(0.0, abs=0.05)
        assert found.values("all", name)[1] == pytest.approx(np.log(2), abs=0.05)


def test_a_target_per_sequence_goes_to_every_token():
    assert spread(np.array(["a", "b"]), (2, 2), "targets").tolist() == ["a", "a", "b", "b"]
    assert spread(np.arange(4).reshape(2, 2), (2, 2), "targets").tolist() == [0, 1, 2, 3]
    assert spread(np.ones((4, 3)), (2, 2), "targets").shape == (4, 3)


def test_progress_is_told():
    seen = []
    profile_states(walk(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: profile_states(walk(), token_groups=np.arange(20)),
            "labels of independent.*clusters=",
        ),
        (lambda: profile_states(walk(), clusters=[1, 2]), "80 rows in 20 sequences but 2 cluster"),
        (lambda: profile_states(walk(), np.ones(7)), "80 rows in 20 sequences but 7 targets"),
        (
            lambda: profile_states(walk(), token_groups={"a": np.ones(20, dtype=bool)}),
            r"group 'a' needs a boolean mask of shape \(20, 4\) or \(80,\)",
        ),
        (
            lambda: profile_states(
                walk(), token_groups={"last": np.ones(80, dtype=bool)}, last_token=True
            ),
            "a token group is already called 'last'",
        ),
        (lambda: profile_states([np.ones(3), np.ones(3)]), r"\(n, d\) or \(b, s, d\).*has \(3,\)"),
        (lambda: profile_states({}), "at least two states are needed, got 0"),
        (lambda: profile_states([[[1.0], [1.0, 2.0]], [[1.0]]]), "state 0 is no array"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
