"""Small models trained from scratch: their words, their packed questions, their start."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vlm_bridge.data import easy_vqa, scenes
from vlm_bridge.data.scenes_task import COLOURS, scene
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import collate
from vlm_bridge.reference.build import read_parts
from vlm_bridge.reference.families import CLASSES, TOKENS, blank_scratch, install_all
from vlm_bridge.reference.recipe import RECIPES, Schedule, ScratchRecipe
from vlm_bridge.reference.shipped import PARTS, shipped
from vlm_bridge.reference.word_tokenizer import UNKNOWN, WORDS, word_tokenizer
from vlm_bridge.training import scratch
from vlm_bridge.training.cells import CellReader, cell_labels
from vlm_bridge.training.packing import IGNORED, Packer, draw_images, draw_rows, image_features
from vlm_bridge.training.scratch import _scale_words, _see, blank_vlm, packed_states

SCRATCH = {name: r for name, r in RECIPES.items() if isinstance(r, ScratchRecipe)}


def by_image(items):
    groups = {}
    for item in items:
        groups.setdefault(item.cluster, []).append(item)
    return list(groups.values())


def test_the_tokenizer_knows_every_word_and_no_other():
    items = [i for split in ("profile", "test") for i in easy_vqa(split) + scenes(split)]
    said = {
        word for i in items for word in re.findall(r"\w+|\?", f"{i.question} {i.answer}".lower())
    }
    assert said <= set(WORDS)
    assert set(WORDS) - said <= {"user", "assistant", ":"}
    tokenizer = word_tokenizer("<image>")
    for item in items[::50]:
        ids = tokenizer(item.question, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids).replace(" ", "") == item.question.replace(" ", "")
    assert tokenizer.decode(tokenizer("zebra", add_special_tokens=False)["input_ids"]) == UNKNOWN


@pytest.mark.parametrize("name", SCRATCH)
def test_packed_questions_are_the_questions_one_by_one(name):
    """The block mask, the places and (M-RoPE, sliding windows) what a family makes of them."""
    vlm = blank_vlm(SCRATCH[name])
    assert type(vlm.model).__name__ == CLASSES[SCRATCH[name].family]
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)  # so that what is attended to matters
    rows = [row[:5] for row in by_image(scenes("profile")[:40])[:3]]
    packer = Packer(vlm)
    start = packer.start(rows[0][0])
    ids = start["input_ids"][0]
    vision = vlm.layout.modality_flags(ids)
    assert int(vision.sum()) == TOKENS
    packed = packer.pack(rows, len(ids))
    assert (packed.labels != IGNORED).sum() == 2 * sum(map(len, rows))  # the answer and its end
    table = vlm.model.get_input_embeddings()
    with torch.no_grad():
        features = image_features(vlm, [row[0].open() for row in rows])
        states = packed_states(vlm, start, vision, packed, features, table)
        for r, row in enumerate(rows):
            for number, item in enumerate(row, start=1):
                inputs = collate(vlm, [item], [0]).inputs
                alone = vlm.layout.base(**inputs).last_hidden_state[0]
                own = (packed.blocks[r] == number).nonzero().flatten()
                found = torch.cat([states[r, : len(ids)], states[r, own]])[: len(alone)]
                torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SCRATCH)
def test_words_enter_every_family_at_the_same_scale(name):
    vlm = blank_vlm(SCRATCH[name])
    _scale_words(vlm)
    table = vlm.model.get_input_embeddings()
    entered = table(torch.arange(len(table.weight))).detach()
    assert float(entered.std()) == pytest.approx(0.25, rel=1e-4)


def test_the_images_of_a_step_depend_on_its_number_alone():
    groups = [list(range(i, i + 9)) for i in range(0, 300, 10)]
    assert draw_rows(groups, 4, 3, "0", 5) == draw_rows(groups, 4, 3, "0", 5)

    def images(steps):
        return [row[0] // 10 for step in steps for row in draw_rows(groups, 4, 1, "0", step)]

    assert len(set(images(range(7)))) == 28  # no image twice in an epoch
    assert images(range(7)) != images(range(7, 14))


def test_images_of_a_step_are_of_nearly_the_same_size():
    sizes = [20 + 7 * (number * 31 % 50) for number in range(50)]
    steps = [draw_images(50, 4, "0", step, sizes) for step in range(12)]
    shown = [image for step in steps for image in step]
    assert len(set(shown)) == len(shown) == 48  # no image twice in an epoch
    spread = sum(max(sizes[i] for i in step) - min(sizes[i] for i in step) for step in steps) / 12
    plain = [[sizes[i] for i in draw_images(50, 4, "0", step)] for step in range(12)]
    assert spread < 0.5 * sum(max(step) - min(step) for step in plain) / 12
    assert sorted(steps) != sorted(draw_images(50, 4, "0", step, sizes) for step in range(12, 24))
    longest = [sizes[step[0]] for step in steps]
    assert longest != sorted(longest)
    assert steps[5] == draw_images(50, 4, "0", 5, sizes)


def test_parts_of_another_model_are_refused():
    model, _ = blank_scratch(SCRATCH["reference-smolvlm"])
    other, _ = blank_scratch(SCRATCH["reference-gemma3"])
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(BridgeError, match="the parts are not those of this model: "):
        install_all(model, dict(other.named_parameters()))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    parts = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    install_all(model, parts)
    assert all((p == 0).all() for p in model.parameters())


def test_labels_of_cells_are_where_a_scene_has_its_objects():
    items = scenes("profile")
    for item in items[::40]:
        split, _, number = item.cluster.partition("/")
        things = scene(split, int(number))
        shapes, colours, dots = cell_labels(item)
        assert int((shapes > 0).sum()) == int((colours > 0).sum()) == len(things)
        with item.image.open("rb") as file:
            pixels = np.asarray(Image.open(file).convert("RGB")).reshape(4, 16, 4, 16, 3)
        for cell in range(16):
            inside = pixels[cell // 4, :, cell % 4].reshape(-1, 3).tolist()
            seen = {name for name, rgb in COLOURS.items() if list(rgb) in inside}
            named = {int(colours[cell]), int(dots[cell])} - {0}
            assert seen == {list(COLOURS)[code - 1] for code in named}


@pytest.mark.slow
def test_stage_one_teaches_vision_the_words_of_both_task_sets(tmp_path, caplog):
    schedule = Schedule(steps=100, batch=8, rate=1e-3, warmup=5)
    recipe = replace(SCRATCH["reference-smolvlm"], tasks=("easy-vqa", "scenes"), see=schedule)
    vlm = blank_vlm(recipe)
    _scale_words(vlm)
    groups = {
        "easy-vqa": by_image(easy_vqa("profile"))[:64],
        "scenes": by_image(scenes("profile"))[:64],
    }
    with caplog.at_level("INFO"):
        _see(vlm, recipe, groups, tmp_path / "see.safetensors")
    first, second = (float(line.split()[-1]) for line in caplog.messages)
    assert second < 0.8 * first


class _Places(nn.Module):
    """A tower whose patches have their own row and column as states, behind a class token."""

    def __init__(self, side):
        super().__init__()
        self.config, self.side = SimpleNamespace(hidden_size=2), side

    def forward(self, pixel_values):
        rows = torch.arange(self.side).float()
        patches = torch.cartesian_prod(rows, rows).expand(len(pixel_values), -1, -1)
        states = torch.cat([torch.full((len(pixel_values), 1, 2), -9.0), patches], dim=1)
        return SimpleNamespace(last_hidden_state=states)


@pytest.mark.parametrize("side", [4, 8])
def test_a_cell_is_read_from_the_patches_in_it(side):
    reader = CellReader(_Places(side))
    with torch.no_grad():
        reader.heads.weight.zero_()
        reader.heads.bias.zero_()
        reader.heads.weight[:2] = torch.eye(2)  # the first two shapes score row and column
        shapes, colours, dots = reader(torch.zeros(3, 3, 64, 64))
    assert [part.shape for part in (shapes, colours, dots)] == [(3, 16, 5), (3, 16, 7), (3, 16, 7)]
    each = side // 4
    centres = torch.arange(4).float() * each + (each - 1) / 2
    assert torch.allclose(shapes[1, :, :2], torch.cartesian_prod(centres, centres))
    assert not colours.any()
    assert not dots.any()


def test_training_on_begins_with_the_shipped_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "_see", lambda *_: None)
    monkeypatch.setattr(scratch, "_learn", lambda *_: None)
    monkeypatch.setattr(scratch, "TASKS", {"scenes": lambda _: []})
    recipe = RECIPES["reference-qwen2.5-vl-scenes"]
    begun = scratch.train_scratch(recipe, tmp_path)
    with shipped(recipe.start, PARTS) as path:
        there = read_parts(path, RECIPES[recipe.start])
    assert begun.keys() == there.keys()
    assert all(torch.equal(begun[name], there[name]) for name in there)
    anew = scratch.train_scratch(replace(recipe, start=""), tmp_path)
    assert not any(torch.equal(anew[name], there[name]) for name in there if there[name].dim() > 1)
