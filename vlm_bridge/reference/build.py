"""Build a reference model and its processor from a recipe and trained parts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from vlm_bridge.reference.assemble import IMAGE_TOKEN, build_model, build_processor, install_parts
from vlm_bridge.reference.families import blank_scratch, install_all
from vlm_bridge.reference.language_model import GGUF_SHA256, language_model
from vlm_bridge.reference.recipe import Recipe, ScratchRecipe
from vlm_bridge.reference.stored import from_stored
from vlm_bridge.runtime.files import write_bytes

log = logging.getLogger(__name__)


def blank(recipe: Recipe | ScratchRecipe) -> tuple[Any, Any]:
    """The untrained, seeded model of a recipe and its processor.

    A LLaVA has its pretrained language model; only its vision part is untrained.
    """
    if isinstance(recipe, ScratchRecipe):
        return blank_scratch(recipe)
    llm, tokenizer = language_model()
    processor = build_processor(tokenizer, recipe)
    image_token_id = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    torch.manual_seed(recipe.seed)
    return build_model(llm, image_token_id, recipe), processor


def build(recipe: Recipe | ScratchRecipe, parts: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """The trained model and its processor, from float32 parts."""
    model, processor = blank(recipe)
    if isinstance(recipe, ScratchRecipe):
        install_all(model, parts)
    else:
        install_parts(model, parts, recipe)
    return model, processor


def save_parts(path: Path, stored: dict[str, Tensor], recipe: Recipe | ScratchRecipe) -> None:
    """Write the parts with their recipe as metadata."""
    metadata = {"format": "skipit-reference-1", "recipe": json.dumps(asdict(recipe))}
    if isinstance(recipe, Recipe):
        metadata["language_model_sha256"] = GGUF_SHA256
    write_bytes(path, save(stored, metadata=metadata))
    log.info("saved %s (%d bytes)", path, path.stat().st_size)


def read_parts(path: Path) -> dict[str, Tensor]:
    """Read the trained parts, in float32 on the CPU."""
    return from_stored(load_file(path))
