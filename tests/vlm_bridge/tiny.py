"""Tiny random models of real transformers classes, with a real processor, no network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vlm_bridge.data import Item
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM

WORDS = "what is there a red blue circle square shape yes no in the image ? not : user".split()
SPECIAL = ["<pad>", "<eos>", "<unk>", "<image>"]
CHAT = (
    "{% for m in messages %}user: {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image> {% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}"
)


@lru_cache
def tokenizer() -> PreTrainedTokenizerFast:
    vocab = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return fast


@lru_cache
def processor() -> LlavaProcessor:
    images = CLIPImageProcessorPil(size={"height": 16, "width": 16}, do_center_crop=False)
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT,
    )


def tiny_llava(
    *, layers: int = 4, attention: str = "sdpa", seed: int = 0, scale: float = 6.0
) -> VLM:
    """A random LLaVA whose layers matter: weights are large, so a wrong mask shows."""
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        ),
        text_config=LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=len(tokenizer()),
            pad_token_id=0,
            eos_token_id=1,
        ),
        image_token_id=3,
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    model = LlavaForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    model.set_attn_implementation(attention)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = 1
    return VLM("tiny", model, processor(), find_layout(model, (0, 1, 2, 3)))


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))


#: name -> (prompt, number of images) of every sequence of a batch.
BATCHES = {
    "single": [("user : <image> is there a circle ?", 1)],
    "padded": [
        ("user : <image> is there a circle ?", 1),
        ("<image> what is the blue shape in the image ? not red", 1),
        ("<image> red ?", 1),
    ],
    "ragged": [
        ("user : <image> is there <image> a circle ?", 2),
        ("what is the blue shape in the image ? not red", 0),
        ("<image> red ?", 1),
    ],
    "image first": [("<image> red ?", 1), ("<image> blue ?", 1)],
    "no image": [("is there a circle ?", 0), ("what is red ?", 0)],
}


def batch(name: str) -> dict[str, torch.Tensor]:
    """Left-padded inputs of one of `BATCHES`."""
    rows = BATCHES[name]
    images = [picture(i) for i in range(sum(count for _, count in rows))]
    inputs = processor()(
        text=[text for text, _ in rows],
        images=images or None,
        return_tensors="pt",
        padding=True,
        padding_side="left",
    )
    inputs.pop("token_type_ids", None)
    return dict(inputs)


def asked_pictures(folder: Path, count: int) -> list[Item]:
    """Images with one question each, of three lengths, so that batches are padded."""
    asked = ("is there a circle ?", "what is red ?", "is the shape blue ? not red")
    items = []
    for number in range(count):
        picture(number).save(folder / f"{number}.png")
        items.append(Item(folder / f"{number}.png", asked[number % 3], "yes"))
    return items
