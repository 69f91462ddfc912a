"""The families of the test matrix: configuration, vision tokens an image, form of the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import AutoModelForMultimodalLM, PreTrainedConfig, PreTrainedModel

from tests.vlm_bridge.families import configs
from tests.vlm_bridge.families.configs import EOS, IMAGE, PAD, SIDE
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM

#: (images (n, 3, SIDE, SIDE), images of every sequence) -> keywords of the model.
Pixels = Callable[[Tensor, list[int]], dict[str, Tensor]]


def plain(images: Tensor, counts: list[int]) -> dict[str, Tensor]:
    return {"pixel_values": images}


def with_sizes(images: Tensor, counts: list[int]) -> dict[str, Tensor]:
    sizes = torch.tensor([[SIDE, SIDE]]).expand(len(images), 2)
    return {"pixel_values": images, "image_sizes": sizes}


def tiles(images: Tensor, counts: list[int]) -> dict[str, Tensor]:
    """A thumbnail and one tile of every image."""
    sizes = torch.tensor([[SIDE, SIDE]]).expand(len(images), 2)
    return {"pixel_values": torch.stack([images, images.flip(-1)], dim=1), "image_sizes": sizes}


def patches(images: Tensor, counts: list[int]) -> dict[str, Tensor]:
    """16 patches of 2 frames x 4 x 4 pixels an image, which merge into 4 tokens."""
    cut = images.unfold(2, 4, 4).unfold(3, 4, 4)  # (n, 3, 4, 4, 4, 4)
    cut = cut.reshape(len(images), 3, 2, 2, 2, 2, 4, 4).permute(0, 2, 4, 3, 5, 1, 6, 7)
    flat = cut[..., None, :, :].expand(*cut.shape[:-2], 2, 4, 4).reshape(-1, 96)
    grid = torch.tensor([[1, 4, 4]]).expand(len(images), 3)
    return {"pixel_values": flat, "image_grid_thw": grid}


def by_sequence(images: Tensor, counts: list[int]) -> dict[str, Tensor]:
    """(batch, most images, 3, side, side), empty places zero."""
    found = images.new_zeros(len(counts), max(counts), *images.shape[1:])
    start = 0
    for row, count in enumerate(counts):
        found[row, :count] = images[start : start + count]
        start += count
    mask = torch.ones(len(counts), max(counts), SIDE, SIDE, dtype=torch.bool)
    return {"pixel_values": found, "pixel_attention_mask": mask}


Types = Callable[[Tensor], dict[str, Tensor]]


def no_types(ids: Tensor) -> dict[str, Tensor]:
    return {}


def image_types(ids: Tensor) -> dict[str, Tensor]:
    return {"token_type_ids": (ids == IMAGE).long()}


def prefix_types(ids: Tensor) -> dict[str, Tensor]:
    """All of the prompt is prefix, which PaliGemma attends to in both directions."""
    return {"token_type_ids": torch.zeros_like(ids)}


def modalities(ids: Tensor) -> dict[str, Tensor]:
    return {"mm_token_type_ids": (ids == IMAGE).int()}


@dataclass(frozen=True)
class Family:
    """A family of the matrix.

    Attributes:
        config: makes the configuration of its tiny model.
        tokens: vision tokens of an image.
        pixels: puts images into the form its processor gives.
        types: token types its processor gives beside the ids.
        causal: a prompt in chunks equals the prompt at once (PaliGemma attends to all of it).
        audio: (mel bins, frames) of a sound instead of images.
    """

    config: Callable[[], PreTrainedConfig]
    tokens: int = 4
    pixels: Pixels = plain
    types: Types = no_types
    causal: bool = True
    audio: tuple[int, int] | None = None


FAMILIES = {
    "LLaVA": Family(configs.llava),
    "LLaVA of MobileNetV2": Family(configs.llava_mobilenet),
    "LLaVA-NeXT": Family(configs.llava_next, tokens=10, pixels=tiles),
    "LLaVA-OneVision": Family(configs.llava_onevision, tokens=10, pixels=tiles),
    "DeepSeek-VL": Family(configs.deepseek_vl),
    "Janus": Family(configs.janus),
    "Qwen2-VL": Family(configs.qwen2_vl, pixels=patches, types=modalities),
    "Qwen2.5-VL": Family(configs.qwen2_5_vl, pixels=patches, types=modalities),
    "Qwen3-VL": Family(configs.qwen3_vl, pixels=patches, types=modalities),
    "SmolVLM": Family(configs.smolvlm, pixels=by_sequence),
    "Idefics3": Family(configs.idefics3, pixels=by_sequence),
    "PaliGemma": Family(configs.paligemma, types=prefix_types, causal=False),
    "Gemma3": Family(configs.gemma3, types=image_types),
    "InternVL": Family(configs.internvl),
}
#: They refuse no mode, and are tested most widely in the fast tier.
FULL = ("LLaVA", "Qwen2.5-VL", "SmolVLM", "Gemma3")
AUDIO_FAMILY = Family(configs.qwen2_audio, audio=(8, 16))


@lru_cache
def build(config: Callable[[], PreTrainedConfig], seed: int = 0) -> PreTrainedModel:
    """A random model whose layers matter: weights are large, so a wrong mask shows."""
    torch.manual_seed(seed)
    model = AutoModelForMultimodalLM.from_config(config()).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                if not parameter.any():  # Gemma3's projector, which would hide the image
                    parameter.normal_(std=0.02)
                parameter.mul_(6.0)
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = EOS
    return model


def tiny(family: Family, attention: str = "sdpa") -> VLM:
    """The family's tiny model, built once, with this attention."""
    model = build(family.config)
    model.set_attn_implementation(attention)
    return VLM("tiny", model, None, find_layout(model, (PAD, EOS)))
