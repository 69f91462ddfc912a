"""A LLaVA of frozen parts: tower, connector, folders, and the training of the connector."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
)
from typer.testing import CliRunner

from tests.vlm_bridge.product_photos import SPLITS, write_photos
from tests.vlm_bridge.tiny import tokenizer
from vlm_bridge import VLM, SkipPlan, answer, load, prune, skipping
from vlm_bridge.data import Item, fashion_photos_task
from vlm_bridge.data.units import by_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.fingerprint import fingerprint
from vlm_bridge.model.prompts import collate
from vlm_bridge.reference.connector import (
    blank_connector,
    build_llava,
    build_processor,
    install_connector,
    read_tower,
)
from vlm_bridge.reference.mobilenet_tokens import MobileNetTokens, MobileNetTokensConfig
from vlm_bridge.reference.recipe import RECIPES, PhotosRecipe, Schedule
from vlm_bridge.reference.stored import from_stored, to_stored
from vlm_bridge.training import evaluate
from vlm_bridge.training.__main__ import app
from vlm_bridge.training.connector import PackedAnswers, train_connector
from vlm_bridge.training.frozen import tower_features

TINY = {"depth_multiplier": 0.1, "finegrained_output": False, "tf_padding": False}
RECIPE = PhotosRecipe(
    seed=0,
    image_size=64,
    learn=Schedule(steps=100, batch=4, rate=3e-2, warmup=3, checkpoint_every=5),
)


@lru_cache
def classifier():
    """A MobileNetV2 with running statistics of its own, so that its map is no constant."""
    torch.manual_seed(1)
    made = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=3, **TINY))
    draw = torch.Generator().manual_seed(2)
    made.train()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        made(torch.randn(8, 3, 64, 64, generator=draw))
    return made.eval()


@pytest.fixture
def folder(tmp_path):
    classifier().save_pretrained(tmp_path / "tower")
    return tmp_path / "tower"


def tiny_language_model():
    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer()),
        pad_token_id=0,
        eos_token_id=1,
    )
    llm = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # so that what is attended to decides about the answer
        for name, parameter in llm.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_({"lm_head.weight": 18, "model.embed_tokens.weight": 1}.get(name, 9))
    return llm


def tiny_vlm(folder, recipe=RECIPE):
    words, llm = tokenizer(), tiny_language_model()
    processor = build_processor(words, recipe)
    torch.manual_seed(recipe.seed)
    model = build_llava(llm, read_tower(folder), words.convert_tokens_to_ids("<image>"), recipe)
    return VLM.of("tiny photos", model, processor)


@pytest.fixture
def vlm(folder):
    return tiny_vlm(folder)


@pytest.fixture
def items(tmp_path):
    """Bright photos show a circle, dark ones do not."""
    made = []
    for number in range(16):
        bright = number % 2
        pixels = np.random.default_rng(number).integers(0, 90, (28, 28), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels + 160 * bright).save(path)
        made.append(Item(path, "is there a circle ?", "yes" if bright else "no"))
        made.append(Item(path, "what is there ?", "circle" if bright else "square"))
    return made


def seen(vlm, clusters):
    """(tokens, channels) of the photo of every cluster."""
    return tower_features(vlm, [row[0] for row in clusters]).each()


@pytest.mark.parametrize(("side", "places"), [(64, 4), (112, 16), (224, 49)])
def test_tokens_are_the_last_map_row_by_row(folder, side, places):
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = classifier().mobilenet_v2(pixels).last_hidden_state
        found = read_tower(folder)(pixels)
    assert found.last_hidden_state.shape == (2, places, 128)
    width = expected.shape[-1]
    for place in range(places):
        at = expected[:, :, place // width, place % width]
        assert torch.equal(found.last_hidden_state[:, place], at)
    assert torch.equal(found.hidden_states[-1], found.last_hidden_state)
    assert found.last_hidden_state.std() > 0.05


def test_a_tower_is_found_by_its_model_type(tmp_path, folder):
    tower = read_tower(folder)
    tower.save_pretrained(tmp_path / "own")
    again = AutoModel.from_pretrained(tmp_path / "own")
    assert type(again) is MobileNetTokens
    assert all(torch.equal(p, again.state_dict()[n]) for n, p in tower.state_dict().items())


def test_a_wrong_width_is_refused():
    with pytest.raises(BridgeError, match="has 128 channels, but its configuration says hidden_s"):
        MobileNetTokens(MobileNetTokensConfig(**TINY))


@pytest.mark.parametrize(("side", "tokens"), [(64, 4), (112, 16), (224, 49)])
def test_a_recipe_counts_the_tokens_of_its_tower(side, tokens):
    recipe = replace(RECIPE, image_size=side)
    assert recipe.vision_tokens == tokens
    assert (side // recipe.patch_size) ** 2 == tokens


def test_the_projector_is_one_linear_layer(vlm):
    projector = vlm.model.model.multi_modal_projector
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(projector(x), projector.linear_1(x))


def test_packed_questions_from_cached_features_are_those_of_the_class(vlm, items):
    """Logits of the class, and of the packed path that trains; rows right where both agree."""
    clusters = by_image(items)[:3]
    projector = vlm.model.model.multi_modal_projector
    answers = PackedAnswers(vlm, items[0], " ")
    with torch.no_grad():
        tokens = vlm.layout.base.vision_tower(
            vlm.processor.image_processor([c[0].open() for c in clusters], return_tensors="pt")[
                "pixel_values"
            ]
        ).last_hidden_state
        answered = answers(clusters, projector(tokens))
        losses = []
        for item in (item for cluster in clusters for item in cluster):
            inputs = collate(vlm, [item], [0]).inputs
            end = vlm.processor.tokenizer.eos_token_id
            own = vlm.processor.tokenizer(item.answer, add_special_tokens=False)["input_ids"]
            target = torch.tensor([*own, end])
            ids = torch.cat([inputs["input_ids"][0], target[:-1]])[None]
            logits = vlm.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0]
            log_probs = logits[-len(target) :].log_softmax(-1)
            losses.append(-log_probs.gather(1, target[:, None]).sum())
        # Relative, since the logits of this model are large.
        torch.testing.assert_close(answered.loss, torch.stack(losses).mean(), rtol=3e-5, atol=0)
    stored = torch.stack(seen(vlm, clusters))
    assert (stored - tokens).abs().max() < 4e-3  # half precision of numbers up to 6


def test_right_is_what_the_model_answers(vlm, items, tmp_path):
    """`right` of the packed path against greedy generation, of a model that knows something."""
    parts = train_connector(vlm, items, RECIPE, tmp_path)
    install_connector(vlm.model, parts)
    clusters = by_image(items)
    with torch.no_grad():
        projector = vlm.model.model.multi_modal_projector
        answered = PackedAnswers(vlm, items[0], " ")(clusters, map(projector, seen(vlm, clusters)))
    end = vlm.processor.tokenizer.eos_token_id
    for item, right in zip(items, answered.right, strict=True):
        inputs = collate(vlm, [item], [0]).inputs
        ids = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=2)[0, -2:].tolist()
        word = vlm.processor.tokenizer(item.answer, add_special_tokens=False)["input_ids"]
        assert right == (ids == [*word, end])
    assert len(items) / 2 < sum(answered.right)


def test_training_lowers_the_loss_and_leaves_the_frozen_parts(vlm, items, tmp_path):
    before = {n: p.clone() for n, p in vlm.model.state_dict().items()}
    parts = train_connector(vlm, items, RECIPE, tmp_path / "out")
    assert all(torch.equal(p, before[n]) for n, p in vlm.model.state_dict().items())
    clusters = by_image(items)
    answers, features = PackedAnswers(vlm, items[0], " "), seen(vlm, clusters)
    projector = vlm.model.model.multi_modal_projector
    with torch.no_grad():
        start = answers(clusters, map(projector, features)).loss
        install_connector(vlm.model, parts)
        end = answers(clusters, map(projector, features)).loss
    assert end < 0.5 * start


@pytest.mark.slow
def test_a_killed_training_continues_bit_for_bit(folder, items, tmp_path, monkeypatch):
    whole = train_connector(tiny_vlm(folder), items, RECIPE, tmp_path / "whole")
    calls = []
    original = PackedAnswers.__call__

    def dies(self, *arguments):
        calls.append(1)
        if len(calls) == 18:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PackedAnswers, "__call__", dies)
        with pytest.raises(KeyboardInterrupt):
            train_connector(tiny_vlm(folder), items, RECIPE, tmp_path / "killed")
    resumed = train_connector(tiny_vlm(folder), items, RECIPE, tmp_path / "killed")
    assert all(torch.equal(part, resumed[name]) for name, part in whole.items())
    other = train_connector(tiny_vlm(folder), items, replace(RECIPE, seed=1), tmp_path / "other")
    assert not torch.equal(whole["connector.weight"], other["connector.weight"])


def test_a_saved_folder_loads_like_every_other_model(vlm, items, tmp_path):
    for part in (vlm.model, vlm.processor):
        part.save_pretrained(tmp_path / "folder")
    again = load(tmp_path / "folder")
    assert type(again.model) is LlavaForConditionalGeneration
    assert fingerprint(again.model) == fingerprint(vlm.model)
    inputs = collate(vlm, items[:4], range(4)).inputs
    with torch.no_grad():
        assert torch.equal(vlm.model(**inputs).logits, again.model(**inputs).logits)
    assert answer(again, items, max_new_tokens=3) == answer(vlm, items, max_new_tokens=3)
    assert load(tmp_path / "folder", attention="eager", dtype="bfloat16").layout.n_layers == 4


def test_a_pruned_model_is_the_skipped_one(vlm, items, tmp_path):
    plan = SkipPlan("block", 4, layers=(1,))
    prune(vlm, plan, tmp_path / "pruned")
    with skipping(vlm, plan):
        expected = answer(vlm, items, max_new_tokens=3)
    assert answer(load(tmp_path / "pruned"), items, max_new_tokens=3) == expected


def test_stored_parts_are_near_the_trained_ones():
    weight = torch.randn(32, 128, generator=torch.Generator().manual_seed(0))
    parts = {"connector.weight": weight, "connector.bias": weight[:, 0].clone()}
    again = from_stored(to_stored(parts, "int8"))
    assert set(again) == set(parts)
    assert (again["connector.weight"] - weight).abs().max() <= weight.abs().max() / 254 + 1e-6


@pytest.fixture
def tiny_world(tmp_path, monkeypatch, folder):
    """A small data set, a tiny tower, a tiny language model of a user's, and a short recipe."""
    write_photos(tmp_path, monkeypatch)
    monkeypatch.setattr("vlm_bridge.reference.connector.model_folder", lambda _: folder)
    for part in (tiny_language_model(), tokenizer()):
        part.save_pretrained(tmp_path / "own")
    short = replace(RECIPE, learn=Schedule(steps=3, batch=4, rate=1e-2, warmup=1))
    monkeypatch.setitem(RECIPES, "photos-smollm2", short)
    monkeypatch.setattr(fashion_photos_task, "FASHION_PHOTOS_SPLITS", SPLITS)
    monkeypatch.setattr(evaluate, "fixed_places", lambda name, task: list(range(20)))
    return tmp_path


