"""Several questions behind one image, in one pass of any family that puts the image first."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import collate
from vlm_bridge.model.vlm import VLM

IGNORED = -100
#: What `get_image_features` takes of a processor's output.
_PIXELS = ("pixel_values", "image_grid_thw", "pixel_attention_mask")


@dataclass(frozen=True)
class Packed:
    """One batch of images, each with its questions behind it.

    Attributes:
        ids: (images, width) question and answer tokens, without the prefix.
        labels: (images, width); only answers and their ends are labelled.
        places: (images, length) place of every token in its own prompt, prefix included.
        blocks: (images, length) 0 in the prefix, k in question k, -1 on padding.
    """

    ids: Tensor
    labels: Tensor
    places: Tensor
    blocks: Tensor


class Packer:
    """Packs questions of `vlm`; prompts are the ones its processor makes.

    The prefix, equal in all prompts, is what comes before the question's first own token:
    everything up to the last vision token.
    """

    def __init__(self, vlm: VLM) -> None:
        self.vlm = vlm
        self._questions: dict[str, list[int]] = {}
        self._ends = int(vlm.processor.tokenizer.eos_token_id)

    def start(self, item: Item) -> dict[str, Tensor]:
        """The prefix of every prompt as model inputs, one row, from any item."""
        inputs = collate(self.vlm, [item], [0]).inputs
        stop = self._stop(inputs["input_ids"][0])
        return {
            name: value[:, :stop] if value.shape[1:] == inputs["input_ids"].shape[1:] else value
            for name, value in inputs.items()
        }

    def _stop(self, ids: Tensor) -> int:
        return int(self.vlm.layout.vision_flags(ids).nonzero()[-1]) + 1

    def _question(self, item: Item) -> list[int]:
        if item.question not in self._questions:
            ids = collate(self.vlm, [item], [0]).inputs["input_ids"][0]
            self._questions[item.question] = ids[self._stop(ids) :].tolist()
        return self._questions[item.question]

    def pack(self, rows: Sequence[Sequence[Item]], prefix: int) -> Packed:
        """Token ids, labels, places and blocks of some images' questions."""
        packed = []
        for row in rows:
            parts = []
            for item in row:
                asked = self._question(item)
                answer = self.vlm.processor.tokenizer(item.answer, add_special_tokens=False)
                said = [*answer["input_ids"], self._ends]
                parts.append((asked + said[:-1], [IGNORED] * (len(asked) - 1) + said))
            packed.append(parts)
        width = max(sum(len(ids) for ids, _ in parts) for parts in packed)
        ids = torch.full((len(rows), width), self._ends)
        labels = torch.full((len(rows), width), IGNORED)
        places = torch.zeros(len(rows), prefix + width, dtype=torch.long)
        places[:, :prefix] = torch.arange(prefix)
        blocks = torch.full((len(rows), prefix + width), -1)
        blocks[:, :prefix] = 0
        for i, parts in enumerate(packed):
            at = 0
            for number, (tokens, targets) in enumerate(parts, start=1):
                span = slice(at, at + len(tokens))
                whole = slice(prefix + span.start, prefix + span.stop)
                ids[i, span], labels[i, span] = torch.tensor(tokens), torch.tensor(targets)
                places[i, whole] = torch.arange(prefix, prefix + len(tokens))
                blocks[i, whole] = number
                at += len(tokens)
        return Packed(ids, labels, places, blocks)


def image_features(vlm: VLM, images: Sequence[Image.Image]) -> Tensor:
    """(images, vision tokens, width): what stands at the placeholders of each image."""
    nested: list[Any] = list(images)
    if vlm.model.config.model_type == "smolvlm":
        nested = [[image] for image in images]
    made = vlm.processor.image_processor(nested, return_tensors="pt")
    inputs = {name: torch.as_tensor(made[name]) for name in _PIXELS if name in made}
    found = vlm.layout.base.get_image_features(**inputs).pooler_output  # type: ignore[operator]
    return torch.stack(list(found))


def masks(vlm: VLM, blocks: Tensor, places: Tensor, vision: Tensor) -> Any:
    """Who attends to whom: the prefix and one's own question, causally.

    Args:
        vlm: the model; Gemma3 lets vision tokens see each other both ways, and its sliding
            layers look back by places, so it takes a mask for each kind of layer.
        blocks: (images, length) of `Packed`.
        places: (images, length) of `Packed`.
        vision: (length,) bool, the vision tokens of the prefix.
    """
    length = blocks.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = (blocks[:, :, None] == blocks[:, None, :]) | (blocks[:, None, :] == 0)
    full = causal & same
    if vlm.model.config.model_type != "gemma3":
        return full[:, None]
    both = vision[:, None] & vision[None, :]
    near = places[:, :, None] - places[:, None, :] < vlm.layout.text_config.sliding_window
    return {
        "full_attention": (full | both)[:, None],
        "sliding_attention": (full & near | both)[:, None],
    }


def positions(vlm: VLM, start: dict[str, Tensor], places: Tensor) -> Tensor:
    """Position ids of packed tokens: their places, or with M-RoPE (3, images, length)."""
    if not hasattr(vlm.layout.base, "get_rope_index"):
        return places
    known = {k: v for k, v in start.items() if k != "pixel_values"}
    first, _ = vlm.layout.base.get_rope_index(**known)  # type: ignore[operator]  # (3, 1, prefix)
    prefix = first.shape[-1]
    behind = places[None, :, prefix:] - prefix + first.max() + 1
    return torch.cat(
        [first.expand(-1, len(places), -1), behind.clamp_min(0).expand(3, -1, -1)], dim=-1
    )


def draw_rows(
    clusters: Sequence[Sequence[Item]], count: int, questions: int, seed: str, step: int
) -> list[list[Item]]:
    """The images of a step and the questions asked of each, from the step's number alone."""
    per_epoch = len(clusters) // count
    epoch, place = divmod(step, per_epoch)
    order = random.Random(f"{seed}/{epoch}").sample(range(len(clusters)), len(clusters))
    draw = random.Random(f"{seed}/{epoch}/{place}")
    rows = [clusters[i] for i in order[place * count : (place + 1) * count]]
    return [draw.sample(list(row), min(questions, len(row))) for row in rows]
