"""A random LLaVA whose prefill is mostly vision: 512 wide, 12 layers, 576 + 40 tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM

IMAGE, VISION_TOKENS, TEXT_TOKENS, VOCABULARY = 3, 576, 40, 1000


def random_llava(
    *, width: int = 512, layers: int = 12, attention: str = "sdpa", device: str = "cpu"
) -> VLM:
    """The model; its vision tower is small, so that the decoder is what is measured."""
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=96,
            patch_size=4,
        ),
        text_config=LlamaConfig(
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            vocab_size=VOCABULARY,
            max_position_embeddings=4096,
        ),
        image_token_id=IMAGE,
        vision_feature_layer=-1,
        image_seq_length=VISION_TOKENS,
    )
    model = LlavaForConditionalGeneration(config).eval().to(device)
    model.set_attn_implementation(attention)
    return VLM(f"random LLaVA ({width} wide, {layers} layers)", model, None, find_layout(model))


def prompt(batch: int, *, seed: int = 0, device: str = "cpu") -> dict[str, Tensor]:
    """An image of 576 tokens, then 40 tokens of text, in every sequence."""
    draw = torch.Generator().manual_seed(seed)
    text = torch.randint(4, VOCABULARY, (batch, TEXT_TOKENS), generator=draw)
    ids = torch.cat([torch.full((batch, VISION_TOKENS), IMAGE), text], dim=1)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(batch, 3, 96, 96, generator=draw),
    }
    return {name: value.to(device) for name, value in inputs.items()}
