"""The whole training of the reference VLM: tower, adapter, one file, its own answers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vlm_bridge.data import easy_vqa
from vlm_bridge.reference.adapt import train_adapter
from vlm_bridge.reference.assemble import (
    IMAGE_TOKEN,
    build_model,
    build_processor,
    install_parts,
)
from vlm_bridge.reference.language_model import GGUF_SHA256, language_model
from vlm_bridge.reference.recipe import Recipe
from vlm_bridge.reference.tower import train_tower

log = logging.getLogger(__name__)

PARTS = "parts.safetensors"


def blank_reference(recipe: Recipe) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The reference architecture around the real language model, vision part untrained."""
    llm, tokenizer = language_model()
    processor = build_processor(tokenizer, recipe)
    image_token_id = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    torch.manual_seed(recipe.seed)
    return build_model(llm, image_token_id, recipe), processor


def train(folder: Path, recipe: Recipe) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Train, or continue, in `folder`; writes `parts.safetensors` there.

    Tower, projector and LoRA go into one file: a projector is only right for the tower it
    was trained with. The tower is rounded to bfloat16 before stage two sees it, so that
    what is shipped is what was trained against.

    Returns:
        The trained model as this process holds it (built from the parts in memory, not
        read back), and its processor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    items = easy_vqa("train")
    tower = train_tower(items, recipe, folder / "tower.checkpoint.safetensors")
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())
    model, processor = blank_reference(recipe)
    parts = train_adapter(
        items, model, processor, tower, recipe, folder / "adapt.checkpoint.safetensors"
    )
    metadata = {
        "format": "skipit-reference-1",
        "recipe": json.dumps(recipe.to_dict(), sort_keys=True),
        "language_model_sha256": GGUF_SHA256,
    }
    partial = folder / f"{PARTS}.partial"
    save_file(parts, partial, metadata=metadata)
    partial.replace(folder / PARTS)
    log.info("saved %s (%d bytes)", folder / PARTS, (folder / PARTS).stat().st_size)
    trained, processor = blank_reference(recipe)
    install_parts(trained, parts, recipe)
    return trained, processor


def read_parts(path: Path) -> dict[str, torch.Tensor]:
    """The trained parts, on the CPU, as stored (bfloat16)."""
    return load_file(path)
