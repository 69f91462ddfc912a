"""The two training stages of a small model: first objects and places, then answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vlm_bridge.data import TASKS, Item
from vlm_bridge.data.scenes_task import COLOURS, SHAPES
from vlm_bridge.data.units import by_image
from vlm_bridge.model.vlm import VLM
from vlm_bridge.reference.build import read_parts
from vlm_bridge.reference.families import blank_scratch, install_all
from vlm_bridge.reference.recipe import RECIPES, Schedule, ScratchRecipe
from vlm_bridge.reference.shipped import PARTS, shipped
from vlm_bridge.training import packing, tower
from vlm_bridge.training.cells import cell_labels
from vlm_bridge.training.fit import fit
from vlm_bridge.training.packing import image_features


def blank_vlm(recipe: ScratchRecipe) -> VLM:
    """The untrained model of a recipe."""
    return VLM.of(recipe.family, *blank_scratch(recipe))


def train_scratch(recipe: ScratchRecipe, folder: Path) -> dict[str, Tensor]:
    """Train in `folder` (resumable); returns all parameters by name, tied ones once."""
    vlm = blank_vlm(recipe)
    _scale_words(vlm)
    if recipe.start:
        with shipped(recipe.start, PARTS) as path:
            _start_from(vlm, read_parts(path, RECIPES[recipe.start]))
    clusters = {task: by_image(TASKS[task]("train")) for task in recipe.tasks}
    _see(vlm, recipe, clusters, folder / "see.checkpoint.safetensors")
    _learn(vlm, recipe, clusters, folder / "learn.checkpoint.safetensors")
    return {name: p.detach() for name, p in vlm.model.named_parameters()}


@torch.no_grad()
def _scale_words(vlm: VLM) -> None:
    """Give all word embeddings the scale `_SCALE`."""
    table = vlm.model.get_input_embeddings()
    entered = table(torch.arange(len(table.weight)))  # some families multiply embeddings
    table.weight.mul_(_SCALE / entered.std())


def _start_from(vlm: VLM, parts: dict[str, Tensor]) -> None:
    """Copy the parts of a model with the same first words; later words keep their embeddings."""
    table = vlm.model.get_input_embeddings().weight
    name = next(name for name, p in vlm.model.named_parameters() if p is table)
    later = table.detach()[len(parts[name]) :]
    install_all(vlm.model, parts | {name: torch.cat([parts[name], later])})


#: The words of stage one, for the shape in an easy-VQA image and for a cell of a scene.
_VOCABULARY = {
    "shape": tower.SHAPES,
    "colour": tower.COLOURS,
    "cell shape": SHAPES,
    "cell colour": tuple(COLOURS),
}
_DOT, _SHARP = 2, 4.0
_SCALE = 0.25  #: initial scale of the coordinates of word and vision embeddings


@lru_cache(maxsize=20_000)
def _pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path).convert("RGB"))


def _pictures(rows: Sequence[Sequence[Item]], seed: int | None) -> list[Image.Image]:
    """The images of some rows; with a seed, the shapes are moved to random places."""
    stacked = np.stack([_pixels(row[0].image) for row in rows])
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        tensor = torch.from_numpy(stacked).permute(0, 3, 1, 2)
        stacked = tower.move_shape(tensor, generator).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(pixels) for pixels in stacked]


Groups = dict[str, list[list[Item]]]
Words = Callable[[str], Tensor]  # key of `_VOCABULARY` -> embeddings of its words


def _batch(
    clusters: Groups, schedule: Schedule, questions: int, seed: int, step: int
) -> tuple[list[list[Item]], list[Image.Image]]:
    """Equally many images of every task set; shapes of easy-VQA are moved."""
    rows, pictures = [], []
    for task, images in clusters.items():
        count = schedule.batch // len(clusters)
        drawn = packing.draw_rows(images, count, questions, f"{seed}/{task}", step)
        rows += drawn
        pictures += _pictures(drawn, seed * 7_919 + step if task == "easy-vqa" else None)
    return rows, pictures


class _Whole(nn.Module):
    """Loss of reading shape and colour of an easy-VQA image from the mean of its tokens."""

    def __init__(self, clusters: Sequence[Sequence[Item]]) -> None:
        super().__init__()
        self.place = {row[0].cluster: i for i, row in enumerate(clusters)}
        self.labels = tower.read_labels([item for row in clusters for item in row])

    def forward(self, features: Tensor, rows: Sequence[Sequence[Item]], words: Words) -> Tensor:
        places = torch.tensor([self.place[row[0].cluster] for row in rows])
        truths = {"shape": self.labels.shape[places], "colour": self.labels.colour[places]}
        total = features.new_zeros(())
        for name, truth in truths.items():
            scores = _SHARP * features.mean(1) @ words(name).T
            total = total + nn.functional.cross_entropy(scores, truth, ignore_index=-1)
        return total


class _Cells(nn.Module):
    """Loss of reading shape, colour and dot of each cell of a scene from the token of the cell.

    The colour of a dot, which competes with that of its object, is read through a linear map.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.empty = nn.Parameter(torch.zeros(3, width))
        self.dot = nn.Linear(width, width)

    def forward(self, features: Tensor, rows: Sequence[Sequence[Item]], words: Words) -> Tensor:
        truth = torch.stack([cell_labels(row[0]) for row in rows])
        total = features.new_zeros(())
        for kind, name in enumerate(("cell shape", "cell colour", "cell colour")):
            read = self.dot(features) if kind == _DOT else features
            scores = _SHARP * read @ torch.cat([self.empty[kind, None], words(name)]).T
            total = total + nn.functional.cross_entropy(scores.transpose(1, 2), truth[:, kind])
        return total


