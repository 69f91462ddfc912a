"""Several questions behind one image, in one forward pass of any family with the image first."""

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
#: What sizes are multiplied by, at random, before images of nearly the same size are put together.
_NEAR = (0.8, 1.25)
#: Outputs of a processor that `get_image_features` takes.
_PIXELS = ("pixel_values", "image_grid_thw", "pixel_attention_mask")


@dataclass(frozen=True)
class Packed:
    """A batch of images, each followed by its questions."""

    ids: Tensor  # (images, width) question and answer tokens, without the prefix
    labels: Tensor  # (images, width); only answer and end tokens have labels
    places: Tensor  # (images, length) position of every token in its own prompt, with the prefix
    blocks: Tensor  # (images, length) 0 in the prefix, k in question k, -1 on padding


#: Input ids of a question with its answer, and their labels.
LabelledIds = tuple[list[int], list[int]]


def labelled(question: list[int], answer: list[int]) -> LabelledIds:
    """Input ids of a question with its answer, and the next token of each answer position."""
    return question + answer[:-1], [IGNORED] * (len(question) - 1) + answer


def pack(rows: Sequence[Sequence[LabelledIds]], prefix: int | Sequence[int], filler: int) -> Packed:
    """Put the questions of each image behind its prefix; pad with `filler`.

    `prefix` is the length of all prefixes or of each. The questions begin behind the longest; what
    lies between is padding, and the places of a question go on from its own prefix.
    """
    lengths = [prefix] * len(rows) if isinstance(prefix, int) else list(prefix)
    longest = max(lengths)
    width = max(sum(len(ids) for ids, _ in row) for row in rows)
    ids = torch.full((len(rows), width), filler)
    labels = torch.full((len(rows), width), IGNORED)
    places = torch.zeros(len(rows), longest + width, dtype=torch.long)
    blocks = torch.full((len(rows), longest + width), -1)
    for i, (row, own) in enumerate(zip(rows, lengths, strict=True)):
        places[i, :own] = torch.arange(own)
        blocks[i, :own] = 0
        at = 0
        for number, (tokens, targets) in enumerate(row, start=1):
            span = slice(at, at + len(tokens))
            whole = slice(longest + span.start, longest + span.stop)
            ids[i, span], labels[i, span] = torch.tensor(tokens), torch.tensor(targets)
            places[i, whole] = torch.arange(own, own + len(tokens))
            blocks[i, whole] = number
            at += len(tokens)
    return Packed(ids, labels, places, blocks)


def visible(blocks: Tensor) -> Tensor:
    """(images, length, length) bool: each token sees the prefix and its question, causally."""
    length = blocks.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return causal & ((blocks[:, :, None] == blocks[:, None, :]) | (blocks[:, None, :] == 0))


