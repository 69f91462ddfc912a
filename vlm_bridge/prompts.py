"""Items to model inputs: chat template, left padding, whole images per batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.vlm import VLM


@dataclass(frozen=True)
class Batch:
    """Model inputs of some items.

    Attributes:
        items: the items, in order.
        places: their indices in the sequence the batches were made from.
        inputs: what the model takes (input_ids, attention_mask, pixels), on its device.
    """

    items: tuple[Item, ...]
    places: tuple[int, ...]
    inputs: dict[str, Tensor]


def batches(
    vlm: VLM, items: Sequence[Item], *, size: int = 16, with_images: bool = True
) -> Iterator[Batch]:
    """Left-padded batches of at most `size` items; an image's questions stay together.

    An image with more than `size` questions makes a batch of its own, since everything
    that counts by image wants all of its questions in one batch.

    Args:
        vlm: the model whose processor makes the inputs.
        items: the questions.
        size: items of a batch.
        with_images: False leaves the image out of the prompt (the model without its
            vision tokens).

    Raises:
        BridgeError: there are no items.
    """
    if not items:
        raise BridgeError("there are no items to run on")
    by_image: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        by_image.setdefault(item.group, []).append(place)
    waiting: list[int] = []
    for places in by_image.values():
        if waiting and len(waiting) + len(places) > size:
            yield _collate(vlm, items, waiting, with_images)
            waiting = []
        waiting += places
    yield _collate(vlm, items, waiting, with_images)


def _collate(vlm: VLM, items: Sequence[Item], places: list[int], with_images: bool) -> Batch:
    chosen = [items[place] for place in places]
    texts = [_prompt(vlm, item, with_images) for item in chosen]
    images = {"images": [[item.open()] for item in chosen]} if with_images else {}
    made: Any = vlm.processor(
        text=texts, **images, return_tensors="pt", padding=True, padding_side="left"
    )
    inputs = {
        name: value.to(vlm.model.dtype) if value.is_floating_point() else value
        for name, value in made.to(vlm.device).items()
        if name != "token_type_ids"
    }
    return Batch(tuple(chosen), tuple(places), inputs)


def _prompt(vlm: VLM, item: Item, with_image: bool) -> str:
    content = [{"type": "text", "text": item.question}]
    if with_image:
        content.insert(0, {"type": "image"})
    text: str = vlm.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    return text
