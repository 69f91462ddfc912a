"""Training of a reference model in stages, into one file of parts."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from transformers import CLIPVisionModel

from vlm_bridge.data import TASKS
from vlm_bridge.data.spoken_words_task import short_recordings
from vlm_bridge.model.vlm import VLM
from vlm_bridge.reference.assemble import section, vision_config
from vlm_bridge.reference.build import blank, build, read_parts, save_parts
from vlm_bridge.reference.recipe import (
    RECIPES,
    AnyRecipe,
    ConnectorRecipe,
    Recipe,
    ScratchRecipe,
    SpeechRecipe,
)
from vlm_bridge.reference.shipped import PARTS, check_name, shipped
from vlm_bridge.reference.stored import from_stored, to_stored
from vlm_bridge.training.adapt import train_adapter
from vlm_bridge.training.cells import train_tower_on_scenes
from vlm_bridge.training.connector import train_connector
from vlm_bridge.training.scratch import train_scratch
from vlm_bridge.training.tower import train_tower


def train(name: str, folder: Path, recipe: AnyRecipe | None = None) -> VLM:
    """Train a reference model (resumable); writes `parts.safetensors` into `folder`.

    The returned model is built from the parts, rounded as they are shipped. `recipe` replaces
    that of the name.
    """
    recipe = RECIPES[check_name(name)] if recipe is None else recipe
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(recipe, ScratchRecipe):
        parts = train_scratch(recipe, folder)
    elif isinstance(recipe, ConnectorRecipe):
        items = [item for task in recipe.tasks for item in TASKS[task]("train")]
        said = short_recordings("train") if isinstance(recipe, SpeechRecipe) else []
        parts = train_connector(VLM.of(name, *blank(recipe)), items, recipe, folder, said)
    else:
        parts = _train_llava(recipe, folder)
    stored = to_stored(parts, recipe.stored, keep="tower.")
    save_parts(folder / PARTS, stored, recipe)
    return VLM.of(name, *build(recipe, from_stored(stored)))


def _train_llava(recipe: Recipe, folder: Path) -> dict[str, Tensor]:
    """Train the tower, or take or train on that of another model; then projector and LoRA."""
    (task,) = recipe.tasks
    items = TASKS[task]("train")
    begun = None
    tower = CLIPVisionModel(vision_config(recipe)).eval()
    if recipe.start:
        with shipped(recipe.start, PARTS) as path:
            begun = read_parts(path, RECIPES[recipe.start])
        tower.load_state_dict(section(begun, "tower"))
    progress = folder / "tower.checkpoint.safetensors"
    if task == "scenes":
        tower = train_tower_on_scenes(items, tower, recipe, progress)
    elif not recipe.start:
        tower = train_tower(items, recipe, progress)
    # Stage two trains the projector against the tower as it is shipped.
    tower.load_state_dict(from_stored(to_stored(tower.state_dict(), "bfloat16")))
    model, processor = blank(recipe)
    checkpoint = folder / "adapt.checkpoint.safetensors"
    return train_adapter(items, model, processor, tower, recipe, checkpoint, begun)
