"""Configuration and processor of each small family; an image has 16 vision tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)

from vlm_bridge.errors import BridgeError
from vlm_bridge.reference.recipe import ScratchRecipe
from vlm_bridge.reference.word_tokenizer import word_tokenizer
from vlm_bridge.runtime.processors import images_only

#: Width in pixels of an image and of a patch; vision tokens of an image (2 x 2 patches each).
SIDE, PATCH, TOKENS = 64, 8, 16
_PAD, _EOS, _UNKNOWN, _IMAGE = 0, 1, 2, 3
#: Transformers class of each family by model type.
CLASSES = {
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
    "gemma3": "Gemma3ForConditionalGeneration",
}


def _chat(image: str) -> str:
    """A chat template with the image first, as in all three families."""
    return (
        "{% for m in messages %}user: {% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}" + image + " {% else %}{{ p['text'] }}{% endif %}"
        "{% endfor %} {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )


def build_processor(recipe: ScratchRecipe) -> Any:
    """The processor of a family: image processor, word tokenizer and chat template."""
    if recipe.family == "qwen2_5_vl":
        area = {"shortest_edge": SIDE**2, "longest_edge": SIDE**2}
        sizes = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, "size": area}
        around = ("<|vision_start|>", "<|vision_end|>")
        return images_only(Qwen2_5_VLProcessor)(
            image_processor=Qwen2VLImageProcessorPil(**sizes),
            tokenizer=word_tokenizer("<|image_pad|>", "<|video_pad|>", *around, words=recipe.words),
            chat_template=_chat("<|vision_start|><|image_pad|><|vision_end|>"),
        )
    if recipe.family == "smolvlm":
        edge = {"longest_edge": SIDE}
        special = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
        return Idefics3Processor(
            image_processor=Idefics3ImageProcessorPil(
                size=edge, max_image_size=edge, do_image_splitting=False
            ),
            tokenizer=word_tokenizer("<image>", *special, words=recipe.words),
            image_seq_len=TOKENS,
            chat_template=_chat("<image>"),
        )
    named = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<image>"}
    return Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        tokenizer=word_tokenizer("<image>", "<boi>", "<eoi>", words=recipe.words, **named),
        image_seq_length=TOKENS,
        chat_template=_chat("<boi>"),
    )


def build_config(recipe: ScratchRecipe, vocabulary: int) -> PreTrainedConfig:
    """The configuration of a family; it differs from that of its large models in size only."""
    width, vision = recipe.width, recipe.vision_width
    text: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.heads // 2,
        "head_dim": width // recipe.heads,
        "vocab_size": vocabulary,
        "pad_token_id": _PAD,
        "bos_token_id": _UNKNOWN,
        "eos_token_id": _EOS,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    tower: dict[str, Any] = {
        "hidden_size": vision,
        "intermediate_size": 3 * vision,
        "num_hidden_layers": recipe.vision_layers,
        "num_attention_heads": recipe.heads,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    more: dict[str, Any] = {"tie_word_embeddings": True}
    if recipe.family == "qwen2_5_vl":
        axis = width // recipe.heads // 2
        sections = [axis - 2 * (3 * axis // 8), 3 * axis // 8, 3 * axis // 8]
        rope = {"rope_type": "default", "mrope_section": sections, "rope_theta": 10_000.0}
        text["rope_parameters"] = rope
        tower = {
            "depth": recipe.vision_layers,
            "hidden_size": vision,
            "out_hidden_size": width,
            "intermediate_size": 3 * vision,
            "num_heads": recipe.heads,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": SIDE // 2,
            "fullatt_block_indexes": list(range(1, recipe.vision_layers, 2)),
        }
        more |= {"image_token_id": _IMAGE, "video_token_id": 4}
        more |= {"vision_start_token_id": 5, "vision_end_token_id": 6}
    elif recipe.family == "smolvlm":
        text["model_type"] = "llama"
        more |= {"image_token_id": _IMAGE, "scale_factor": 2, "pad_token_id": _PAD}
    else:
        text |= {
            "model_type": "gemma3_text",
            "layer_types": ["sliding_attention", "full_attention"] * (recipe.layers // 2),
            "sliding_window": 24,
            "query_pre_attn_scalar": width // recipe.heads,
        }
        tower |= {"model_type": "siglip_vision_model", "vision_use_head": False}
        more |= {"image_token_index": _IMAGE, "mm_tokens_per_image": TOKENS}
        more |= {"boi_token_index": 4, "eoi_token_index": 5}
    config: PreTrainedConfig = AutoConfig.for_model(
        recipe.family, text_config=text, vision_config=tower, **more
    )
    return config


def blank_scratch(recipe: ScratchRecipe) -> tuple[Any, Any]:
    """The untrained, seeded model of a recipe and its processor."""
    processor = build_processor(recipe)
    torch.manual_seed(recipe.seed)
    config = build_config(recipe, len(processor.tokenizer))
    model = AutoModelForImageTextToText.from_config(config).float().eval()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return model, processor


@torch.no_grad()
def install_all(model: Any, parts: Mapping[str, Tensor]) -> None:
    """Copy every parameter into the model, tied ones once; names and shapes must be equal."""
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    given = {name: tuple(part.shape) for name, part in parts.items()}
    if expected != given:
        wrong = sorted(name for name, _ in expected.items() ^ given.items())
        raise BridgeError(f"the parts are not those of this model: {', '.join(wrong[:4])}")
    for name, parameter in model.named_parameters():
        parameter.copy_(parts[name])
