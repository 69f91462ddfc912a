"""The whole training of a reference model: its stages, and one file of parts."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from transformers import CLIPVisionModel

from vlm_bridge.data import easy_vqa
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.reference.assemble import section
from vlm_bridge.reference.build import blank, build, read_parts, save_parts
from vlm_bridge.reference.recipe import RECIPES, Recipe, ScratchRecipe
from vlm_bridge.reference.shipped import PARTS, check_name, shipped
from vlm_bridge.reference.stored import from_stored, to_stored
from vlm_bridge.reference.vision import vision_config
from vlm_bridge.training.adapt import train_adapter
from vlm_bridge.training.scratch import train_scratch
from vlm_bridge.training.tower import train_tower

TOWER = "tower."  # its parts, which stage two is trained against


def train(name: str, folder: Path) -> VLM:
    """Train a reference model, or continue, in `folder`; writes `parts.safetensors` there.

    Returns:
        The trained model as this process holds it: built from the parts in memory, as they
        are shipped, not read back.

    Raises:
        BridgeError: there is no such model, or a package that training needs is missing.
    """
    recipe = RECIPES[check_name(name)]
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(recipe, ScratchRecipe):
        parts = train_scratch(recipe, folder)
    else:
        parts = _train_llava(recipe, folder)
    stored = to_stored(parts, recipe.stored, keep=TOWER)
    save_parts(folder / PARTS, stored, recipe)
    model, processor = build(recipe, from_stored(stored))
    special = tuple(processor.tokenizer.all_special_ids)
    return VLM(name, model, processor, find_layout(model, special))


def _train_llava(recipe: Recipe, folder: Path) -> dict[str, Tensor]:
    """Tower, then projector and LoRA, or these two alone on the tower of another model.

    All go into one file: a projector is only right for the tower it was trained with. The
    tower is rounded to bfloat16 before stage two sees it, so that what is shipped is what
    was trained against.
    """
    items = easy_vqa("train")
    begun = None
    if recipe.start:
        with shipped(recipe.start, PARTS) as path:
            begun = read_parts(path)
        tower = CLIPVisionModel(vision_config(recipe)).eval()
        tower.load_state_dict(section(begun, "tower"))
    else:
        tower = train_tower(items, recipe, folder / "tower.checkpoint.safetensors")
    tower.load_state_dict(from_stored(to_stored(tower.state_dict(), "bfloat16")))
    model, processor = blank(recipe)
    checkpoint = folder / "adapt.checkpoint.safetensors"
    return train_adapter(items, model, processor, tower, recipe, checkpoint, begun)
