"""Families nothing in the bridge was written for: found and skipped by structure alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tests.vlm_bridge.families.configs import (
    AUDIO,
    IMAGE,
    MROPE,
    QWEN_VISION,
    SIDE,
    TEXT,
    VIDEO,
    VISION,
    VOCABULARY,
    of,
    text,
    vision,
)
from tests.vlm_bridge.families.table import Family, by_sequence, modalities, patches, with_sizes

_IN_TURN = ["sliding_attention", "full_attention"] * 2


def mistral3() -> PreTrainedConfig:
    pixtral = {"model_type": "pixtral", **VISION, "head_dim": 8}
    return of(
        "mistral3",
        text("mistral", sliding_window=None),
        pixtral,
        image_token_index=IMAGE,
        spatial_merge_size=1,
        vision_feature_layer=-1,
    )


def vipllava() -> PreTrainedConfig:
    """Around a Mistral of which every layer slides, which no `layer_types` says."""
    return of(
        "vipllava",
        text("mistral", sliding_window=6),
        vision("clip_vision_model"),
        image_token_index=IMAGE,
        vision_feature_layers=[-1, -2],
    )


def cohere2_vision() -> PreTrainedConfig:
    """Attention and MLP side by side, behind one norm."""
    return of(
        "cohere2_vision",
        text("cohere2", layer_types=_IN_TURN, sliding_window=6),
        vision("siglip_vision_model", patch_size=4),
        image_token_id=IMAGE,
        downsample_factor=2,
        alignment_intermediate_size=64,
    )


def aria() -> PreTrainedConfig:
    """A mixture of experts."""
    return of(
        "aria",
        text("aria_text", moe_num_experts=2, moe_topk=1, moe_num_shared_experts=1),
        {"model_type": "idefics3_vision", **VISION},
        image_token_index=IMAGE,
        projector_patch_to_query_dict={4: 4},
    )


def idefics2() -> PreTrainedConfig:
    resampler = {
        "hidden_size": 32,
        "resampler_n_latents": 4,
        "resampler_depth": 1,
        "resampler_n_heads": 2,
        "resampler_head_dim": 8,
        "num_key_value_heads": 1,
    }
    return of(
        "idefics2",
        text("mistral", sliding_window=6),
        VISION,
        perceiver_config=resampler,
        image_token_id=IMAGE,
    )


def glm4v() -> PreTrainedConfig:
    """Norms behind attention and MLP as well as before them."""
    tower = {
        **QWEN_VISION,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "image_size": SIDE,
    }
    return of(
        "glm4v",
        {**TEXT, "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}},
        tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        image_start_token_id=6,
        image_end_token_id=7,
    )


def qwen3_vl_moe() -> PreTrainedConfig:
    """A mixture of experts with DeepStack; its last layer has a plain MLP."""
    tower = {
        **QWEN_VISION,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    experts: dict[str, Any] = {
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
    }
    experts["mlp_only_layers"] = [3]
    return of(
        "qwen3_vl_moe",
        {**TEXT, **experts, "rope_parameters": MROPE},
        tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
    )


def gemma4() -> PreTrainedConfig:
    """The dense kind; the small ones share keys and values, which is refused."""
    decoder = text(
        "gemma4_text",
        layer_types=_IN_TURN,
        sliding_window=6,
        hidden_size_per_layer_input=0,
        num_kv_shared_layers=0,
        global_head_dim=8,
        vocab_size_per_layer_input=VOCABULARY,
    )
    tower = {
        "model_type": "gemma4_vision",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "patch_size": 4,
        "pooling_kernel_size": 2,
        "default_output_length": 4,
        "position_embedding_size": 16,
    }
    ids = {"image_token_id": IMAGE, "video_token_id": VIDEO, "audio_token_id": AUDIO}
    return of("gemma4", decoder, tower, audio_config=None, **ids)


def llama4() -> PreTrainedConfig:
    """Experts in every other layer; three layers look at chunks of 8, the last has no RoPE."""
    decoder = text(
        "llama4_text",
        attention_chunk_size=8,
        num_local_experts=2,
        interleave_moe_layer_step=2,
        intermediate_size_mlp=48,
        no_rope_layers=[1, 1, 1, 0],
        layer_types=["chunked_attention"] * 3 + ["full_attention"],
    )
    tower = {
        "model_type": "llama4_vision_model",
        **VISION,
        "patch_size": 4,
        "intermediate_size": 64,
        "vision_output_dim": 32,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
        "pixel_shuffle_ratio": 0.5,
    }
    return of("llama4", decoder, tower, image_token_index=IMAGE)


def _flat_patches(images: Tensor, counts: list[int]) -> dict[str, Tensor]:
    """16 patches of 3 x 4 x 4 pixels an image, each with its column and row."""
    cut = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4)).flip(-1)
    return {
        "pixel_values": cut.reshape(len(images), 16, 48),
        "image_position_ids": places.expand(len(images), 16, 2),
    }


UNLISTED = {
    "Mistral3": Family(mistral3, pixels=with_sizes),
    "VipLLaVA": Family(vipllava),
    "Cohere2Vision": Family(cohere2_vision),
    "Aria": Family(aria),
    "Idefics2": Family(idefics2, pixels=by_sequence),
    "GLM-4V": Family(glm4v, pixels=patches, types=modalities),
    "Gemma4": Family(gemma4, pixels=_flat_patches, types=modalities),
    "Llama4": Family(llama4),
    "Qwen3-VL-MoE": Family(qwen3_vl_moe, pixels=patches, types=modalities),
}
