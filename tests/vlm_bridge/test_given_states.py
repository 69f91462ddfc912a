"""States that other tools captured: the same numbers as `profile`, and what is refused."""

from __future__ import annotations

import io
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import vlm_bridge as vb
from estimators.streaming import MEASURES
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import collate

N = 4  # layers of the tiny model


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """Inputs of six images in one padded batch, states by our own hooks, and `profile`."""
    vlm = tiny_llava()
    items = asked_pictures(tmp_path_factory.mktemp("pictures"), 6)
    inputs = collate(vlm, items, range(len(items))).inputs
    states, outputs = {}, {}

    def keep(layer):
        def hook(_, args, kwargs, output):
            states[layer] = (args[0] if args else kwargs["hidden_states"]).detach().clone()
            outputs[layer] = (output[0] if isinstance(output, tuple) else output).detach().clone()

        return hook

    handles = [
        layer.register_forward_hook(keep(index), with_kwargs=True)
        for index, layer in enumerate(vlm.layout.layers)
    ]
    with torch.no_grad():
        vlm.model(**inputs)
    for handle in handles:
        handle.remove()
    assert (inputs["attention_mask"] == 0).any(), "the batch must have padding"
    return SimpleNamespace(
        vlm=vlm,
        inputs=inputs,
        first=states[0],
        before=[states[i] for i in range(N)],
        after=[outputs[i] for i in range(N)],
        clusters=[item.cluster for item in items],
        profile=vb.profile(vlm, items, batch_size=16),
    )


def as_list(c):
    return [c.first, *c.after]


def as_tuples(c):
    """As layers of older transformers give, which nnsight saves as they are."""
    return [c.first, *((state, None) for state in c.after)]


def as_nnsight(c):
    entries = {f"model.language_model.layers.{i}": state for i, state in enumerate(c.after)}
    entries = {"model.embed": c.first, **entries}
    return {name: SimpleNamespace(output=state) for name, state in entries.items()}


def as_transformer_lens(c):
    cache = {"hook_embed": c.first * 2, "blocks.0.attn.hook_q": c.first[:, :, None]}
    for layer in range(N):
        cache[f"blocks.{layer}.hook_resid_pre"] = c.before[layer]
        cache[f"blocks.{layer}.hook_resid_post"] = c.after[layer]
    return cache


def as_lens_outputs(c):
    cache = {"hook_embed": c.first}
    return cache | {f"blocks.{i}.hook_resid_post": state for i, state in enumerate(c.after)}


def as_lens_positions(c):
    half = torch.randn(c.first.shape, generator=torch.Generator().manual_seed(0))
    cache = {"hook_embed": c.first - half, "hook_pos_embed": half}
    return cache | {f"blocks.{i}.hook_resid_post": state for i, state in enumerate(c.after)}


FORMS = (
    as_list,
    as_tuples,
    as_nnsight,
    as_transformer_lens,
    as_lens_outputs,
    as_lens_positions,
)


