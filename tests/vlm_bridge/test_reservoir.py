"""The sample does not depend on how the run was cut, is what plain hooks see, and is uniform."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import profile_states
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.observe import profile as profiling
from vlm_bridge.observe.collector import Collector
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.observe.profile import profile
from vlm_bridge.observe.reservoir import MANIFEST, STATES, Reservoir, Samples


def sampled(items, *, batch_size=3, **settings):
    reservoir = Reservoir(**settings)
    profile(tiny_llava(), items, batch_size=batch_size, reservoir=reservoir)
    return reservoir.samples


def test_rows_are_the_states_they_say_they_are(items):
    vlm, samples = tiny_llava(), sampled(items, rows=7)
    whole = {}
    with torch.no_grad():
        for batch in batches(vlm, items, batch_size=3):
            seen = {}
            with capturing_states(vlm, lambda i, x, y, s=seen: s.update({i: x, i + 1: y})):
                vlm.model(**batch.inputs)
            for row, place in enumerate(batch.places):
                real = batch.inputs["attention_mask"][row].bool()
                whole[place] = [seen[i][row, real] for i in range(5)]
    for group, rows in samples.rows.items():
        states = samples.states(group)
        assert len(states) == 5
        assert rows == sorted(rows, key=lambda row: (row["item"], row["token"]))
        for number, row in enumerate(rows):
            assert row["image"] == items[row["item"]].cluster
            for depth in range(5):
                want = whole[row["item"]][depth][row["token"]].numpy()
                np.testing.assert_allclose(states[depth][number], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_batch_size_and_order_change_nothing(items, size):
    one, other = sampled(items, rows=5, batch_size=3), sampled(items, rows=5, batch_size=size)
    assert one.rows == other.rows
    assert {group: len(rows) for group, rows in one.rows.items()} == {"image": 5, "text": 5}
    for group, states in one.arrays.items():
        np.testing.assert_allclose(states, other.arrays[group], rtol=1e-3, atol=1e-4)


def test_a_group_smaller_than_the_reservoir_is_kept_whole(items):
    samples = sampled(items[:1], rows=500)
    profiled = profile(tiny_llava(), items[:1], reservoir=None)
    assert {g: len(rows) for g, rows in samples.rows.items()} == dict(profiled.n_rows)


def test_the_seed_decides(items):
    seeds = [sampled(items, rows=4, seed=seed).rows for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_samples_feed_the_estimators(items):
    """With every row kept, the profile of the samples is the streamed profile."""
    vlm, reservoir = tiny_llava(), Reservoir(rows=1000)
    streamed = profile(vlm, items, reservoir=reservoir)
    samples = reservoir.samples
    again = profile_states(samples.states("image"), clusters=samples.images("image"))
    np.testing.assert_allclose(
        again.values("all", "cosine_distance"),
        streamed.values("image", "cosine_distance"),
        rtol=1e-3,
        atol=1e-6,
    )
    assert again.n_images == streamed.n_images == len({item.cluster for item in items})


def test_projection_is_one_matrix_and_keeps_lengths_on_average(items):
    whole, projected = sampled(items, rows=6), sampled(items, rows=6, width=3, seed=0)
    matrix = Reservoir(rows=1, width=3).projection(32).numpy()
    for group in whole.arrays:
        np.testing.assert_allclose(
            projected.arrays[group], whole.arrays[group] @ matrix, rtol=1e-3, atol=1e-3
        )
    wide = Reservoir(rows=1, width=4000, seed=5).projection(32)
    assert torch.linalg.svdvals(wide).sub(1).abs().max() < 0.2
    assert whole.projection is None
    assert "gaussian to 3 dimensions" in str(projected.projection)


@given(st.integers(1, 30), st.lists(st.integers(0, 25), min_size=1, max_size=6), st.integers(0, 99))
def test_merging_shards_is_sampling_at_once(rows, sizes, seed):
    """Any cut of the data into shards, merged in any order, keeps the same rows."""
    rng = np.random.default_rng(seed)
    shards = []
    for item, count in enumerate(sizes):
        one = Reservoir(rows, seed=seed)
        states = np.full((2, count, 1), item, dtype=np.float32)
        tokens = np.arange(count)
        facts = (one.priorities(item, count), np.full(count, item), tokens, states)
        one.add("text", *facts)
        shards.append(one)
    merged = []
    for order in (range(len(sizes)), rng.permutation(len(sizes))):
        whole = Reservoir(rows, seed=seed)
        for index in order:
            whole.add_arrays(shards[index].to_arrays())
        whole.finish(
            {"model": "m", "fingerprint": "f", "data_hash": "h"},
            [f"{i}.png" for i in range(len(sizes))],
        )
        merged.append(whole.samples)
    assert merged[0].rows == merged[1].rows
    assert len(merged[0].rows["text"]) == min(rows, sum(sizes))


def test_every_token_is_as_likely_as_another():
    counts = np.zeros(30)
    for seed in range(2000):
        reservoir = Reservoir(3, seed=seed)
        for item in range(3):
            priority = reservoir.priorities(item, 10)
            states = np.zeros((1, 10, 1), np.float32)
            reservoir.add("text", priority, np.full(10, item), np.arange(10), states)
        kept = reservoir._sampled["text"]
        counts[kept.item * 10 + kept.token] += 1
    assert counts.sum() == 6000
    assert ((counts - 200) ** 2 / 200).sum() < 60  # chi-square, 29 degrees: p < 0.001


def test_memory_is_what_is_kept(items):
    vlm = tiny_llava()
    collector = Collector(4, Reservoir(rows=3))
    sizes = set()
    for number, batch in enumerate([*batches(vlm, items, batch_size=2)] * 3):
        collector.run(vlm, batch.inputs, [f"{number}{item.cluster}" for item in batch.items])
        arrays = collector.reservoir.to_arrays()
        sizes.add(sum(array.nbytes for array in arrays.values()))
    assert len(sizes) <= 2  # filling up, then full


def test_saved_samples_come_back(items, tmp_path):
    samples = sampled(items, rows=4, width=6).save(tmp_path / "states")
    back = Samples.load(tmp_path / "states")
    assert back.rows == samples.rows
    assert (back.model, back.data_hash, back.seed) == ("tiny", samples.data_hash, 0)
    assert back.index_convention == samples.index_convention
    for group, states in samples.arrays.items():
        np.testing.assert_array_equal(back.arrays[group], states)
    manifest = json.loads((tmp_path / "states" / MANIFEST).read_text())
    assert manifest["projection"].startswith("gaussian to 6 dimensions")


def test_broken_samples_are_refused_by_name(items, tmp_path):
    folder = tmp_path / "states"
    sampled(items, rows=4).save(folder)
    with pytest.raises(BridgeError, match=r"no group 'video' was sampled; there is image, text"):
        Samples.load(folder).states("video")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["rows"]["text"] = manifest["rows"]["text"][:-1]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BridgeError, match="do not belong together"):
        Samples.load(folder)
    (folder / STATES).write_bytes(b"no safetensors")
    with pytest.raises(BridgeError, match="cannot read the samples in"):
        Samples.load(folder)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(BridgeError, match="holds no Samples of schema version 2"):
        Samples.load(folder)
    with pytest.raises(BridgeError, match="no manifest of samples at"):
        Samples.load(tmp_path / "nowhere")


def test_a_reservoir_takes_one_run(items):
    reservoir = Reservoir(rows=2)
    with pytest.raises(BridgeError, match="nothing was sampled yet"):
        _ = reservoir.samples
    profile(tiny_llava(), items, reservoir=reservoir)
    with pytest.raises(BridgeError, match="sample of another run"):
        profile(tiny_llava(), items, reservoir=reservoir)
    with pytest.raises(BridgeError, match="at least one row, got rows=0"):
        Reservoir(rows=0)
    with pytest.raises(BridgeError, match="at least one dimension, got width=0"):
        Reservoir(rows=1, width=0)


# --- the checkpoint of a profile ---------------------------------------------------------------


def test_a_killed_profile_continues_where_it_was(items, tmp_path, monkeypatch):
    checkpoint, vlm = tmp_path / "profile.safetensors", tiny_llava()
    sample = Reservoir(rows=4)
    whole = profile(vlm, items, batch_size=2, reservoir=sample)
    clean, left = Collector.run, {"count": 3}

    def killed(self, *args):
        left["count"] -= 1
        if left["count"] == 0:
            raise KeyboardInterrupt
        clean(self, *args)

    monkeypatch.setattr(Collector, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        profile(vlm, items, batch_size=2, checkpoint=checkpoint, reservoir=Reservoir(rows=4))
    n_batches = len(list(batches(vlm, items, batch_size=2)))
    done = profiling._read_shard(checkpoint, json.dumps(key(vlm, items)), n_batches)[0]
    assert done
    monkeypatch.setattr(Collector, "run", clean)
    ran = []
    monkeypatch.setattr(Collector, "run", lambda s, *a: (ran.append(a[3]), clean(s, *a))[1])
    resumed = Reservoir(rows=4)
    again = profile(vlm, items, batch_size=2, checkpoint=checkpoint, reservoir=resumed)
    assert len(ran) == n_batches - len(done)
    assert resumed.samples.rows == sample.samples.rows
    for group in whole.groups:
        for measure in whole.measures[group]:
            np.testing.assert_allclose(
                again.values(group, measure), whole.values(group, measure), rtol=1e-10
            )
    assert again.quantiles == whole.quantiles
    ran.clear()
    assert (
        profile(vlm, items, batch_size=2, checkpoint=checkpoint, reservoir=Reservoir(rows=4))
        == again
    )
    assert not ran  # what was resumed is checkpointed as a whole


def key(vlm, items):
    settings = {"rows": 4, "width": None, "seed": 0}
    data = profiling.items_hash(items)
    whose = {"model": vlm.name, "fingerprint": vlm.fingerprint}
    return {**whose, "data_hash": data, "batch_size": 2, "reservoir": settings}


def test_a_checkpoint_of_another_profile_is_refused(items, tmp_path):
    checkpoint = tmp_path / "profile.safetensors"
    profile(tiny_llava(), items, batch_size=2, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    for other in ({"batch_size": 4}, {"batch_size": 2, "reservoir": Reservoir(rows=4)}):
        with pytest.raises(BridgeError, match="belongs to another run"):
            profile(tiny_llava(), items, checkpoint=checkpoint, **other)
    assert checkpoint.read_bytes() == before
    checkpoint.write_text("no safetensors")
    with pytest.raises(BridgeError, match="or is no checkpoint"):
        profile(tiny_llava(), items, batch_size=2, checkpoint=checkpoint)
