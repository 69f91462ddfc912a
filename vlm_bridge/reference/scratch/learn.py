"""The two training stages of a small model: what lies where, then the answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vlm_bridge.data import Item, easy_vqa, scenes
from vlm_bridge.data.scenes import CELLS, COLOURS, SHAPES, SIDE, scene
from vlm_bridge.layout import find_layout
from vlm_bridge.reference import tower
from vlm_bridge.reference.fit import fit
from vlm_bridge.reference.recipe import ScratchRecipe
from vlm_bridge.reference.scratch.families import TOKENS, blank_scratch
from vlm_bridge.reference.scratch.packing import (
    IGNORED,
    Packer,
    draw_rows,
    image_features,
    masks,
    positions,
)
from vlm_bridge.vlm import VLM


def blank_vlm(recipe: ScratchRecipe) -> VLM:
    """The untrained model of a recipe, as the bridge takes it."""
    model, processor = blank_scratch(recipe)
    special = tuple(processor.tokenizer.all_special_ids)
    return VLM(recipe.family, model, processor, find_layout(model, special))


def train_scratch(recipe: ScratchRecipe, folder: Path) -> dict[str, Tensor]:
    """Train, or continue, in `folder`; returns all parameters by name, tied ones once."""
    vlm = blank_vlm(recipe)
    groups = [_by_image(easy_vqa("train")), _by_image(scenes("train"))]
    _see(vlm, recipe, groups, folder / "see.checkpoint.safetensors")
    _learn(vlm, recipe, groups, folder / "learn.checkpoint.safetensors")
    return {name: p.detach() for name, p in vlm.model.named_parameters()}


def _by_image(items: Sequence[Item]) -> list[list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return list(groups.values())


@lru_cache(maxsize=20_000)
def _pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path).convert("RGB"))


def _pictures(rows: Sequence[Sequence[Item]], moved: int | None) -> list[Image.Image]:
    """The images of some rows; with a seed, their shape is moved to a random place."""
    stacked = np.stack([_pixels(row[0].image) for row in rows])
    if moved is not None:
        generator = torch.Generator().manual_seed(moved)
        tensor = torch.from_numpy(stacked).permute(0, 3, 1, 2)
        stacked = tower.move_shape(tensor, generator).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(pixels) for pixels in stacked]


def _batch(
    groups: Sequence[Sequence[Sequence[Item]]], count: int, questions: int, seed: int, step: int
) -> tuple[list[list[Item]], list[Image.Image]]:
    """Images of both sets in equal number; those of easy-VQA moved."""
    simple = draw_rows(groups[0], count, questions, f"{seed}/easy-vqa", step)
    several = draw_rows(groups[1], count, questions, f"{seed}/scenes", step)
    pictures = _pictures(simple, seed * 7_919 + step) + _pictures(several, None)
    return simple + several, pictures


class _Readers(nn.Module):
    """Linear heads of stage one: cell by cell for scenes, over the mean for easy-VQA."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.ModuleList(
            nn.Linear(width, n + 1) for n in (len(SHAPES), len(COLOURS), len(COLOURS))
        )
        self.whole = nn.ModuleList(
            nn.Linear(width, n) for n in (len(tower.SHAPES), len(tower.COLOURS))
        )


def _cells(item: Item) -> Tensor:
    """(3, 16) shape, colour and dot colour of the object in every cell; 0 where there is none."""
    found = torch.zeros(3, TOKENS, dtype=torch.long)
    colours = list(COLOURS)
    split, _, number = item.group.partition("/")
    for thing in scene(split, int(number)):
        cell = (thing.y * CELLS // SIDE) * CELLS + thing.x * CELLS // SIDE
        found[0, cell] = SHAPES.index(thing.shape) + 1
        found[1, cell] = colours.index(thing.colour) + 1
        found[2, cell] = 0 if thing.dot is None else colours.index(thing.dot) + 1
    return found


def _see(
    vlm: VLM, recipe: ScratchRecipe, groups: list[list[list[Item]]], checkpoint: Path
) -> None:
    readers = _Readers(recipe.width)
    labels = tower.read_labels([item for row in groups[0] for item in row])
    place = {row[0].group: i for i, row in enumerate(groups[0])}
    inner = {f"{name}.": part for name, part in vlm.layout.base.named_children()}
    decoder = next(name for name, part in inner.items() if part is vlm.layout.decoder)
    parameters = {
        name: p for name, p in vlm.layout.base.named_parameters() if not name.startswith(decoder)
    }
    parameters = {k: p for k, p in parameters.items() if not _unused(k)}
    parameters |= {f"readers.{name}": p for name, p in readers.named_parameters()}

    def loss_at(step: int) -> Tensor:
        rows, pictures = _batch(groups, recipe.see.batch, 1, recipe.seed, step)
        features = image_features(vlm, pictures)
        count = recipe.see.batch
        places = torch.tensor([place[row[0].group] for row in rows[:count]])
        pooled = features[:count].mean(1)
        total = features.new_zeros(())
        for reader, truth in zip(readers.whole, (labels.shape, labels.colour), strict=True):
            total = total + nn.functional.cross_entropy(
                reader(pooled), truth[places], ignore_index=-1
            )
        wanted = torch.stack([_cells(row[0]) for row in rows[count:]])
        for kind, reader in enumerate(readers.cell):
            scores = reader(features[count:]).transpose(1, 2)
            total = total + nn.functional.cross_entropy(scores, wanted[:, kind])
        return total

    fit(parameters, loss_at, recipe.see, checkpoint, title="what lies where", log_every=50)


def _learn(
    vlm: VLM, recipe: ScratchRecipe, groups: list[list[list[Item]]], checkpoint: Path
) -> None:
    packer = Packer(vlm)
    start = packer.start(groups[0][0][0])
    ids = start["input_ids"][0]
    vision = vlm.layout.vision_flags(ids)
    table, head = vlm.model.get_input_embeddings(), vlm.model.get_output_embeddings()
    parameters = {k: p for k, p in vlm.model.named_parameters() if not _unused(k)}

    def loss_at(step: int) -> Tensor:
        rows, pictures = _batch(
            groups, recipe.learn.batch, recipe.questions_per_image, recipe.seed, step
        )
        packed = packer.pack(rows, len(ids))
        states = packed_states(vlm, start, vision, packed, image_features(vlm, pictures), table)
        wanted = packed.labels != IGNORED
        logits = head(states[:, len(ids) :][wanted])
        return nn.functional.cross_entropy(logits, packed.labels[wanted])

    fit(parameters, loss_at, recipe.learn, checkpoint, title="answers", log_every=50)


def packed_states(
    vlm: VLM,
    start: dict[str, Tensor],
    vision: Tensor,
    packed: Any,
    features: Tensor,
    table: nn.Module,
) -> Tensor:
    """(images, length, width): the decoder's states over prefix and packed questions."""
    ids = start["input_ids"][0]
    embeds = torch.cat(
        [table(ids).expand(len(features), -1, -1), table(packed.ids)], dim=1
    )
    whole = torch.cat([vision, vision.new_zeros(packed.ids.shape[1])])
    embeds = embeds.masked_scatter(whole[None, :, None].expand_as(embeds), features)
    states: Tensor = vlm.layout.decoder(
        inputs_embeds=embeds,
        attention_mask=masks(vlm, packed.blocks, packed.places, whole),
        position_ids=positions(vlm, start, packed.places),
        use_cache=False,
    ).last_hidden_state
    return states


def _unused(name: str) -> bool:
    """Parameters no token's features depend on."""
    return "post_layernorm" in name and "vision_model.head" in name
