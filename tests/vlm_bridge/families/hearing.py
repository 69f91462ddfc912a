"""Tiny models that hear, that hear and see, and that do neither, with inputs made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from tests.vlm_bridge.families import configs
from tests.vlm_bridge.families.configs import (
    AUDIO,
    EOS,
    IMAGE,
    MROPE,
    PAD,
    QWEN_VISION,
    SIDE,
    TEXT,
    VIDEO,
    text,
)
from tests.vlm_bridge.families.table import patches
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM

#: Tokens around images and sounds in Omni's prompts, and the words between.
_STARTS = {"I": (6, 7), "A": (8, 9)}
_WORDS = (10, 40)
#: situation -> prompts of `t`, images `I` and sounds `A`; models without the one or the other
#: leave it out.
PROMPTS = {
    "single": ("ttAttIttt",),
    "padded": ("ttAttIttt", "Atttttttt", "tAIt"),
    "ragged": ("ttAttAtt", "tttttttt", "ItA"),
}
_AUDIO = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 8,
}


def voxtral() -> PreTrainedConfig:
    """32 frames become 16 states, four of which are a token."""
    tower = {
        "model_type": "voxtral_encoder",
        "hidden_size": 16,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_mel_bins": 8,
        "max_source_positions": 16,
    }
    return AutoConfig.for_model(
        "voxtral", audio_config=tower, text_config=text("llama"), audio_token_id=AUDIO
    )


def omni() -> PreTrainedConfig:
    tower = {
        **QWEN_VISION,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "window_size": SIDE,
        "fullatt_block_indexes": [1],
    }
    return AutoConfig.for_model(
        "qwen2_5_omni_thinker",
        audio_config={**_AUDIO, "max_source_positions": 16, "n_window": 8, "output_dim": 32},
        vision_config=tower,
        text_config={**TEXT, "rope_parameters": MROPE, "use_sliding_window": False},
        audio_token_id=AUDIO,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=6,
        vision_end_token_id=7,
        audio_start_token_id=8,
        audio_end_token_id=9,
    )


def llama() -> PreTrainedConfig:
    return AutoConfig.for_model(**{"model_type": "llama", **TEXT})


def gemma3_text() -> PreTrainedConfig:
    """Sliding and full layers in turn; a window of 6 bites in every prompt."""
    layers = ["sliding_attention", "full_attention"] * 2
    more = {"layer_types": layers, "sliding_window": 6, "query_pre_attn_scalar": 8}
    return AutoConfig.for_model(**{"model_type": "gemma3_text", **TEXT, **more})


@dataclass(frozen=True)
class Hearing:
    """A family: its configuration, (mel bins, frames) of a sound, and whether it sees."""

    config: object
    sound: tuple[int, int] | None = None
    sees: bool = False


HEARING = {
    "Qwen2-Audio": Hearing(configs.qwen2_audio, (8, 16)),
    "Voxtral": Hearing(voxtral, (8, 32)),
    "Qwen2.5-Omni": Hearing(omni, (8, 16), sees=True),
}
TEXT_ONLY = {"Llama": Hearing(llama), "Gemma3": Hearing(gemma3_text)}
EVERY = {**HEARING, **TEXT_ONLY}


@lru_cache
def build(name: str) -> PreTrainedModel:
    """A random model whose layers matter: weights are large, so a wrong mask shows."""
    torch.manual_seed(0)
    kind = AutoModelForCausalLM if name in TEXT_ONLY else AutoModelForMultimodalLM
    model = kind.from_config(EVERY[name].config()).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = EOS
    return model


def hearing(name: str, attention: str = "sdpa") -> VLM:
    """The family's tiny model, built once, with this attention."""
    model = build(name)
    model.set_attn_implementation(attention)
    return VLM("tiny", model, None, find_layout(model, (PAD, EOS)))


def inputs_of(name: str, situation: str) -> dict[str, Tensor]:
    """Left-padded inputs of one of `PROMPTS`; an image and a sound have four tokens each."""
    family, draw = EVERY[name], torch.Generator().manual_seed(0)
    taken = "t" + "I" * family.sees + "A" * (family.sound is not None)
    prompts = ["".join(x for x in prompt if x in taken) for prompt in PROMPTS[situation]]
    rows = [[token for x in prompt for token in _tokens(x, family, draw)] for prompt in prompts]
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family.sound is not None and (count := sum(p.count("A") for p in prompts)):
        inputs["input_features"] = torch.randn(count, *family.sound, generator=draw)
        if name != "Voxtral":
            frames = torch.ones(count, family.sound[1], dtype=torch.long)
            inputs["feature_attention_mask"] = frames
    if family.sees:
        counts = [prompt.count("I") for prompt in prompts]
        images = torch.randn(sum(counts), 3, SIDE, SIDE, generator=draw)
        inputs |= patches(images, counts)
    return inputs


def _tokens(letter: str, family: Hearing, draw: torch.Generator) -> list[int]:
    if letter == "t":
        return [int(torch.randint(*_WORDS, (1,), generator=draw))]
    placeholders = [IMAGE if letter == "I" else AUDIO] * 4
    if not family.sees:
        return placeholders
    start, end = _STARTS[letter]
    return [start, *placeholders, end]
