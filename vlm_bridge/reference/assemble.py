"""A standard LLaVA: its configuration, processor, and trained parts in their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)

from vlm_bridge.reference.lora import merge_lora
from vlm_bridge.reference.recipe import Recipe

IMAGE_TOKEN = "<image>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vision_config(recipe: Recipe) -> CLIPVisionConfig:
    """The configuration of the vision tower."""
    return CLIPVisionConfig(
        hidden_size=recipe.vision_width,
        intermediate_size=4 * recipe.vision_width,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=recipe.vision_heads,
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        projection_dim=recipe.vision_width,
    )


def build_processor(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> LlavaProcessor:
    """The processor: image processor, tokenizer with `<image>`, and chat template."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    images = CLIPImageProcessorPil(
        size={"height": recipe.image_size, "width": recipe.image_size},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=recipe.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE_TOKEN,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(
    llm: LlamaForCausalLM, image_token_id: int, recipe: Recipe
) -> LlavaForConditionalGeneration:
    """An untrained standard LLaVA around the given language model, in float32."""
    return around(
        llm,
        image_token_id,
        vision_config=vision_config(recipe),
        vision_feature_select_strategy="default",
        image_seq_length=recipe.vision_tokens,
        projector_hidden_act="gelu",
    )


def around(llm: Any, image_token_id: int, **settings: Any) -> LlavaForConditionalGeneration:
    """A standard LLaVA around a causal language model, in float32; `settings` of its `LlavaConfig`.

    The new `<image>` token gets the mean embedding; projected patches replace it.
    """
    add_placeholder(llm, image_token_id)
    config = LlavaConfig(
        text_config=llm.config,
        image_token_id=image_token_id,
        vision_feature_layer=-1,
        tie_word_embeddings=llm.config.tie_word_embeddings,
        **settings,
    )
    return with_language_model(LlavaForConditionalGeneration(config), llm)


@torch.no_grad()
def add_placeholder(llm: Any, token_id: int) -> None:
    """Give a causal language model the token that features replace, with the mean embedding."""
    if token_id >= len(llm.get_input_embeddings().weight):
        llm.resize_token_embeddings(token_id + 1, mean_resizing=False)
    # The second table may be the first.
    for table in (llm.get_input_embeddings().weight, llm.get_output_embeddings().weight):
        table[token_id] = table[:token_id].mean(0)


def with_language_model(model: Any, llm: Any) -> Any:
    """`model`, made for the configuration of `llm`, with the weights of `llm`, in float32."""
    model.to(torch.float32)
    model.model.language_model.load_state_dict(llm.base_model.state_dict())
    model.lm_head.load_state_dict(llm.get_output_embeddings().state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = llm.config.eos_token_id
    model.generation_config.pad_token_id = llm.config.eos_token_id
    return model.eval()


def install_parts(
    model: LlavaForConditionalGeneration, parts: Mapping[str, Tensor], recipe: Recipe
) -> None:
    """Load the trained tower and projector and merge LoRA, in float32.

    `parts` has the keys `tower.*`, `projector.*` (with folded standardisation) and `lora.*`.
    """
    model.model.vision_tower.load_state_dict(section(parts, "tower"))
    model.model.multi_modal_projector.load_state_dict(section(parts, "projector"))
    layers = model.model.language_model.layers
    merge_lora(layers, section(parts, "lora"), recipe.lora_rank, recipe.lora_alpha)


def section(parts: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose names start with `name.`, without this prefix."""
    return {k.removeprefix(f"{name}."): v for k, v in parts.items() if k.startswith(f"{name}.")}


@torch.no_grad()
def fold_standardisation(linear: Linear, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of `x -> linear((x - mean) / std)`; mean and std are (in_features,)."""
    weight = linear.weight / std
    return weight, linear.bias - weight @ mean


@torch.no_grad()
def unfold_standardisation(linear: Linear, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias that `fold_standardisation` turns into those of `linear`."""
    return linear.weight * std, linear.bias + linear.weight @ mean
