"""What cannot be skipped is refused by name, before any compute, with these exact words."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from tests.vlm_bridge.families.configs import IMAGE, TEXT, VISION
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import find_layout

#: model type, options of its configuration -> the message.
REFUSED = [
    (
        "idefics",
        {},
        "IdeficsForVisionText2Text: its configuration names no image, video or audio token, so it "
        "is not known which positions hold pixel_values",
    ),
    (
        "glm5_next",
        {},
        "Glm5NextForConditionalGeneration: its layers pass on 4 versions of every token "
        "(hyper-connections); only layers with one residual stream are supported",
    ),
    (
        "unlimited_ocr",
        {},
        "UnlimitedOcrForConditionalGeneration: layer 0 (UnlimitedOcrTextDecoderLayer) is of type "
        "'reference_sliding_attention', whose cache is not known; supported are full_attention, "
        "sliding_attention, chunked_attention, conv, hybrid, hybrid_sliding, indexed_attention, "
        "linear_attention, moe, mlp",
    ),
    (
        "florence2",
        {},
        "Florence2ForConditionalGeneration is an encoder-decoder with images; supported are "
        "encoder-decoders of text or audio, and decoder-only models",
    ),
    (
        "blip-2",
        {"text_config": {"model_type": "t5"}},
        "Blip2ForConditionalGeneration is an encoder-decoder with images; supported are "
        "encoder-decoders of text or audio, and decoder-only models",
    ),
    (
        "blip-2",
        {},
        "Blip2ForConditionalGeneration: its configuration names no image, video or audio token, "
        "so it is not known which positions hold pixel_values",
    ),
    (
        "git",
        {},
        "GitForCausalLM: found no list of decoder layers; this family is not supported",
    ),
]


def refusal(model) -> str:
    with pytest.raises(BridgeError) as error:
        find_layout(model)
    return str(error.value)


@pytest.mark.parametrize(("kind", "options", "message"), REFUSED)
def test_a_family_that_cannot_work(kind, options, message):
    with torch.device("meta"):  # no weights: nothing could be computed
        model = AutoModelForMultimodalLM.from_config(AutoConfig.for_model(kind, **options))
    assert refusal(model) == message


def test_several_versions_of_every_token():
    """Gemma3n without shared keys and values."""
    config = AutoConfig.for_model("gemma3n_text", num_kv_shared_layers=0)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert refusal(model) == (
        "Gemma3nForCausalLM: its layers pass on 4 versions of every token (AltUp); only layers "
        "with one residual stream are supported"
    )


def test_an_answer_apart_from_its_prompt():
    text = {**TEXT, "layer_types": ["sliding_attention", "full_attention"] * 2}
    text |= {"sliding_window": 6, "global_head_dim": 8, "num_global_key_value_heads": 2}
    text |= {"num_experts": 2, "top_k_experts": 1, "moe_intermediate_size": 16}
    tower = {**VISION, "model_type": "gemma4_vision", "num_key_value_heads": 2, "head_dim": 8}
    tower |= {"position_embedding_size": 16, "default_output_length": 4}
    config = AutoConfig.for_model(
        "diffusion_gemma", text_config=text, vision_config=tower, image_token_id=IMAGE
    )
    with torch.device("meta"):
        model = AutoModelForMultimodalLM.from_config(config)
    assert refusal(model) == (
        f"{type(model).__name__} reads its prompt in an encoder and answers in decoder_input_ids; "
        "only models with prompt and answer in one sequence are supported"
    )


class Blind(LlamaForCausalLM):
    """A model of somebody's own that takes pixels and does not say where they go."""

    def forward(self, input_ids=None, pixel_values=None, **kwargs):
        return super().forward(input_ids=input_ids, **kwargs)


def test_a_model_that_takes_pixels_without_saying_where_they_go():
    config = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9
    )
    assert find_layout(LlamaForCausalLM(config)).modality_ids == ()
    assert refusal(Blind(config)) == (
        "Blind: its configuration names no image, video or audio token, so it is not known which "
        "positions hold pixel_values"
    )
