"""Configurations of tiny models: width 32, four decoder layers, four vision tokens an image."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from vlm_bridge.reference.mobilenet_tokens import MobileNetTokensConfig

PAD, EOS, UNK, IMAGE, VIDEO, AUDIO = 0, 1, 2, 3, 4, 5
VOCABULARY = 40
LAYERS = 4
#: Pixels a side of every picture.
SIDE = 16

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "pad_token_id": PAD,
    "bos_token_id": UNK,
    "eos_token_id": EOS,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
QWEN_VISION: dict[str, Any] = {
    "depth": 2,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
#: LLaVA-NeXT cuts an image into a thumbnail and tiles of 16 pixels.
PINPOINTS = [[SIDE, SIDE], [SIDE, 2 * SIDE]]


def text(kind: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, **TEXT, **more}


def vision(kind: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, **VISION, **more}


def of(kind: str, decoder: Any, tower: Any, **more: Any) -> PreTrainedConfig:
    return AutoConfig.for_model(kind, text_config=decoder, vision_config=tower, **more)


def llava() -> PreTrainedConfig:
    return of(
        "llava",
        text("llama"),
        vision("clip_vision_model"),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        image_seq_length=4,
    )


def llava_mobilenet() -> PreTrainedConfig:
    """Tower and connector as in `photos-smollm2`: a feature map of 2 x 2, and no class token."""
    tower = {
        "model_type": MobileNetTokensConfig.model_type,
        "depth_multiplier": 0.1,
        "finegrained_output": False,
        "hidden_size": 128,
        "image_size": SIDE,
        "output_stride": 8,
        "initializer_range": 0.05,  # .02, the default, fades to nothing; .1 saturates
    }
    return of(
        "llava",
        text("llama"),
        tower,
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        projector_hidden_act="linear",
        image_seq_length=4,
    )


def llava_next() -> PreTrainedConfig:
    return of(
        "llava_next",
        text("mistral", sliding_window=None),
        vision("clip_vision_model"),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=4,
    )


def llava_onevision() -> PreTrainedConfig:
    return of(
        "llava_onevision",
        text("qwen2"),
        vision("siglip_vision_model"),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=PINPOINTS,
    )


def deepseek_vl() -> PreTrainedConfig:
    return of("deepseek_vl", text("llama"), vision("siglip_vision_model"), image_token_id=IMAGE)


def janus() -> PreTrainedConfig:
    tower = vision("janus_vision_model", mlp_ratio=2.0, projection_dim=32, num_image_tokens=4)
    codes = {
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "embed_dim": 4,
        "latent_channels": 4,
        "num_embeddings": 8,
        "num_patches": 2,
        "num_res_blocks": 1,
        "image_token_embed_dim": 32,
        "projection_dim": 32,
        "num_hidden_layers": 1,
    }
    return of("janus", text("llama"), tower, vq_config=codes, image_token_id=IMAGE)


def qwen2_vl() -> PreTrainedConfig:
    return of(
        "qwen2_vl",
        {**TEXT, "rope_parameters": MROPE},
        {**QWEN_VISION, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=6,
        vision_end_token_id=7,
    )


def qwen2_5_vl() -> PreTrainedConfig:
    tower = {
        **QWEN_VISION,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    return of(
        "qwen2_5_vl",
        {**TEXT, "rope_parameters": MROPE},
        tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=6,
        vision_end_token_id=7,
    )


def qwen3_vl() -> PreTrainedConfig:
    """Vision features are added behind the first two of its layers (DeepStack)."""
    tower = {
        **QWEN_VISION,
        "hidden_size": 16,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    return of(
        "qwen3_vl",
        {**TEXT, "rope_parameters": MROPE},
        tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=6,
        vision_end_token_id=7,
    )


def smolvlm(kind: str = "smolvlm") -> PreTrainedConfig:
    return of(
        kind,
        text("llama"),
        {**VISION, "patch_size": 4},
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=PAD,
    )


def idefics3() -> PreTrainedConfig:
    return smolvlm("idefics3")


def paligemma() -> PreTrainedConfig:
    return of(
        "paligemma",
        text("gemma"),
        vision("siglip_vision_model", projection_dim=32, vision_use_head=False),
        image_token_index=IMAGE,
        projection_dim=32,
    )


def gemma3() -> PreTrainedConfig:
    """Sliding and full layers in turn; a window of 6 bites in every prompt."""
    decoder = text(
        "gemma3_text",
        layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
        sliding_window=6,
        query_pre_attn_scalar=8,
    )
    tower = vision("siglip_vision_model", patch_size=4, vision_use_head=False)
    return of("gemma3", decoder, tower, image_token_index=IMAGE, mm_tokens_per_image=4)


def internvl() -> PreTrainedConfig:
    tower = {**VISION, "image_size": [SIDE, SIDE], "patch_size": [4, 4]}
    return of("internvl", text("qwen2"), tower, image_token_id=IMAGE, image_seq_length=4)


def qwen2_audio() -> PreTrainedConfig:
    audio = {
        "model_type": "qwen2_audio_encoder",
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "num_mel_bins": 8,
        "max_source_positions": 8,
    }
    return AutoConfig.for_model(
        "qwen2_audio", text_config=text("qwen2"), audio_config=audio, audio_token_index=AUDIO
    )
