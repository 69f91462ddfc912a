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
from vlm_bridge.reference.connector import blank_connector, install_connector
from vlm_bridge.reference.families import blank_scratch, install_all
from vlm_bridge.reference.language_model import GGUF_SHA256, language_model
from vlm_bridge.reference.recipe import (
    AnyRecipe,
    PhotosRecipe,
    ScratchRecipe,
    SpeechRecipe,
    on_smollm2,
)
from vlm_bridge.reference.speech import blank_speech, install_speech
from vlm_bridge.reference.stored import from_stored
from vlm_bridge.runtime.files import write_bytes

log = logging.getLogger(__name__)


def blank(recipe: AnyRecipe) -> tuple[Any, Any]:
    """The untrained, seeded model of a recipe and its processor.

    One around SmolLM2 has its pretrained parts; only its vision part, or its connector alone, is
    untrained.
    """
    if isinstance(recipe, ScratchRecipe):
        return blank_scratch(recipe)
    if isinstance(recipe, PhotosRecipe):
        return blank_connector(recipe)
    if isinstance(recipe, SpeechRecipe):
        return blank_speech(recipe)
    llm, tokenizer = language_model()
    processor = build_processor(tokenizer, recipe)
    image_token_id = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    torch.manual_seed(recipe.seed)
    return build_model(llm, image_token_id, recipe), processor


def build(recipe: AnyRecipe, parts: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """The trained model and its processor, from float32 parts."""
    model, processor = blank(recipe)
    if isinstance(recipe, ScratchRecipe):
        install_all(model, parts)
    elif isinstance(recipe, PhotosRecipe):
        install_connector(model, parts)
    elif isinstance(recipe, SpeechRecipe):
        install_speech(model, parts)
    else:
        install_parts(model, parts, recipe)
    return model, processor


def save_parts(path: Path, stored: dict[str, Tensor], recipe: AnyRecipe) -> None:
    """Write the parts with their recipe as metadata."""
    metadata = {"format": "skipit-reference-1", "recipe": json.dumps(asdict(recipe))}
    if on_smollm2(recipe):
        metadata["language_model_sha256"] = GGUF_SHA256
    write_bytes(path, save(stored, metadata=metadata))
    log.info("saved %s (%d bytes)", path, path.stat().st_size)


def read_parts(path: Path) -> dict[str, Tensor]:
    """Read the trained parts, in float32 on the CPU."""
    return from_stored(load_file(path))
