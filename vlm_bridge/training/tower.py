"""Stage one: a CLIP-type vision tower that learns shape and colour from the questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from vlm_bridge.data import Item
from vlm_bridge.reference.recipe import Recipe
from vlm_bridge.reference.vision import vision_config
from vlm_bridge.training.fit import fit

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")


@dataclass(frozen=True)
class Labelled:
    """Distinct images with what their questions say of them; -1 where they do not say."""

    pixels: Tensor  # (n, 3, size, size) uint8
    shape: Tensor  # (n,)
    colour: Tensor  # (n,)


def read_labels(items: Sequence[Item]) -> Labelled:
    """Shape and colour of every image, deduced from its questions and answers.

    "is there not a red shape?" -> "no" says red; "is a circle present?" -> "no" says
    nothing yet, but rules the circle out.
    """
    clusters: dict[str, list[Item]] = {}
    for item in items:
        clusters.setdefault(item.cluster, []).append(item)
    pixels, shapes, colours = [], [], []
    for group in clusters.values():
        pixels.append(np.asarray(group[0].open()))
        shapes.append(_deduce(group, SHAPES))
        colours.append(_deduce(group, COLOURS))
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return Labelled(stacked, torch.tensor(shapes), torch.tensor(colours))


def _deduce(group: Sequence[Item], names: Sequence[str]) -> int:
    possible = set(names)
    for item in group:
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
    """Put the shape of every image at a random place; exact, as the ground is uniform.

    Args:
        pixels: (n, 3, h, w) uint8, one shape on a plain ground.
        generator: source of the places.
    """
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
    """uint8 in [0, 255] to float in [-1, 1], as the image processor does."""
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