def same_numbers(found, expected, groups):
    assert found.n_layers == expected.n_layers
    assert found.n_images == expected.n_images
    assert set(found.groups) == set(groups)
    for group in groups:
        assert found.n_rows[group] == expected.n_rows[group]
        for measure in MEASURES:
            pairs = zip(
                found.estimates(group, measure), expected.estimates(group, measure), strict=True
            )
            for ours, theirs in pairs:
                assert ours.value == pytest.approx(theirs.value, rel=2e-4, abs=1e-6)
                assert ours.interval == pytest.approx(theirs.interval, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_numbers_are_those_of_profile(captured, form):
    masks = vb.token_masks(captured.vlm, captured.inputs)
    found = vb.profile_states(form(captured), groups=masks, clusters=captured.clusters)
    same_numbers(found, captured.profile, captured.profile.groups)


def test_padding_counts_in_no_group(captured):
    """With the mask instead of the groups, whatever stands in the padding."""
    mask = captured.inputs["attention_mask"]
    plain = vb.profile_states(as_list(captured), mask=mask, clusters=captured.clusters)
    noisy = [torch.where(mask[..., None] == 0, torch.nan, s) for s in as_list(captured)]
    again = vb.profile_states(noisy, mask=mask, clusters=captured.clusters)
    assert plain.n_rows["all"] == int(mask.sum())
    for measure in MEASURES:
        assert plain.values("all", measure).tolist() == again.values("all", measure).tolist()
    everything = {name: torch.ones_like(mask, dtype=torch.bool) for name in ("a", "b")}
    both = vb.profile_states(noisy, mask=mask, groups=everything, clusters=captured.clusters)
    assert both.values("b", "norm_ratio").tolist() == plain.values("all", "norm_ratio").tolist()


def test_masks_of_tokens_are_disjoint_and_cover_what_is_no_padding(captured):
    masks = vb.token_masks(captured.vlm, captured.inputs)
    total = sum(mask.astype(int) for mask in masks.values())
    assert (total == captured.inputs["attention_mask"].numpy()).all()
    assert (masks["image"].sum(1) == 4).all()


def test_outputs_alone_are_refused_and_begin_one_layer_late_if_asked_for(captured):
    outputs = {f"model.layers.{i}": state for i, state in enumerate(captured.after)}
    masks = vb.token_masks(captured.vlm, captured.inputs)
    with pytest.raises(BridgeError, match="one layer late"):
        vb.profile_states(outputs, groups=masks)
    late = vb.profile_states(outputs, groups=masks, clusters=captured.clusters, outputs_only=True)
    expected = captured.profile.values("image", "cosine_distance")[1:]
    assert late.values("image", "cosine_distance") == pytest.approx(expected, rel=2e-4)
    with pytest.raises(BridgeError, match="leave out outputs_only"):
        vb.profile_states(as_transformer_lens(captured), outputs_only=True)


@pytest.mark.parametrize(
    ("states", "options", "says"),
    [
        ([np.ones((2, 3))], {}, "at least two states"),
        ([np.ones((2, 3)), np.ones((2, 4))], {}, "state 1 has shape"),
        ([np.zeros((2, 3)), np.ones((2, 3))], {}, "layer 0"),
        (7, {}, "no states, one for each layer"),
        ({"blocks.0.hook_resid_pre": 0, "blocks.2.hook_resid_pre": 0}, {}, "layer 1 is missing"),
        ({"hook_embed": 0, "blocks.1.hook_resid_post": 0}, {}, "block 0 is missing"),
        ([np.ones((2, 3))] * 2, {"mask": np.ones(5)}, "mask has shape"),
        ([np.ones((2, 3))] * 2, {"mask": np.zeros(2)}, "padding alone"),
        ([np.ones((2, 3))] * 2, {"groups": [True, False]}, "groups map names"),
        ([np.ones((2, 3))] * 2, {"groups": {"a": np.ones(2)}}, "needs a boolean mask"),
        ("states.pt", {}, "holds pickled objects"),
        ("states.db", {}, "VLM-Lens pickles its tensors"),
        ("none.npz", {}, "there is no file"),
    ],
)
def test_what_is_no_set_of_states_is_refused(states, options, says):
    with pytest.raises(BridgeError, match=says):
        vb.profile_states(states, **options)


def test_inputs_without_ids_are_refused():
    with pytest.raises(BridgeError, match="no input_ids; they have pixel_values"):
        vb.token_masks(tiny_llava(), {"pixel_values": torch.zeros(1)})


# --- VLM-Lens -----------------------------------------------------------------------------------


def blob(tensor):
    data = io.BytesIO()
    torch.save(tensor, data)
    return data.getvalue()


def database(path: Path, rows) -> Path:
    """A database as VLM-Lens writes it: rows are (model, image, prompt, layer, bytes)."""
    with sqlite3.connect(path) as made:
        made.execute(
            "CREATE TABLE tensors (id INTEGER PRIMARY KEY, name TEXT NOT NULL, architecture TEXT "
            "NOT NULL, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, image_path TEXT NULL, "
            "image_id INTEGER NULL, prompt TEXT NOT NULL, label TEXT NULL, layer TEXT NOT NULL, "
            "pooling_method TEXT NULL, tensor_dim INTEGER NOT NULL, tensor BLOB NOT NULL)"
        )
        made.executemany(
            "INSERT INTO tensors (name, architecture, image_path, prompt, layer, tensor_dim, "
            "tensor) VALUES (?, 'llava', ?, ?, ?, 32, ?)",
            rows,
        )
    made.close()
    return path


def test_states_of_vlm_lens_stored_anew_have_the_numbers_of_its_tensors(
    captured, tmp_path, monkeypatch
):
    """By the script of docs/states.md, with one input after another, unpadded."""
    real = captured.inputs["attention_mask"].bool()
    rows = [
        (
            "llava",
            image,
            "q",
            f"language_model.layers.{layer}",
            blob(state[number, real[number]][None]),
        )
        for number, image in enumerate(captured.clusters)
        for layer, state in enumerate(captured.after)
    ]
    database(tmp_path / "states.db", rows)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "states.md").read_text()
    (script,) = [s for s in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "sqlite3" in s]
    with pytest.raises(BridgeError, match="VLM-Lens pickles its tensors"):
        vb.profile_states("states.db")
    exec(compile(script, "docs/states.md", "exec"), {})
    found = vb.profile_states("states.npz", outputs_only=True)
    expected = vb.profile_states(captured.after, mask=real, clusters=captured.clusters)
    assert found.n_images == 6
    same_numbers(found, expected, ["all"])
