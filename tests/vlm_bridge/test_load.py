"""`load` refuses before weights are read, and its models may be spread over devices."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import dispatch_model
from transformers import AutoConfig

from tests.vlm_bridge.families import FAMILIES, PLANS, SITUATIONS, batch, tiny
from tests.vlm_bridge.families.configs import qwen2_audio
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM, load, load_meta
from vlm_bridge.reference.recipe import RECIPES
from vlm_bridge.skip import skipping
from vlm_bridge.third_party.catalogue import names_of


def refusal(call) -> str:
    with pytest.raises(BridgeError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize("read", [load, load_meta])
def test_a_family_is_refused_from_its_configuration(read, tmp_path):
    """The folder holds nothing else: no weights, no processor."""
    AutoConfig.for_model("florence2").save_pretrained(tmp_path)
    said = refusal(lambda: read(tmp_path))
    assert said.startswith("Florence2ForConditionalGeneration is an encoder-decoder with images")


@pytest.mark.parametrize("read", [load, load_meta])
def test_what_is_no_language_model_is_refused(read, tmp_path):
    AutoConfig.for_model("vit").save_pretrained(tmp_path)
    expected = f"cannot load '{tmp_path}': model type 'vit' is no language model"
    assert refusal(lambda: read(tmp_path)) == expected


@pytest.mark.parametrize("kind", ["whisper", "bart"])
def test_load_meta_of_an_encoder_decoder(kind, tmp_path):
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    stacks = load_meta(tmp_path).layout.stacks
    assert list(stacks) == ["audio" if kind == "whisper" else "encoder", "decoder"]


def test_load_meta_of_a_model_that_hears(tmp_path):
    qwen2_audio().save_pretrained(tmp_path)
    vlm = load_meta(tmp_path)
    assert type(vlm.model).__name__ == "Qwen2AudioForConditionalGeneration"
    assert all(parameter.is_meta for parameter in vlm.model.parameters())
    assert vlm.layout.audio_ids == (5,)
    assert vlm.layout.special_ids == ()  # no tokenizer there


def test_what_is_no_model(tmp_path):
    assert refusal(lambda: load(tmp_path)) == (
        f"{tmp_path} is not a model folder: it has no config.json"
    )
    (tmp_path / "config.json").write_text("{")
    assert refusal(lambda: load(tmp_path)).startswith(f"cannot load '{tmp_path}': ")
    assert refusal(lambda: load("nobody")) == (
        f"unknown model 'nobody': give one of {', '.join(RECIPES)}, a model of others "
        f"({', '.join(names_of('model'))}), a folder, or a Hugging Face id (owner/name)"
    )
    assert refusal(lambda: load("reference", dtype="int4")) == (
        "unknown dtype 'int4'; choose from float32, bfloat16, float16"
    )


@pytest.mark.parametrize("mode", PLANS)
def test_a_model_that_accelerate_moves_data_for(mode):
    """`device_map` puts hooks and a forward of its own on every layer; a skip respects both."""
    family = FAMILIES["LLaVA"]
    plain, inputs = tiny(family), batch(family, SITUATIONS["ragged"])
    model = copy.deepcopy(plain.model)
    parts = {f"model.language_model.layers.{layer}": "cpu" for layer in range(4)}
    dispatch_model(model, {"": "cpu", **parts}, main_device="cpu", force_hooks=True)
    spread = VLM("spread", model, None, find_layout(model, (0, 1)))
    assert "forward" in spread.layout.layers[0].__dict__
    before = [layer.__dict__["forward"] for layer in spread.layout.layers]
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        for plan in PLANS[mode]:
            with skipping(plain, plan):
                expected = plain.model(**inputs).logits[real]
            with skipping(spread, plan):
                found = spread.model(**inputs).logits[real]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert [layer.__dict__["forward"] for layer in spread.layout.layers] == before
