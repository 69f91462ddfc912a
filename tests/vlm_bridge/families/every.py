"""A tiny model of every class of transformers that takes images, and an image encoded for it.

The image is given as features (`mm_encoder_outputs`), so that one way fits all families.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMultimodalLM, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from tests.vlm_bridge.families.configs import TEXT
from vlm_bridge.model.layout import Layout

KINDS = sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
_TEXT = {
    **{
        name: value
        for name, value in TEXT.items()
        if "token_id" not in name and "vocab" not in name
    },
    "moe_num_experts": 2,
    "num_experts": 2,
    "num_local_experts": 2,
    "n_routed_experts": 2,
    "moe_k": 1,
    "moe_topk": 1,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
    "moe_num_shared_experts": 1,
    "sliding_window": 6,
    "first_k_dense_replace": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 8,
    "global_head_dim": 8,
}


def small(kind: str) -> PreTrainedModel:
    """A model with four narrow decoder layers and one layer in every tower; foreign errors pass."""
    config: Any = AutoConfig.for_model(kind)
    text = config.get_text_config(decoder=True)
    depth = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:4])
        elif name in _TEXT and value is not None:
            setattr(text, name, _TEXT[name])
    if isinstance(getattr(text, "moe_intermediate_size", None), list):
        text.moe_intermediate_size = [16, 16]
    elif getattr(text, "moe_intermediate_size", None):
        text.moe_intermediate_size = 16
    rotary = getattr(text, "rope_parameters", None)
    if isinstance(rotary, dict) and "mrope_section" in rotary:
        text.rope_parameters = {**rotary, "mrope_section": [1, 1, 2]}
    for part in ("vision_config", "audio_config", "qformer_config", "vq_config"):
        tower = getattr(config, part, None)
        for name in ("num_hidden_layers", "depth", "num_layers"):
            if tower is not None and isinstance(getattr(tower, name, None), int):
                setattr(tower, name, 1)
    with no_init_weights():  # of towers, which do not run
        model: PreTrainedModel = AutoModelForMultimodalLM.from_config(config).float().eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(tower in name for tower in ("vision", "visual", "audio", "projector")):
                continue
            if parameter.dim() > 1:
                parameter.normal_(std=0.1, generator=draw)
            else:
                parameter.fill_(0.0 if "bias" in name else 1.0)
    return model


def inputs_of(layout: Layout, *, tokens: int = 4) -> dict[str, Any]:
    """A prompt with an image of `tokens` tokens, without its features."""
    image = layout.image_ids[0]
    ids = torch.tensor([[9, 10] + [image] * tokens + [11, 12, 13]])
    types = (ids == image).int()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types}


def features(width: int, *, tokens: int = 4) -> list[Any]:
    """The same features in the forms that families give them."""
    flat: Tensor = torch.randn(tokens, width, generator=torch.Generator().manual_seed(0))
    grid = {"image_grid_thw": torch.tensor([[1, 4, 4]])}
    return [
        {**extra, "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=form)}}
        for extra in ({}, grid)
        for form in ([flat], flat, flat[None])
    ]
