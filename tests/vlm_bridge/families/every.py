"""A tiny model of every class of transformers that takes images, and an image encoded for it.

The image is given as features (`mm_encoder_outputs`), so that one way fits all families.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMultimodalLM, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from tests.vlm_bridge.families.configs import MROPE, TEXT
from vlm_bridge.model.layout import Layout
from vlm_bridge.model.vlm import VLM

KINDS = sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
#: The model types of every class that takes images, video or audio beside text.
MULTIMODAL = sorted(MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)
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


#: Fields that a class needs and that its default configuration leaves empty or breaks.
_NEEDED: dict[str, dict[str, Any]] = {
    "aya_vision": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 16,
            "num_attention_heads": 2,
        }
    },
    "chameleon": {"vocabulary_map": {"<image>": 8711}},
    "emu3": {"vocabulary_map": {"<image>": 151851}},
    "ernie4_5_vl_moe": {
        "text_config": {
            **{name: TEXT[name] for name in ("hidden_size", "num_attention_heads")},
            "rope_parameters": MROPE,
        }
    },
    # By default all of its layers are attention; those of its checkpoints are not.
    "lfm2_vl": {
        "text_config": {"model_type": "lfm2", "layer_types": ["conv", "conv", "full_attention"] * 4}
        | {"num_hidden_layers": 12}
    },
    "hunyuan_vl": {"text_config": {"head_dim": 8, "rope_parameters": MROPE}},
}
#: Size of the vocabulary.
WORDS = 256
_TOWER_DEPTHS = ("num_hidden_layers", "depth", "num_layers", "encoder_layers", "n_layers")
#: More parameters than this are not built here, but for a look on the meta device.
MOST = 900e6


def config_of(kind: str) -> Any:
    """The default configuration with four narrow decoder layers and one layer in every tower.

    The four are of as many kinds as there are, in the order of the default configuration.
    Placeholder tokens without an id get one.
    """
    config: Any = AutoConfig.for_model(kind, **_NEEDED.get(kind, {}))
    text = config.get_text_config(decoder=True)
    n_layers = getattr(text, "num_hidden_layers", 0)
    kept = _representatives(getattr(text, "layer_types", None) or [None] * n_layers)
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == n_layers:
            setattr(text, name, [value[layer] for layer in kept])
        elif name in _TEXT and value is not None:
            setattr(text, name, _TEXT[name])
    if vars(text).get("kv_lora_rank"):  # latent attention has keys for every head
        text.num_key_value_heads = _TEXT["num_attention_heads"]
    if isinstance(getattr(text, "moe_intermediate_size", None), list):
        text.moe_intermediate_size = [16, 16]
    elif getattr(text, "moe_intermediate_size", None):
        text.moe_intermediate_size = 16
    rotary = getattr(text, "rope_parameters", None)
    if isinstance(rotary, dict) and isinstance(rotary.get("rope_theta"), float | int):
        text.rope_parameters = {**rotary, "mrope_section": _sections(rotary)}
    if "vocabulary_map" not in vars(config):
        _fewer_words(config, text)
    for tower in _towers(config, text):
        for name in _TOWER_DEPTHS:
            if isinstance(depth := getattr(tower, name, None), int):
                for field, value in list(vars(tower).items()):
                    if "layer" in field and isinstance(value, list) and len(value) == depth:
                        setattr(tower, field, value[:1])
                setattr(tower, name, 1)
    for number, modality in enumerate(("image", "video", "audio"), start=3):
        for name in (f"{modality}_token_id", f"{modality}_token_index"):
            if name in vars(config) and getattr(config, name) is None:
                setattr(config, name, number)
    return config


def _sections(rotary: dict[str, Any]) -> list[int]:
    """Sections of rotary dimensions for three axes, which models without axes do not read."""
    half = int(_TEXT["head_dim"] * rotary.get("partial_rotary_factor", 1.0)) // 2
    last, middle = half // 2, half // 4
    return [half - middle - last, middle, last]


def _fewer_words(config: Any, text: Any) -> None:
    """A vocabulary of `WORDS` tokens, the special ones at its end."""
    last = WORDS
    numbers: dict[int, int] = {}
    for part in {id(part): part for part in (config, text, *_towers(config, text))}.values():
        for name, value in list(vars(part).items()):
            special = name.endswith(("_token_id", "_token_index"))
            if special and isinstance(value, int) and value >= WORDS - 32:
                if value not in numbers:
                    last -= 1
                    numbers[value] = last
                setattr(part, name, numbers[value])
    for part in (config, text):
        for name in ("vocab_size", "vocab_size_per_layer_input"):
            if isinstance(vars(part).get(name), int):
                setattr(part, name, WORDS)


def _representatives(kinds: list[Any], most: int = 4) -> list[int]:
    """The places of the first of every kind, and of the first layers, `most` in all."""
    firsts = [place for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    others = [place for place in range(len(kinds)) if place not in firsts]
    return sorted([*firsts, *others][:most])


def _towers(config: Any, text: Any) -> Iterator[Any]:
    """The configurations inside `config` beside that of the decoder, at any depth."""
    for part in vars(config).values():
        if isinstance(part, PreTrainedConfig) and part is not text:
            yield part
            yield from _towers(part, text)


def on_meta(kind: str) -> PreTrainedModel:
    """The small model without memory; foreign errors pass."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForMultimodalLM.from_config(config_of(kind))
    return model


