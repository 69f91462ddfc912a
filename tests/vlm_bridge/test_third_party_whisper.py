"""Whisper in the format of CTranslate2 becomes the same model in transformers' format."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from tests.vlm_bridge.tiny_whisper import (
    ENGLISH,
    MULTILINGUAL,
    SPECIAL,
    ctranslate2_bytes,
    tiny_whisper,
    variables_of,
    write_files,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party.ctranslate2 import read_ctranslate2
from vlm_bridge.third_party.whisper import convert, whisper_tensors

SMALL = {"a": np.arange(6, dtype="<f2").reshape(2, 3), "b": np.array(7, "<i2")}


@pytest.fixture(scope="module", params=[ENGLISH, MULTILINGUAL], ids=["english", "multilingual"])
def converted(request, tmp_path_factory):
    """The first token with a meaning, and the folder of the converted model."""
    folder, given = tmp_path_factory.mktemp("whisper"), tmp_path_factory.mktemp("files")
    convert(write_files(given, request.param), folder)
    return request.param, folder


def test_the_logits_are_those_of_the_original(converted):
    first, folder = converted
    before, after = tiny_whisper(first), AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    assert after.dtype == torch.float32
    before = before.half().float()  # the file holds float16
    torch.manual_seed(1)
    sound, ids = torch.randn(2, 80, 3000), torch.randint(0, first, (2, 5))
    with torch.inference_mode():
        logits = [m(input_features=sound, decoder_input_ids=ids).logits for m in (before, after)]
    torch.testing.assert_close(*logits)
    assert logits[0].std() > 0.1


def test_the_processor_knows_every_token(converted):
    first, folder = converted
    processor = AutoProcessor.from_pretrained(folder)
    assert len(processor.tokenizer) == first + len(SPECIAL) + 1501
    assert processor.tokenizer.convert_tokens_to_ids("<|30.00|>") == len(processor.tokenizer) - 1
    assert processor.tokenizer.pad_token == "<|endoftext|>"
    sound = processor(np.zeros(16_000, np.float32), sampling_rate=16_000, return_tensors="pt")
    assert sound.input_features.shape == (1, 80, 3000)


def test_generation_begins_as_whisper_was_trained(converted):
    first, folder = converted
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    settings = model.generation_config
    assert settings.decoder_start_token_id == first + 1
    assert settings.eos_token_id == settings.pad_token_id == first
    assert settings.no_timestamps_token_id == first + 9
    assert settings.suppress_tokens == [1, 2]
    assert settings.begin_suppress_tokens == [3]
    assert settings.is_multilingual is (first == MULTILINGUAL)
    if first == MULTILINGUAL:
        assert settings.lang_to_id == {"<|en|>": first + 2, "<|de|>": first + 3}
        assert settings.task_to_id == {"transcribe": first + 5, "translate": first + 4}
        assert (settings.language, settings.task) == ("en", "transcribe")


@pytest.fixture(scope="module")
def variables():
    return variables_of(tiny_whisper(ENGLISH))


CHANGES = {
    "is missing": lambda v: v.pop("decoder/layer_1/ffn/linear_0/bias"),
    "are not Whisper's: encoder/extra": lambda v: v.update({"encoder/extra": np.zeros(1, "<f2")}),
    "has the type int8": lambda v: v.update(
        {"encoder/conv1/weight": v["encoder/conv1/weight"].astype("i1")}
    ),
    "has a bias of its keys": lambda v: v.update(
        {"encoder/layer_0/self_attention/linear_0/bias": np.ones(24, "<f2")}
    ),
    "has the layers [0, 2]": lambda v: (
        v.update({"decoder/layer_2/x": v["decoder/num_heads"]})
        or [v.pop(name) for name in list(v) if "decoder/layer_1" in name]
    ),
}


@pytest.mark.parametrize("says", CHANGES)
def test_other_weights_are_refused(says, variables):
    changed = copy.copy(variables)
    CHANGES[says](changed)
    with pytest.raises(BridgeError) as error:
        whisper_tensors(changed)
    assert says in str(error.value)


def test_a_swap_of_query_and_value_is_seen(variables):
    """The stacked rows are told apart: this test's own file order is not arbitrary."""
    swapped = copy.copy(variables)
    name = "encoder/layer_0/self_attention/linear_0/weight"
    swapped[name] = np.roll(swapped[name], 8, axis=0)
    right, wrong = whisper_tensors(variables), whisper_tensors(swapped)
    differ = sorted(key for key in right if not torch.equal(right[key], wrong[key]))
    assert differ == [f"model.encoder.layers.0.self_attn.{x}_proj.weight" for x in "kqv"]


def read(folder, data):
    path = folder / "model.bin"
    path.write_bytes(data)
    return read_ctranslate2([path], "WhisperSpec")


def test_names_shapes_and_numbers_are_read(tmp_path):
    found = read(tmp_path, ctranslate2_bytes(SMALL, {"c": "a"}))
    assert set(found) == {"a", "b", "c"}
    assert found["b"] == 7
    np.testing.assert_array_equal(found["a"], SMALL["a"])
    assert found["c"] is found["a"]


@given(cut=st.integers(0, len(ctranslate2_bytes(SMALL, {"c": "a"})) - 1))
def test_a_truncated_file_is_refused(cut, tmp_path_factory):
    data = ctranslate2_bytes(SMALL, {"c": "a"})[:cut]
    with pytest.raises(BridgeError, match="no weights file of CTranslate2"):
        read(tmp_path_factory.mktemp("cut"), data)


@given(data=st.binary(max_size=200), start=st.sampled_from([0, 4, 18, 26, 30]))
def test_any_bytes_are_refused_or_read(data, start, tmp_path_factory):
    whole = ctranslate2_bytes(SMALL)[:start] + data
    try:
        read(tmp_path_factory.mktemp("any"), whole)
    except BridgeError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (ctranslate2_bytes(SMALL) + b"\0", "1 bytes follow its end"),
        (ctranslate2_bytes(SMALL, spec="TransformerSpec"), "it holds 'TransformerSpec'"),
        (b"\5" + ctranslate2_bytes(SMALL)[1:], "its version is 5, this code reads 6"),
        (ctranslate2_bytes(SMALL, {"c": "z"}), "the alias 'c' of 'z' does not fit"),
        (ctranslate2_bytes(SMALL).replace(b"\2\0b\0", b"\2\0a\0"), "the name 'a' occurs twice"),
        (
            ctranslate2_bytes(SMALL).replace(b"\4\x0c\0\0\0", b"\4\x0d\0\0\0"),
            "'a' of shape (2, 3) has 13 bytes",
        ),
    ],
)
def test_what_does_not_fit_is_named(data, says, tmp_path):
    with pytest.raises(BridgeError) as error:
        read(tmp_path, data)
    assert says in str(error.value)
