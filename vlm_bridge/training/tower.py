"""Stage one of a LLaVA: a CLIP-type vision tower learns shape and colour from the questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from vlm_bridge.data.items import Item
from vlm_bridge.data.units import by_image
from vlm_bridge.reference.assemble import vision_config
from vlm_bridge.reference.recipe import Recipe
from vlm_bridge.training.fit import fit

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")


@dataclass(frozen=True)
class Labelled:
    """Distinct images with the labels in their questions; -1 for undetermined labels."""

    pixels: Tensor  # (n, 3, size, size) uint8
    shape: Tensor  # (n,)
    colour: Tensor  # (n,)


def read_labels(items: Sequence[Item]) -> Labelled:
    """Shape and colour of every image, deduced from its questions and answers.

    "is there not a red shape?" -> "no": red. "is a circle present?" -> "no": no circle.
    """
    clusters = by_image(items)
    shapes = torch.tensor([_deduce(cluster, SHAPES) for cluster in clusters])
    colours = torch.tensor([_deduce(cluster, COLOURS) for cluster in clusters])
    return Labelled(image_pixels(clusters).contiguous(), shapes, colours)


def image_pixels(clusters: Sequence[Sequence[Item]]) -> Tensor:
    """(n, 3, size, size) uint8: the image of each cluster of questions."""
    pixels = np.stack([np.asarray(cluster[0].open()) for cluster in clusters])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _deduce(cluster: Sequence[Item], names: Sequence[str]) -> int:
    """Index in `names` of the only name that the questions of an image allow, or -1."""
    possible = set(names)
    for item in cluster:
        words = re.findall(r"\w+", item.question)
        asked = [name for name in names if name in words]
        if item.answer in names:
            possible &= {item.answer}
        elif item.answer in ("yes", "no") and asked:
            negated = "not" in words or "no" in words
            present = (item.answer == "yes") != negated
            possible = possible & set(asked) if present else possible - set(asked)
        elif asked and words[0] == "what":  # "what color is the circle?" presumes one
            possible &= set(asked)
    return list(names).index(possible.pop()) if len(possible) == 1 else -1


def move_shape(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Roll each image, (n, 3, h, w) uint8, so that its one shape is at a random place."""
    moved = torch.empty_like(pixels)
    height, width = pixels.shape[-2:]
    for i, image in enumerate(pixels):
        ground = torch.mode(image.flatten(1), dim=1).values[:, None, None]
        inside = (image != ground).any(0)
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        down = torch.randint(0, height - int(rows[-1] - rows[0]), (1,), generator=generator)
        right = torch.randint(0, width - int(columns[-1] - columns[0]), (1,), generator=generator)
        shift = (int(down) - int(rows[0]), int(right) - int(columns[0]))
        moved[i] = image.roll(shift, dims=(1, 2))
    return moved


def normalise(pixels: Tensor) -> Tensor:
    """Map uint8 in [0, 255] to float in [-1, 1], as the image processor does."""
    return pixels.float() / 127.5 - 1


class _Classifier(nn.Module):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(vision_config(recipe))
        self.shape = nn.Linear(recipe.vision_width, len(SHAPES))
        self.colour = nn.Linear(recipe.vision_width, len(COLOURS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.tower(pixel_values=pixels).last_hidden_state[:, 1:].mean(1)
        return self.shape(pooled), self.colour(pooled)


def train_tower(items: Sequence[Item], recipe: Recipe, checkpoint: Path) -> CLIPVisionModel:
    """Train the tower (resumable) and return it in evaluation mode."""
    torch.manual_seed(recipe.seed)
    model = _Classifier(recipe)
    data = read_labels(items)
    parameters = {k: p for k, p in model.named_parameters() if "post_layernorm" not in k}

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        rows = torch.randint(len(data.pixels), (recipe.tower.batch,), generator=generator)
        shape, colour = model(normalise(move_shape(data.pixels[rows], generator)))
        return nn.functional.cross_entropy(
            shape, data.shape[rows], ignore_index=-1
        ) + nn.functional.cross_entropy(colour, data.colour[rows], ignore_index=-1)

    fit(parameters, loss_at, recipe.tower, checkpoint, title="vision tower")
    return model.tower.eval()