def test_one_command_trains_evaluates_cards_and_saves(tiny_world):
    out = tiny_world / "out"
    words = ["train", "photos-smollm2", "--out", str(out), "--save", "--seed", "4"]
    done = CliRunner().invoke(app, [*words, "--language-model", str(tiny_world / "own")])
    assert done.exit_code == 0, done.output
    stored = json.loads((out / "answers.json").read_text())["fashion-photos"]
    items = evaluate.test_questions("photos-smollm2", "fashion-photos")
    assert len({item.cluster for item in items}) == len(items) == 100
    assert answer(load(out / "model"), items, max_new_tokens=6) == stored["answers"]
    assert set(stored["forms"]) == {"what is", "is it", "which is"}
    assert sum(form["n"] for form in stored["forms"].values()) == 100
    card = (out / "MODEL_CARD.md").read_text()
    assert f"{stored['accuracy']['value']:.4f}" in card
    assert f"{stored['accuracy_untrained']['value']:.4f}" in card
    assert "ImageNet-1k" in card
    assert str(tiny_world / "own") in card
    assert "HuggingFaceTB" not in card
    assert '"seed": 4' in card


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["photos-smollm2", "--wording", "loud"], "no wording 'loud'; there are plain, chat"),
        (["reference", "--wording", "chat"], "--wording and --language-model are settings of pho"),
        (["photos-smollm2", "--install", "--seed", "1"], "--install ships the model of the recipe"),
    ],
)
def test_refused_settings(words, says, tmp_path):
    done = CliRunner().invoke(app, ["train", *words, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, BridgeError)
    assert str(done.exception).startswith(says)
    assert not (tmp_path / "out").exists()


def test_a_wording_that_the_language_model_does_not_know_is_refused(tiny_world):
    recipe = replace(RECIPE, language_model=str(tiny_world / "own"), wording="chat")
    with pytest.raises(BridgeError, match="of the wording 'chat'; use the wording 'plain'"):
        blank_connector(recipe)


def test_missing_parts_are_said(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPIT_CACHE", str(tmp_path))
    with pytest.raises(BridgeError, match="no language model at nowhere: it has no"):
        blank_connector(replace(RECIPE, language_model="nowhere"))
