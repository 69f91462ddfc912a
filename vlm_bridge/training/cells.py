"""What lies in each cell of a scene: its labels, and a vision tower that learns them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from vlm_bridge.data import Item
from vlm_bridge.data.scenes_task import CELLS, COLOURS, SHAPES, SIDE, scene
from vlm_bridge.data.units import by_image
from vlm_bridge.reference.recipe import Recipe
from vlm_bridge.training.fit import fit
from vlm_bridge.training.tower import image_pixels, normalise

#: Number of labels of the shape, the colour and the colour of the dot in a cell; 0 is none.
KINDS = (len(SHAPES) + 1, len(COLOURS) + 1, len(COLOURS) + 1)


def cell_labels(item: Item) -> Tensor:
    """(3, 16) shape, colour and dot colour of the object in every cell; 0 for none."""
    labels = torch.zeros(len(KINDS), CELLS * CELLS, dtype=torch.long)
    colours = list(COLOURS)
    split, _, number = item.cluster.partition("/")
    for thing in scene(split, int(number)):
        cell = (thing.y * CELLS // SIDE) * CELLS + thing.x * CELLS // SIDE
        labels[0, cell] = SHAPES.index(thing.shape) + 1
        labels[1, cell] = colours.index(thing.colour) + 1
        labels[2, cell] = 0 if thing.dot is None else colours.index(thing.dot) + 1
    return labels


class CellReader(nn.Module):
    """Scores of the labels of every cell, from the mean of the patches in it."""

    def __init__(self, tower: CLIPVisionModel) -> None:
        super().__init__()
        self.tower = tower
        self.heads = nn.Linear(tower.config.hidden_size, sum(KINDS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Three times (n, 16, labels), of pixels (n, 3, side, side) in [-1, 1]."""
        patches = self.tower(pixel_values=pixels).last_hidden_state[:, 1:]
        side = int(patches.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (side, side))
        cells = nn.functional.adaptive_avg_pool2d(grid, CELLS).flatten(2).transpose(1, 2)
        scores: tuple[Tensor, ...] = self.heads(cells).split(KINDS, dim=-1)
        return scores


def train_tower_on_scenes(
    items: list[Item], tower: CLIPVisionModel, recipe: Recipe, checkpoint: Path
) -> CLIPVisionModel:
    """Train a tower on (resumable) and return it in evaluation mode."""
    torch.manual_seed(recipe.seed)
    clusters = by_image(items)
    pixels = image_pixels(clusters)
    truth = torch.stack([cell_labels(cluster[0]) for cluster in clusters])
    reader = CellReader(tower.train())
    parameters = {k: p for k, p in reader.named_parameters() if "post_layernorm" not in k}

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        rows = torch.randint(len(pixels), (recipe.tower.batch,), generator=generator)
        total = pixels.new_zeros((), dtype=torch.float32)
        for kind, scores in enumerate(reader(normalise(pixels[rows]))):
            total = total + nn.functional.cross_entropy(
                scores.flatten(0, 1), truth[rows, kind].flatten()
            )
        return total

    fit(parameters, loss_at, recipe.tower, checkpoint, title="vision tower")
    return tower.eval()
