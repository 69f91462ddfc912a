"""The configuration of a reference model's CLIP-type vision tower."""

from __future__ import annotations

from transformers import CLIPVisionConfig

from vlm_bridge.reference.recipe import Recipe


def vision_config(recipe: Recipe) -> CLIPVisionConfig:
    """The tower's configuration, as the standard LLaVA class takes it."""
    return CLIPVisionConfig(
        hidden_size=recipe.vision_width,
        intermediate_size=4 * recipe.vision_width,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=recipe.vision_heads,
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        projection_dim=recipe.vision_width,
    )
