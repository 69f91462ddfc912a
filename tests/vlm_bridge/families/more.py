"""Families that name their pixels otherwise, generate otherwise, or are refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMultimodalLM

from tests.vlm_bridge.families.configs import AUDIO, IMAGE, MROPE, TEXT, VISION, VOCABULARY
from vlm_bridge.model.vlm import VLM


def phi4() -> tuple[VLM, dict[str, Tensor]]:
    """Its pixels come as `image_pixel_values`, and its decoder sees them itself."""
    vision = {**VISION, "num_hidden_layers": 3, "patch_size": 4, "crop_size": 16}
    audio = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_blocks": 1,
        "num_attention_heads": 2,
        "ext_pw_out_channel": 16,
        "depthwise_separable_out_channel": 16,
        "input_size": 8,
        "nemo_conv_channels": 16,
        "audio_token_id": AUDIO,
    }
    text = {name: value for name, value in TEXT.items() if name != "head_dim"}
    vlm = _built(
        "phi4_multimodal",
        **text,
        vision_config={**vision, "image_token_id": IMAGE},
        audio_config=audio,
    )
    return vlm, {
        "input_ids": torch.tensor([[8, 9] + [IMAGE] * 13 + [10, 11]]),
        "image_pixel_values": torch.randn(1, 2, 3, 16, 16, generator=_draw()),
        "image_sizes": torch.tensor([[16, 16]]),
        "image_attention_mask": torch.ones(1, 2, 4, 4),
    }


def blip2() -> tuple[VLM, dict[str, Tensor]]:
    """It generates by giving embeddings to its language model (OPT)."""
    qformer = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    qformer |= {"num_attention_heads": 2, "encoder_hidden_size": 16, "vocab_size": VOCABULARY}
    opt = {**TEXT, "model_type": "opt", "ffn_dim": 48, "word_embed_proj_dim": 32}
    opt |= {"max_position_embeddings": 128}
    vlm = _built(
        "blip-2",
        vision_config=VISION,
        qformer_config=qformer,
        text_config=opt,
        num_query_tokens=4,
        image_token_index=IMAGE,
    )
    ids = torch.tensor([[IMAGE] * 4 + [9, 10, 11], [IMAGE] * 4 + [12, 13, 14]])
    pixels = torch.randn(2, 3, 16, 16, generator=_draw())
    return vlm, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def ernie() -> tuple[VLM, dict[str, Any]]:
    """A mixture of experts that routes each token by its modality."""
    text = {**TEXT, "moe_num_experts": 2, "moe_k": 1, "moe_num_shared_experts": 1}
    text |= {"moe_intermediate_size": [16, 16], "rope_parameters": MROPE}
    text |= {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}
    tower = {"depth": 1, "hidden_size": 16, "num_heads": 2, "patch_size": 4}
    vlm = _built(
        "ernie4_5_vl_moe",
        text_config=text,
        vision_config={**tower, "intermediate_size": 32},
        image_token_id=IMAGE,
    )
    return vlm, _patches(types="moe_mm_token_type_ids")


def hunyuan() -> tuple[VLM, dict[str, Any]]:
    """Its MLPs are numbered as its attentions are."""
    tower = {**VISION, "num_hidden_layers": 1, "num_key_value_heads": 2, "patch_size": 4}
    tower |= {"spatial_merge_size": 2, "out_hidden_size": 32, "text_hidden_size": 32}
    text = {**TEXT, "rope_parameters": MROPE}
    vlm = _built("hunyuan_vl", text_config=text, vision_config=tower, image_token_id=IMAGE)
    return vlm, _patches(6)  # two rows of two, each closed by a token of its own


def _patches(n: int = 4, types: str = "mm_token_type_ids") -> dict[str, Any]:
    ids = torch.tensor([[9, 10] + [IMAGE] * n + [11, 12, 13]])
    seen = (ids == IMAGE).int()
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": seen,
        types: seen,
    }


class Wrapper(nn.Module):
    """Around a model, as PEFT's: it delegates, and `generate` passes its own forward by."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.base_model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model(*args, **kwargs)


def _built(kind: str, **config: Any) -> VLM:
    torch.manual_seed(0)
    model = AutoModelForMultimodalLM.from_config(AutoConfig.for_model(kind, **config))
    return VLM.of(kind, model.float().eval(), None)


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)
