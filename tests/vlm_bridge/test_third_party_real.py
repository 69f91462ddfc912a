"""The packages themselves: downloaded once in a run, converted, and their answers checked.

`SKIPIT_TEST_CACHE` names a folder that keeps the downloads beyond the run.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    AutoTokenizer,
    WhisperFeatureExtractor,
)

from vlm_bridge import third_party
from vlm_bridge.data.spoken_words_task import WORDS, short_recordings, spoken_words
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.reference.language_model import language_model
from vlm_bridge.reference.speech import (
    build_speech,
    build_speech_processor,
    read_speech_tower,
)
from vlm_bridge.third_party.fashion import CLASSES
from vlm_bridge.third_party.speech import RATE, read_wav, words
from vlm_bridge.training.connector import _start_connector, _words_in_turn
from vlm_bridge.training.evaluate import answer_as_trained, fixed_places, trained_answers
from vlm_bridge.training.evaluate import test_questions as task_questions
from vlm_bridge.training.frozen import tower_features

pytestmark = pytest.mark.slow

#: ImageNet classes that look like the photos of a class of Fashion-MNIST, by index: jersey,
#: cardigan, sweatshirt, bow tie; running shoe, clog, sandal, cowboy boot, loafer.
TOPS, SHOES = {610, 474, 841, 457}, {770, 502, 774, 514, 630}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A function from a name to its folder; skips the test where the network is not there."""
    kept = os.environ.get("SKIPIT_TEST_CACHE")
    cache = Path(kept) if kept else tmp_path_factory.mktemp("cache")

    def get(name):
        try:
            return third_party.get(name)
        except BridgeError as error:
            if str(error).startswith("cannot download"):
                pytest.skip(f"{name} needs the network: {error}")
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKIPIT_CACHE", str(cache))
        yield get