def _see(vlm: VLM, recipe: ScratchRecipe, clusters: Groups, checkpoint: Path) -> None:
    """Stage one: align vision tokens with the embeddings of the words for their content."""
    readers: dict[str, nn.Module] = {}
    for task, images in clusters.items():
        readers[task] = _Whole(images) if task == "easy-vqa" else _Cells(recipe.width)
    table = vlm.model.get_input_embeddings()
    ids = {
        name: torch.tensor([vlm.processor.tokenizer.convert_tokens_to_ids(w) for w in words])
        for name, words in _VOCABULARY.items()
    }
    inner = vlm.layout.base.named_children()
    decoder = next(name for name, part in inner if part is vlm.layout.decoder)
    outer = list(vlm.layout.base.named_parameters())
    # No token's features depend on these.
    unused = [n for n, _ in outer if "post_layernorm" in n and "vision_model.head" in n]
    parameters = {n: p for n, p in outer if not n.startswith(f"{decoder}.") and n not in unused}
    parameters["words"] = table.weight
    for task, reader in readers.items():
        parameters |= {f"{task}.{name}": p for name, p in reader.named_parameters()}

    def loss_at(step: int) -> Tensor:
        rows, pictures = _batch(clusters, recipe.see, 1, recipe.seed, step)
        features = image_features(vlm, pictures)
        total = (features.std() / _SCALE).log().square()
        each = len(rows) // len(readers)
        for number, reader in enumerate(readers.values()):
            part = slice(number * each, (number + 1) * each)
            total = total + reader(features[part], rows[part], lambda name: table(ids[name]))
        return total

    fit(parameters, loss_at, recipe.see, checkpoint, title="what lies where", log_every=50)


def _learn(vlm: VLM, recipe: ScratchRecipe, clusters: Groups, checkpoint: Path) -> None:
    """Stage two: train the decoder on the answer tokens."""
    packer = packing.Packer(vlm)
    start = packer.start(next(iter(clusters.values()))[0][0])
    ids = start["input_ids"][0]
    vision = vlm.layout.modality_flags(ids)
    table, head = vlm.model.get_input_embeddings(), vlm.model.get_output_embeddings()
    parameters = dict(vlm.layout.decoder.named_parameters())
    vlm.model.requires_grad_(False)
    vlm.layout.decoder.requires_grad_(True)

    def loss_at(step: int) -> Tensor:
        asked = recipe.questions_per_image
        rows, pictures = _batch(clusters, recipe.learn, asked, recipe.seed, step)
        packed = packer.pack(rows, len(ids))
        with torch.no_grad():
            features = image_features(vlm, pictures)
        states = packed_states(vlm, start, vision, packed, features, table)
        answers = packed.labels != packing.IGNORED
        logits = head(states[:, len(ids) :][answers])
        return nn.functional.cross_entropy(logits, packed.labels[answers])

    fit(parameters, loss_at, recipe.learn, checkpoint, title="answers", log_every=50)


def packed_states(
    vlm: VLM,
    start: dict[str, Tensor],
    vision: Tensor,
    packed: packing.Packed,
    features: Tensor,
    table: nn.Module,
) -> Tensor:
    """(images, length, width): decoder states of prefix and packed questions.

    `vision` is (prefix,) bool, or (images, prefix) where the images differ in their number of
    tokens; `features` are those of all vision tokens, in order.
    """
    ids = start["input_ids"][0]
    count = len(packed.ids)
    embeds = torch.cat([table(ids).expand(count, -1, -1), table(packed.ids)], dim=1)
    whole = torch.cat([vision.expand(count, -1), torch.zeros_like(packed.ids).bool()], dim=1)
    embeds = embeds.masked_scatter(whole[:, :, None].expand_as(embeds), features)
    states: Tensor = vlm.layout.decoder(
        inputs_embeds=embeds,
        attention_mask=packing.masks(vlm, packed.blocks, packed.places, whole),
        position_ids=packing.positions(vlm, start, packed.places),
        use_cache=False,
    ).last_hidden_state
    return states