def small(kind: str) -> PreTrainedModel:
    """The small model with weights drawn at random in its decoder; foreign errors pass."""
    with no_init_weights():  # of towers, which do not run
        built = AutoModelForMultimodalLM.from_config(config_of(kind))
    model: PreTrainedModel = built.float().eval()
    model.tie_weights()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(tower in name for tower in ("vision", "visual", "audio", "projector")):
                parameter.zero_()
                continue
            if parameter.dim() > 1:
                parameter.normal_(std=0.1, generator=draw)
            else:
                parameter.fill_(0.0 if "bias" in name else 1.0)
    return model


def inputs_of(layout: Layout, *, tokens: int = 4) -> dict[str, Any]:
    """A prompt with an image, or a sound, of `tokens` tokens, without its features."""
    place = (layout.image_ids or layout.audio_ids)[0]
    ids = torch.tensor([[9, 10] + [place] * tokens + [11, 12, 13]])
    types = (ids == place).int()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types}


def features(width: int, *, tokens: int = 4, modality: str = "image") -> list[Any]:
    """The same features in the forms that families give them."""
    flat: Tensor = torch.randn(tokens, width, generator=torch.Generator().manual_seed(0))
    grid = {"image_grid_thw": torch.tensor([[1, 4, 4]])}
    return [
        {**extra, "mm_encoder_outputs": {modality: BaseModelOutputWithPooling(pooler_output=form)}}
        for extra in ({}, grid)[: 2 if modality == "image" else 1]
        for form in ([flat], flat, flat[None])
    ]


def encoded(vlm: VLM) -> dict[str, Any] | None:
    """Inputs with an encoded image, or sound, in the form that the class takes; None if none."""
    names = inspect.signature(type(vlm.model).forward).parameters
    seen, heard = vlm.layout.image_ids, vlm.layout.audio_ids
    if not (seen or heard) or "mm_encoder_outputs" not in names:
        return None
    modality = "image" if seen else "audio"
    inputs = {n: v for n, v in inputs_of(vlm.layout).items() if n in names or n == "attention_mask"}
    for form in features(int(vlm.layout.text_config.hidden_size), modality=modality):
        try:
            with torch.no_grad():
                vlm.model(**inputs, **form, use_cache=False)
        except Exception:
            continue
        return inputs | form
    return None


def run(vlm: VLM, inputs: dict[str, Any], **options: Any) -> Any:
    """One pass; the encoded image is copied, because classes take it out of its dictionary."""
    fresh = dict(inputs)
    if "mm_encoder_outputs" in fresh:
        fresh["mm_encoder_outputs"] = dict(fresh["mm_encoder_outputs"])
    if options.get("past_key_values") is None and hasattr(vlm.layout.base, "rope_deltas"):
        vlm.layout.base.rope_deltas = None
    with torch.no_grad():
        return vlm.model(**fresh, **options)