def manifest(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def heard(folder, clips, limit=50):
    """What a Whisper folder transcribes, in words; `mr` is how it writes `mister`."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    sounds = [read_wav(clip)[0] / 32768 for clip in clips]
    inputs = processor(sounds, sampling_rate=RATE, return_tensors="pt").input_features
    model.generation_config.max_length = limit
    with torch.inference_mode():
        ids = model.generate(inputs)
    texts = processor.batch_decode(ids, skip_special_tokens=True)
    return [" ".join("mister" if word == "mr" else word for word in words(t)) for t in texts]


@pytest.mark.parametrize("name", ["whisper-tiny.en", "whisper-base"])
def test_whisper_hears_every_word(name, fetched):
    if name == "whisper-base" and not os.environ.get("SKIPIT_TEST_CACHE"):
        pytest.skip("whisper-base downloads 133 MB; SKIPIT_TEST_CACHE keeps them")
    folder, clips = fetched(name), fetched("librivox")
    rows = [row for row in manifest(clips) if row["audio"][-8:-4] in ("0870", "0890", "0930")]
    assert heard(folder, [clips / row["audio"] for row in rows]) == [r["cluster"] for r in rows]


def test_the_prompts_are_what_is_spoken(fetched):
    model, clips = fetched("whisper-tiny.en"), fetched("spoken-prompts")
    rows = manifest(clips)
    assert len(rows) == 265
    splits = {row["cluster"]: row["split"] for row in rows}
    sizes = {"test": 80, "certification": 80, "tuning": 30, "profile": 20, "train": 31}
    assert Counter(splits.values()) == sizes
    some = [row for row in rows if row["split"] == "tuning"][:8]
    said = heard(model, [clips / row["audio"] for row in some])
    right = [
        len(set(words(text)) & set(row["cluster"].split())) / len(set(row["cluster"].split()))
        for text, row in zip(said, some, strict=True)
    ]
    assert np.mean(right) > 0.8


def test_the_start_of_a_connector_hears_words_that_it_was_not_fitted_on(fetched):
    """Of three words the one that is said is most often the nearest to some token of the clip."""
    fetched("spoken-prompts")
    tower = read_speech_tower(fetched("whisper-tiny.en"))
    counts = {}
    for split in ("train", "test"):
        items = spoken_words(split)
        clusters, files = ({getattr(i, n) for i in items} for n in ("cluster", "audio"))
        counts[split] = len(items), len(files), len(clusters)
    assert counts == {"train": (825, 167, 148), "test": (484, 78, 73)}
    llm, tokenizer = language_model()
    extractor = WhisperFeatureExtractor.from_pretrained(fetched("whisper-tiny.en"))
    processor = build_speech_processor(tokenizer, extractor, "plain")
    model = build_speech(llm, tower, processor.audio_token_id)
    vlm = VLM.of("speech", model, processor)
    clips = [short_recordings(split)[:80] for split in ("train", "test")]
    fitted, others = (tower_features(vlm, some) for some in clips)
    mean, std = fitted.tokens.float().mean(0), fitted.tokens.float().std(0)
    spoken = _words_in_turn(vlm, clips[0], fitted.lengths, " ")
    connector = _start_connector((fitted.tokens.float() - mean) / std, spoken)
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in WORDS]
    assert all(len(one) == 1 for one in ids)
    with torch.no_grad():
        names = llm.get_input_embeddings()(torch.tensor(ids)[:, 0]) - spoken.mean(0)
        names = names / names.norm(dim=1, keepdim=True)
        nearest = [
            ((connector((tokens - mean) / std) - spoken.mean(0)) @ names.T).amax(0)
            for tokens in others.each()
        ]
    scores = dict(zip((clip.audio for clip in clips[1]), nearest, strict=True))
    asked = [item for item in spoken_words("test") if item.question.startswith("which")]
    right = [
        max(item.question.split("'")[1::2], key=lambda w: scores[item.audio][WORDS.index(w)])
        == item.answer
        for item in asked
    ]
    assert np.mean(right) > 0.6


def test_mobilenet_tells_tops_from_shoes(fetched):
    """The photos are grey, tiny and inverted; among the ten classes the two groups are apart."""
    folder, _ = fetched("mobilenet-v2"), fetched("fashion-photos")
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForImageClassification.from_pretrained(folder)
    images, labels = third_party.fashion_photos("test")
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [1000] * 10
    kinds = {
        "tops": [CLASSES.index(name) for name in ("t-shirt", "pullover", "coat", "shirt")],
        "shoes": [CLASSES.index(name) for name in ("sandal", "sneaker", "ankle boot")],
    }
    wins = []
    for kind, members in kinds.items():
        chosen = images[np.isin(labels, members)][:24]
        photos = [Image.fromarray(255 - x).convert("RGB").resize((224, 224), 3) for x in chosen]
        with torch.inference_mode():
            logits = model(**processor(photos, return_tensors="pt")).logits
        tops, shoes = (logits[:, sorted(group)].amax(1) for group in (TOPS, SHOES))
        wins += ((tops > shoes) == (kind == "tops")).tolist()
    assert np.mean(wins) > 0.85


def test_smollm2_answers(fetched):
    folder = fetched("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    inputs = tokenizer.apply_chat_template(asked, **options)
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(ids[0, inputs.input_ids.shape[1] :])
    original, _ = language_model()
    wanted = original.state_dict()
    found = model.state_dict()
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_photos_smollm2_answers_as_in_its_training(fetched):
    """The shipped connector between parts fetched now: the answers of the card, on real photos."""
    fetched("mobilenet-v2")
    fetched("fashion-photos")
    name, task = "photos-smollm2", "fashion-photos"
    items, trained = task_questions(name, task), trained_answers(name)[task]
    right = sum(a == i.answer for a, i in zip(trained["answers"], items, strict=True))
    assert right == trained["right"] == 1717
    assert right / len(items) > 0.85
    assert trained["accuracy_blind"]["interval"][1] < 0.5
    places = fixed_places(name, task)[::5]
    found = answer_as_trained(load(name), [items[place] for place in places])
    assert sum(a != trained["answers"][i] for a, i in zip(found, places, strict=True)) <= 1
