"""Build a reference model and its processor from a recipe and trained parts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.reference.assemble import IMAGE_TOKEN, build_model, build_processor, install_parts
from vlm_bridge.reference.connector import blank_connector, install_connector
from vlm_bridge.reference.families import blank_scratch, install_all
from vlm_bridge.reference.language_model import GGUF_SHA256, language_model
from vlm_bridge.reference.recipe import (
    RECIPES,
    AnyRecipe,
    PhotosRecipe,
    Recipe,
    ScratchRecipe,
    SpeechRecipe,
    on_smollm2,
)
from vlm_bridge.reference.shipped import PARTS, shipped
from vlm_bridge.reference.speech import blank_speech, install_speech
from vlm_bridge.reference.stored import from_stored
from vlm_bridge.runtime.built_folder import file_sha256
from vlm_bridge.runtime.files import write_bytes

log = logging.getLogger(__name__)

_TOWER = "tower."  #: start of the names of a tower's parts
_START_SHA256 = "start_sha256"


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
    """Write the parts with their recipe as metadata.

    A tower that is that of another model (`Recipe.tower_of`) is not written again; the SHA-256 of
    the parts of that model is.
    """
    metadata = {"format": "skipit-reference-1", "recipe": json.dumps(asdict(recipe))}
    if on_smollm2(recipe):
        metadata["language_model_sha256"] = GGUF_SHA256
    if start := _tower_of(recipe):
        stored = {name: part for name, part in stored.items() if not name.startswith(_TOWER)}
        with shipped(start, PARTS) as begun:
            metadata[_START_SHA256] = file_sha256(begun)
    write_bytes(path, save(stored, metadata=metadata))
    log.info("saved %s (%d bytes)", path, path.stat().st_size)


def read_parts(path: Path, recipe: AnyRecipe) -> dict[str, Tensor]:
    """Read the trained parts, in float32 on the CPU, with the tower of the model they started from.

    Raises:
        BridgeError: the parts of that model are missing, or are others than at the training.
    """
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata() or {}
        parts = from_stored({name: stored.get_tensor(name) for name in stored.keys()})
    if start := _tower_of(recipe):
        with shipped(start, PARTS) as begun:
            if not begun.is_file() or file_sha256(begun) != metadata.get(_START_SHA256):
                raise BridgeError(
                    f"the tower of {path} is in the parts of {start}, and {begun} is missing or "
                    "another file than at the training; install the package again"
                )
            others = read_parts(begun, RECIPES[start])
        parts |= {name: part for name, part in others.items() if name.startswith(_TOWER)}
    return parts


def _tower_of(recipe: AnyRecipe) -> str:
    return recipe.tower_of if isinstance(recipe, Recipe) else ""
