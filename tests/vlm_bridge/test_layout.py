"""The parts of real classes are found by structure; what cannot work is refused by name."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlamaForCausalLM,
)

from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.layout import TOKEN_GROUPS, find_layout

FAMILIES = [
    "llava",
    "llava_next",
    "llava_onevision",
    "qwen2_vl",
    "qwen2_5_vl",
    "gemma3",
    "paligemma",
]


def on_meta(kind: str):
    """A default-sized model of a family, without memory."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.for_model(kind))


@pytest.mark.parametrize("kind", FAMILIES)
def test_families_nobody_listed(kind):
    model = on_meta(kind)
    layout = find_layout(model)
    config = model.config.get_text_config(decoder=True)
    assert layout.n_layers == config.num_hidden_layers
    assert model.config.image_token_id in layout.vision_ids
    assert all(hasattr(layer, "mlp") for layer in layout.layers)


def test_cross_attention_is_refused_by_name():
    with pytest.raises(
        BridgeError, match=r"MllamaForConditionalGeneration: layer .* is not a self-"
    ):
        find_layout(on_meta("mllama"))


def test_a_model_without_images_is_refused():
    config = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9
    )
    with pytest.raises(BridgeError, match="LlamaForCausalLM: its configuration names no image"):
        find_layout(LlamaForCausalLM(config))


def test_token_groups():
    vlm, inputs = tiny_llava(), batch("padded")
    groups = vlm.layout.token_groups(inputs["input_ids"], inputs["attention_mask"])
    for ids, mask, found in zip(inputs["input_ids"], inputs["attention_mask"], groups, strict=True):
        for token, real, group in zip(ids.tolist(), mask.tolist(), found.tolist(), strict=True):
            expected = (
                "pad" if not real else {3: "image", 0: "special", 1: "special"}.get(token, "text")
            )
            assert TOKEN_GROUPS[group] == expected
    assert (groups == TOKEN_GROUPS.index("image")).sum(1).tolist() == [4, 4, 4]
