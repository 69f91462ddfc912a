"""Tiny models that hear, and text-only ones, with their real processors, and items for them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5OmniProcessor,
    Qwen2AudioProcessor,
    Qwen2VLImageProcessorPil,
    WhisperFeatureExtractor,
)

from tests.vlm_bridge.families.configs import SIDE
from tests.vlm_bridge.families.hearing import build
from tests.vlm_bridge.tiny import WORDS, picture
from vlm_bridge.data import Item
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.processors import images_only

RATE = 16_000
#: Special tokens at the ids that the tiny models expect.
_SPECIAL = ["<pad>", "<eos>", "<unk>", "<|IMAGE|>", "<|VIDEO|>", "<|AUDIO|>"]
_AROUND = ["<|vision_bos|>", "<|vision_eos|>", "<|audio_bos|>", "<|audio_eos|>"]
CHAT = (
    "{% for m in messages %}user : {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}"
    "<|vision_bos|> <|IMAGE|> <|vision_eos|> {% elif p['type'] == 'audio' %}"
    "<|audio_bos|> <|AUDIO|> <|audio_eos|> {% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{% endfor %}"
)


def tokenizer(*, pad: bool = True, **named: str) -> PreTrainedTokenizerFast:
    """Words and special tokens; without `pad` it has no token for padding."""
    vocabulary = {word: i for i, word in enumerate([*_SPECIAL, *_AROUND, *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=named,
        **({"pad_token": "<pad>"} if pad else {}),
    )
    made.add_special_tokens({"additional_special_tokens": [*_SPECIAL[3:], *_AROUND]})
    return made


def extractor() -> WhisperFeatureExtractor:
    """A second of sound has 16 frames of 8 bands."""
    return WhisperFeatureExtractor(
        feature_size=8, sampling_rate=RATE, hop_length=1_000, chunk_length=1, n_fft=2_000
    )


def qwen2_audio() -> Any:
    return Qwen2AudioProcessor(extractor(), tokenizer(), CHAT, audio_token="<|AUDIO|>")


def omni() -> Any:
    area = {"shortest_edge": SIDE**2, "longest_edge": SIDE**2}
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, size=area)
    named = {f"{kind}_token": f"<|{kind.upper()}|>" for kind in ("image", "video", "audio")}
    for name in ("vision", "audio"):
        named |= {f"{name}_{end}_token": f"<|{name}_{end}|>" for end in ("bos", "eos")}
    return images_only(Qwen2_5OmniProcessor)(
        image_processor=images,
        feature_extractor=extractor(),
        tokenizer=tokenizer(**named),
        chat_template=CHAT,
    )


def with_processor(name: str) -> VLM:
    """A tiny model with its real processor."""
    made = {"Qwen2-Audio": qwen2_audio, "Qwen2.5-Omni": omni}.get(name, tokenizer)()
    return VLM.of(f"tiny {name}", build(name), made)


def sounds(folder: Path, count: int) -> list[Item]:
    """Questions about tones of a second, each in noise of its own, at 8 kHz."""
    times = np.arange(8_000) / 8_000
    items = []
    for number, asked in enumerate(texts(count)):
        draw = np.random.default_rng(number)
        tone = np.sin(2 * np.pi * (300 + 40 * number) * times) / 3
        path = folder / f"{number}.wav"
        wavfile.write(path, 8_000, (tone + 0.05 * draw.normal(size=8_000)).astype(np.float32))
        items.append(Item(None, asked.question, ("yes", "no")[number % 2], audio=path))
    return items


def films(folder: Path, count: int) -> list[Item]:
    """Questions about an image and a sound each."""
    made = []
    for number, item in enumerate(sounds(folder, count)):
        picture(number).save(folder / f"{number}.png")
        made.append(Item(folder / f"{number}.png", item.question, item.answer, audio=item.audio))
    return made


def texts(count: int, *, seed: int = 0) -> list[Item]:
    """Different questions of three to six words, without file."""
    draw, found = random.Random(seed), dict[str, Item]()
    while len(found) < count:
        item = Item(None, " ".join(draw.choices(WORDS[:10], k=draw.randint(3, 6))), "yes")
        found.setdefault(item.cluster, item)
    return list(found.values())
