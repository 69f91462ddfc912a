"""`skipit profile states.safetensors`: any network's states, read without executing anything."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from estimators import Profile, profile_states
from tests.vlm_bridge.command_line import run
from vlm_bridge.errors import BridgeError
from vlm_bridge.observe.reservoir import Samples
from vlm_bridge.observe.states_file import StatesFile

DEPTH = 11


def walk(seed=0):
    rng = np.random.default_rng(seed)
    states = [rng.normal(size=(30, 4, 6)).astype(np.float32)]
    for _ in range(DEPTH):
        states.append(states[-1] + 0.3 * rng.normal(size=(30, 4, 6)).astype(np.float32))
    return states


def everything():
    """All that a file may hold, states in a muddle."""
    states = walk()
    table = {f"model.layers.{layer}": states[layer] for layer in (11, *range(2, 11), 1, 0)}
    table["clusters"] = np.arange(30) // 2
    table["target"] = np.random.default_rng(1).normal(size=(30, 1)).astype(np.float32)
    table["groups.late"] = np.arange(4) > np.zeros((30, 1))
    table["groups.first"] = np.arange(4) < np.ones((30, 1))
    return table


def write(path, table):
    if path.suffix == ".npz":
        np.savez(path, **table)
    else:
        save_file({name: torch.tensor(array) for name, array in table.items()}, path)
    return path


def wanted(model):
    table = everything()
    return profile_states(
        walk(),
        table["target"],
        token_groups={name: table[f"groups.{name}"] for name in ("first", "late")},
        clusters=table["clusters"],
        model=model,
    )


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_gives_the_profile_of_its_states_with_a_figure(suffix, tmp_path, capsys):
    path = write(tmp_path / f"states{suffix}", everything())
    out = tmp_path / "out" / "profile.json"
    assert run("profile", path, "--out", out) == 0
    found = Profile.from_json(json.loads(out.read_text()))
    expected = wanted(path.name)
    assert set(found.groups) == {"first", "late"}
    for group in found.groups:
        assert found.measures[group] == expected.measures[group]
        assert found.n_images == 15
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "profile of 11 layers on 15 clusters" in capsys.readouterr().out


def test_other_names_and_the_last_token(tmp_path):
    table = everything()
    table["answer"] = table.pop("target")
    table["image"] = np.array([f"{code}.png" for code in table.pop("clusters")])
    path = write(tmp_path / "states.npz", table)
    out = tmp_path / "profile.json"
    words = ("--target", "answer", "--clusters", "image", "--last-token")
    assert run("profile", path, *words, "--out", out) == 0
    found = Profile.from_json(json.loads(out.read_text()))
    assert set(found.groups) == {"first", "late", "last"}
    assert found.measures["late"] == wanted("").measures["late"]
    assert found.n_rows["last"] == 30


@pytest.mark.parametrize("name", ["hidden_states", "arr_0"])
def test_one_array_of_all_layers(name, tmp_path):
    path = write(tmp_path / "stack.npz", {name: np.stack(walk())})
    found = StatesFile.read(path)
    assert profile_states(found.states).to_json() == profile_states(walk()).to_json()
    assert (found.target, found.clusters, found.token_groups) == (None, None, None)


def test_arrays_saved_without_names_keep_their_order(tmp_path):
    np.savez(tmp_path / "states.npz", *walk())
    found = profile_states(StatesFile.read(tmp_path / "states.npz").states)
    assert found.to_json() == profile_states(walk()).to_json()


def test_half_precision_is_read(tmp_path):
    halves = {f"h.{i}": torch.tensor(state).bfloat16() for i, state in enumerate(walk())}
    save_file(halves, tmp_path / "states.safetensors")
    found = profile_states(StatesFile.read(tmp_path / "states.safetensors").states)
    exact = profile_states(walk()).values("all", "norm_ratio")
    np.testing.assert_allclose(found.values("all", "norm_ratio"), exact, rtol=1e-2)


def test_a_reservoir_is_known_by_its_manifest(tmp_path):
    states = np.stack([state.reshape(120, 6) for state in walk()])
    row = {"item": 0, "place": 0}
    samples = Samples(
        model="toy",
        fingerprint="f",
        data_hash="",
        seed=0,
        projection=None,
        index_convention="",
        rows={
            "image": [{**row, "image": f"{i // 4}"} for i in range(80)],
            "text": [{**row, "image": f"{i // 4}"} for i in range(40)],
        },
        arrays={"image": states[:, :80], "text": states[:, 80:]},
    ).save(tmp_path / "samples")
    path = tmp_path / "samples" / "states.safetensors"
    given = StatesFile.read(path)
    found = profile_states(given.states, token_groups=given.token_groups, clusters=given.clusters)
    for group in ("image", "text"):
        alone = profile_states(samples.states(group), clusters=samples.images(group))
        for name in ("cosine_distance", "norm_ratio"):
            np.testing.assert_allclose(
                found.values(group, name), alone.values("all", name), atol=1e-12
            )
    assert found.n_images == 20
    with pytest.raises(BridgeError, match="is a reservoir, whose manifest names the images"):
        StatesFile.read(path, target="answer")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profile", "{}/none.npz"), "there is no file"),
        (("profile", "{}/broken.safetensors"), "cannot read states from"),
        (("profile", "{}/broken.npz"), "cannot read states from"),
        (("profile", "{}/pickled.npz"), "cannot read states from .*allow_pickle"),
        (("profile", "{}/gap.npz"), r"gap\.npz: layer 1 is missing between h\.0 and h\.2"),
        (("profile", "{}/gap.npz", "--target", "x"), r"has no array 'x'; it has h\.0, h\.2"),
        (("profile", "{}/gap.npz", "--data", "easy-vqa:test"), "--data goes with a model"),
        (("profile", "reference"), "a model is profiled on questions: give --data"),
        (
            ("profile", "reference", "--data", "easy-vqa:test", "--last-token"),
            "--last-token go with a file of states",
        ),
    ],
)
def test_refusals_are_one_line(words, message, tmp_path, capsys):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "pickled.npz", states=np.array([{}], dtype=object))
    np.savez(tmp_path / "gap.npz", **{"h.0": np.eye(4), "h.2": np.eye(4)})
    out = ("--out", tmp_path / "profile.json")
    assert run(*(word.format(tmp_path) for word in words), *out) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said)
    assert not (tmp_path / "profile.json").exists()
