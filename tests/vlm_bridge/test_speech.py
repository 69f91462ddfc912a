"""A Qwen2-Audio of frozen parts: tower, language model, folders, and training of the connector."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor
from typer.testing import CliRunner

from tests.vlm_bridge import spoken
from tests.vlm_bridge.families.hearing_processors import tokenizer
from vlm_bridge import VLM, SkipPlan, answer, load, prune, skipping
from vlm_bridge.data import spoken_words, spoken_words_task
from vlm_bridge.data.spoken_words_task import short_recordings
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.fingerprint import fingerprint
from vlm_bridge.model.prompts import collate
from vlm_bridge.reference.recipe import RECIPES, Schedule, SpeechRecipe
from vlm_bridge.reference.speech import (
    build_speech,
    build_speech_processor,
    install_speech,
    read_speech_tower,
)
from vlm_bridge.training import evaluate
from vlm_bridge.training.__main__ import app
from vlm_bridge.training.connector import (
    PackedAnswers,
    _start_connector,
    _words_in_turn,
    by_file,
    train_connector,
)
from vlm_bridge.training.frozen import cached_features, tower_features

RECIPE = SpeechRecipe(
    seed=0, learn=Schedule(steps=60, batch=4, rate=3e-2, warmup=3, checkpoint_every=5)
)


@pytest.fixture
def whisper(tmp_path):
    return spoken.write_whisper(tmp_path / "whisper")


@pytest.fixture
def prompts(tmp_path, monkeypatch):
    monkeypatch.setattr("vlm_bridge.third_party.dataset_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(spoken_words_task, "_ROUNDS", {"train": 2, "test": 2})
    return spoken.write_prompts(tmp_path / "spoken-prompts")


@pytest.fixture
def vlm(whisper):
    extractor = WhisperFeatureExtractor.from_pretrained(whisper)
    processor = build_speech_processor(tokenizer(), extractor, "plain")
    torch.manual_seed(0)
    model = build_speech(
        spoken.language_model(), read_speech_tower(whisper), processor.audio_token_id
    )
    return VLM.of("tiny speech", model, processor)


@pytest.fixture
def rows(prompts):
    """Recordings of different lengths with two or more questions each."""
    found = by_file([*short_recordings("test"), *spoken_words("test")])[:5]
    assert min(map(len, found)) > 1
    return found


def outputs_of(layers, run):
    """What each of some layers returns."""
    found = []
    hooks = [layer.register_forward_hook(lambda *a: found.append(a[2])) for layer in layers]
    with torch.no_grad():
        last = run().last_hidden_state
    for hook in hooks:
        hook.remove()
    return [one[0] if isinstance(one, tuple) else one for one in found], last


def test_the_tower_is_the_encoder_of_whisper(whisper):
    """Every layer gives Whisper's states; at the end two neighbours are averaged, then normed."""
    sound = torch.randn(2, spoken.BINS, 2 * spoken.POSITIONS, generator=torch.manual_seed(0))
    tower, encoder = read_speech_tower(whisper), spoken.whisper().model.encoder
    found, last = outputs_of(tower.layers, lambda: tower(sound))
    expected, normed = outputs_of(encoder.layers, lambda: encoder(sound))
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert (expected[1] - expected[0]).abs().max() > 0.1
    halves = (expected[-1][:, ::2] + expected[-1][:, 1::2]) / 2
    torch.testing.assert_close(last, encoder.layer_norm(halves), atol=1e-5, rtol=1e-5)
    assert last.shape[1] == normed.shape[1] // 2


def test_the_parts_are_those_that_were_given(vlm, whisper):
    encoder, llm = spoken.whisper().model.encoder, spoken.language_model()
    base = vlm.layout.base
    for part, given in ((base.audio_tower, encoder), (base.language_model, llm.model)):
        found = part.state_dict()
        assert set(found) == set(given.state_dict())
        for name, parameter in given.state_dict().items():
            if "embed_tokens" not in name:  # the row of the placeholder is another
                assert torch.equal(found[name], parameter)


def test_a_prompt_without_a_recording_is_the_language_models(vlm, rows):
    items = [rows[0][1], rows[1][1]]
    inputs = collate(vlm, items, range(2), with_images=False).inputs
    assert not vlm.layout.modality_flags(inputs["input_ids"]).any()
    llm = spoken.language_model()
    llm.resize_token_embeddings(len(tokenizer()))
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        found, expected = vlm.model(**inputs).logits[real], llm(**inputs).logits[real]
    words = [i for i in range(found.shape[1]) if i != vlm.processor.audio_token_id]
    torch.testing.assert_close(found[:, words], expected[:, words], atol=1e-4, rtol=1e-4)
    assert found.std() > 1


