"""Families nothing in the bridge was written for: found and skipped by structure alone."""

from __future__ import annotations

from transformers import PreTrainedConfig

from tests.vlm_bridge.families.configs import (
    IMAGE,
    MROPE,
    QWEN_VISION,
    SIDE,
    TEXT,
    VIDEO,
    VISION,
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
    """A mixture of experts with DeepStack."""
    tower = {
        **QWEN_VISION,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    return of(
        "qwen3_vl_moe",
        {**TEXT, **experts, "rope_parameters": MROPE},
        tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
    )


UNLISTED = {
    "Mistral3": Family(mistral3, pixels=with_sizes),
    "VipLLaVA": Family(vipllava),
    "Cohere2Vision": Family(cohere2_vision),
    "Aria": Family(aria),
    "Idefics2": Family(idefics2, pixels=by_sequence),
    "GLM-4V": Family(glm4v, pixels=patches, types=modalities),
    "Qwen3-VL-MoE": Family(qwen3_vl_moe, pixels=patches, types=modalities),
}