def draw_images(n: int, count: int, seed: str, step: int, sizes: Sequence[float] = ()) -> list[int]:
    """Which of `n` images a step trains on: a seeded order for each epoch, `count` a step.

    With `sizes` those of one step are of nearly the same size, so that little is padded.
    """
    epoch, place = divmod(step, n // count)
    draw = random.Random(f"{seed}/{epoch}")
    order = draw.sample(range(n), n)
    if sizes:
        order = order[: n // count * count]
        near = {image: sizes[image] * draw.uniform(*_NEAR) for image in order}
        order.sort(key=lambda image: near[image])
        place = draw.sample(range(n // count), n // count)[place]
    return order[place * count : (place + 1) * count]


class Packer:
    """Packs questions of `vlm`; the prefix, equal in all prompts, ends with the vision tokens.

    `before_answer` is what stands between a prompt and its answer, such as a space.
    """

    def __init__(self, vlm: VLM, before_answer: str = "") -> None:
        self.vlm = vlm
        self.before_answer = before_answer
        self._questions: dict[str, list[int]] = {}
        self._ends = int(vlm.processor.tokenizer.eos_token_id)

    def start(self, item: Item) -> dict[str, Tensor]:
        """The prefix of all prompts as model inputs of one row, computed from any item."""
        inputs = collate(self.vlm, [item], [0]).inputs
        stop = self._stop(inputs["input_ids"][0])
        return {
            name: value[:, :stop] if value.shape[1:] == inputs["input_ids"].shape[1:] else value
            for name, value in inputs.items()
        }

    def _stop(self, ids: Tensor) -> int:
        return int(self.vlm.layout.modality_flags(ids).nonzero()[-1]) + 1

    def _question(self, item: Item) -> list[int]:
        if item.question not in self._questions:
            ids = collate(self.vlm, [item], [0]).inputs["input_ids"][0]
            self._questions[item.question] = ids[self._stop(ids) :].tolist()
        return self._questions[item.question]

    def pack(self, rows: Sequence[Sequence[Item]], prefix: int | Sequence[int]) -> Packed:
        """Pack the questions of each image behind a prefix of one length, or of its own."""
        return pack([[self._labelled(item) for item in row] for row in rows], prefix, self._ends)

    def _labelled(self, item: Item) -> LabelledIds:
        tokenizer = self.vlm.processor.tokenizer
        text = f"{self.before_answer}{item.answer}"
        answer = tokenizer(text, add_special_tokens=False)["input_ids"]
        return labelled(self._question(item), [*answer, self._ends])


def image_features(vlm: VLM, images: Sequence[Image.Image]) -> Tensor:
    """(images, vision tokens, width): embeddings of the vision tokens of each image."""
    nested: list[Any] = list(images)
    if vlm.model.config.model_type == "smolvlm":
        nested = [[image] for image in images]
    pixels = vlm.processor.image_processor(nested, return_tensors="pt")
    inputs = {name: torch.as_tensor(pixels[name]) for name in _PIXELS if name in pixels}
    features = vlm.layout.base.get_image_features(**inputs).pooler_output  # type: ignore[operator]
    return torch.stack(list(features))


def masks(vlm: VLM, blocks: Tensor, places: Tensor, vision: Tensor) -> Any:
    """Attention masks of a packed batch, as the model takes them.

    `vision` is (images, length) bool.

    In Gemma3 vision tokens attend to each other in both directions and sliding layers attend to
    near places only, so it takes a mask for each kind of layer.
    """
    full = visible(blocks)
    if vlm.model.config.model_type != "gemma3":
        return full[:, None]
    among_vision = vision[:, :, None] & vision[:, None, :]
    near = places[:, :, None] - places[:, None, :] < vlm.layout.text_config.sliding_window
    attended = {"full_attention": full, "sliding_attention": full & near}
    return {kind: (mask | among_vision)[:, None] for kind, mask in attended.items()}


def positions(vlm: VLM, start: dict[str, Tensor], places: Tensor) -> Tensor:
    """Position ids of a packed batch: the places, or with M-RoPE (3, images, length)."""
    if not hasattr(vlm.layout.base, "get_rope_index"):
        return places
    inputs = {k: v for k, v in start.items() if k != "pixel_values"}
    first, _ = vlm.layout.base.get_rope_index(**inputs)  # type: ignore[operator]  # (3, 1, prefix)
    prefix = first.shape[-1]
    behind = places[None, :, prefix:] - prefix + first.max() + 1
    parts = [first.expand(-1, len(places), -1), behind.clamp_min(0).expand(3, -1, -1)]
    return torch.cat(parts, dim=-1)


def draw_rows(
    clusters: Sequence[Sequence[Item]],
    count: int,
    questions: int,
    seed: str,
    step: int,
    sizes: Sequence[float] = (),
) -> list[list[Item]]:
    """The images of a step, and the questions asked about each; both depend on the step alone."""
    epoch, place = divmod(step, len(clusters) // count)
    draw = random.Random(f"{seed}/{epoch}/{place}")
    rows = [clusters[i] for i in draw_images(len(clusters), count, seed, step, sizes)]
    return [draw.sample(list(row), min(questions, len(row))) for row in rows]