def test_recordings_of_different_length_run_together(vlm, rows):
    items = [row[0] for row in rows]
    inputs = collate(vlm, items, range(len(items))).inputs
    counts = vlm.layout.modality_flags(inputs["input_ids"]).sum(1).tolist()
    frames = inputs["feature_attention_mask"].sum(1).tolist()
    assert counts == [((f - 1) // 2 + 1) // 2 for f in frames]  # 25 a second of Whisper's 100
    assert len(set(counts)) > 2
    with torch.no_grad():
        together = vlm.model(**inputs).logits[:, -1]
        for place in range(len(items)):
            alone = vlm.model(**collate(vlm, items, [place]).inputs).logits[0, -1]
            torch.testing.assert_close(together[place], alone, atol=1e-4, rtol=1e-4)


def test_cached_features_are_what_enters_the_connector(vlm, rows, tmp_path):
    items, entering = [row[0] for row in rows], []
    projector = vlm.model.model.multi_modal_projector
    hook = projector.register_forward_hook(lambda _, inputs, __: entering.append(inputs[0]))
    features = cached_features(vlm, items, tmp_path / "tower.safetensors")
    with torch.no_grad():
        for item, found in zip(items, features.each(), strict=True):
            inputs = collate(vlm, [item], [0]).inputs
            vlm.model(**inputs)
            count = int(vlm.layout.modality_flags(inputs["input_ids"]).sum())
            assert len(found) == count
            expected = entering.pop()[0, :count]
            torch.testing.assert_close(found, expected, atol=4e-3, rtol=1e-3)  # half precision
    hook.remove()
    again = cached_features(vlm, items, tmp_path / "tower.safetensors")
    assert torch.equal(again.tokens, features.tokens)
    assert torch.equal(again.lengths, features.lengths)


def test_packed_questions_have_the_logits_of_the_model(vlm, rows):
    """Recordings of different length, each with several questions, against one question alone."""
    projector = vlm.model.model.multi_modal_projector
    items = [row[0] for row in rows]
    tokenize = vlm.processor.tokenizer
    with torch.no_grad():
        features = tower_features(vlm, items).each()
        packed, labels, owners = PackedAnswers(vlm, items[0], " ").logits(
            rows, map(projector, features)
        )
        for i, row in enumerate(rows):
            for number, item in enumerate(row, start=1):
                own = [place for place, owner in enumerate(owners) if owner == (i, number)]
                words = tokenize(f" {item.answer}", add_special_tokens=False)["input_ids"]
                assert labels[own].tolist() == [*words, tokenize.eos_token_id]
                inputs = collate(vlm, [item], [0]).inputs
                flags = vlm.layout.modality_flags(inputs["input_ids"])
                ids = torch.cat([inputs["input_ids"], torch.tensor([words])], dim=1)
                embeds = vlm.model.get_input_embeddings()(ids)
                embeds[:, : flags.shape[1]][flags] = projector(features[i])
                alone = vlm.model(inputs_embeds=embeds).logits[0, -len(own) :]
                torch.testing.assert_close(packed[own], alone, atol=1e-4, rtol=1e-4)
    assert packed.std() > 1


def test_a_recording_is_heard(vlm, rows):
    """The answer of the whole model depends on what is in the file."""
    items = [rows[0][1], replace(rows[0][1], audio=rows[1][0].audio, cluster="other")]
    first, second = (
        vlm.model(**collate(vlm, items, [place]).inputs).logits[0, -1] for place in range(2)
    )
    assert (first - second).abs().max() > 0.1


def test_words_take_their_turns(vlm, rows):
    """A token of the transcript lasts as long as its share of the letters, in order."""
    item = replace(rows[0][0], answer="circle is red")
    table = vlm.model.get_input_embeddings().weight
    ids = vlm.processor.tokenizer(item.answer, add_special_tokens=False)["input_ids"]
    found = _words_in_turn(vlm, [item, item], torch.tensor([22, 11]), "")
    expected = [0] * 12 + [1] * 4 + [2] * 6 + [0] * 6 + [1] * 2 + [2] * 3
    assert torch.equal(found, table[torch.tensor(ids)[expected]])


def test_the_start_is_the_nearest_linear_map_or_as_far_from_the_mean():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 6, generator=draw)
    x -= x.mean(0)
    truth = torch.nn.Linear(6, 3)
    with torch.no_grad():
        words = truth(x)
        for as_far, shrunk in ((False, 1.1), (True, 1.0)):  # the penalty: a tenth of the variance
            connector = _start_connector(x, words, as_far=as_far)
            torch.testing.assert_close(connector.weight, truth.weight / shrunk, atol=0.02, rtol=0)
            torch.testing.assert_close(connector.bias, words.mean(0), atol=1e-5, rtol=0)
        noisy = words + 2 * torch.randn(words.shape, generator=draw)
        around = _start_connector(x, noisy, as_far=True)(x) - noisy.mean(0)
        torch.testing.assert_close(around.norm(), (noisy - noisy.mean(0)).norm())


def test_training_lowers_the_loss_and_leaves_the_frozen_parts(vlm, rows, tmp_path):
    transcripts, items = [row[0] for row in rows], [item for row in rows for item in row[1:]]
    rows = by_file(items)
    before = {n: p.clone() for n, p in vlm.model.state_dict().items()}
    parts = train_connector(vlm, items, RECIPE, tmp_path / "out", transcripts)
    assert all(torch.equal(p, before[n]) for n, p in vlm.model.state_dict().items())
    answers = PackedAnswers(vlm, items[0], " ")
    features = tower_features(vlm, [row[0] for row in rows]).each()
    projector, losses = vlm.model.model.multi_modal_projector, []
    with torch.no_grad():
        losses.append(answers(rows, map(projector, features)).loss)
        install_speech(vlm.model, parts)
        losses.append(answers(rows, map(projector, features)).loss)
    assert losses[1] < 0.5 * losses[0]


def test_a_saved_folder_loads_like_every_other_model(vlm, rows, tmp_path):
    for part in (vlm.model, vlm.processor):
        part.save_pretrained(tmp_path / "folder")
    again = load(tmp_path / "folder")
    assert type(again.model) is Qwen2AudioForConditionalGeneration
    assert fingerprint(again.model) == fingerprint(vlm.model)
    items = [row[1] for row in rows]
    assert answer(again, items, max_new_tokens=3) == answer(vlm, items, max_new_tokens=3)


def test_its_layers_are_skipped_and_pruned(vlm, rows, tmp_path):
    items = [row[1] for row in rows]
    for plan in (SkipPlan("block", 4, layers=(1,)), SkipPlan("early_exit", 4, exit=2)):
        said = []
        for fast in (False, True):
            with skipping(vlm, plan, fast=fast):
                said.append(answer(vlm, items, max_new_tokens=3))
        assert said[0] == said[1]
    plan = SkipPlan("block", 2, layers=(1,), stack="audio")
    prune(vlm, plan, tmp_path / "pruned")
    with skipping(vlm, plan):
        expected = answer(vlm, items, max_new_tokens=3)
    assert answer(load(tmp_path / "pruned"), items, max_new_tokens=3) == expected


@pytest.fixture
def tiny_world(tmp_path, monkeypatch, whisper, prompts):
    """A small data set, a tiny tower, a tiny language model of a user's, and a short recipe."""
    monkeypatch.setattr("vlm_bridge.reference.speech.model_folder", lambda _: whisper)
    for part in (spoken.language_model(), tokenizer()):
        part.save_pretrained(tmp_path / "own")
    short = replace(RECIPE, learn=Schedule(steps=3, batch=4, rate=1e-2, warmup=1))
    monkeypatch.setitem(RECIPES, "speech-smollm2", short)
    return tmp_path


def test_one_command_trains_evaluates_cards_and_saves(tiny_world):
    out = tiny_world / "out"
    words = ["train", "speech-smollm2", "--out", str(out), "--save", "--seed", "4"]
    done = CliRunner().invoke(app, [*words, "--language-model", str(tiny_world / "own")])
    assert done.exit_code == 0, done.output
    stored = json.loads((out / "answers.json").read_text())["spoken-words"]
    items = evaluate.test_questions("speech-smollm2", "spoken-words")
    assert items == spoken_words("test")
    assert answer(load(out / "model"), items, batch_size=32, max_new_tokens=6) == stored["answers"]
    assert set(stored["forms"]) == {"is", "which is"}
    card = (out / "MODEL_CARD.md").read_text()
    for name in ("accuracy", "accuracy_blind", "accuracy_no_vision"):
        assert f"{stored[name]['value']:.4f}" in card
    for form in stored["forms"].values():
        assert f"{form['value']:.4f}" in card
    assert "CC-BY-SA-3.0" in card
    assert "not shipped" in card
    assert "image" not in card.partition("## Recipe")[0]
    assert str(tiny_world / "own") in card


def test_parts_trained_on_share_alike_data_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("vlm_bridge.training.__main__.run_training", lambda *_: pytest.fail("ran"))
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["train", "speech-smollm2", "--install", "--out", str(out)])
    assert isinstance(done.exception, BridgeError)
    assert str(done.exception) == (
        "speech-smollm2 is trained on recordings under CC-BY-SA-3.0, a licence that asks for the "
        "same licence, so its parts are not shipped; leave out --install"
    )
    assert not out.exists()
