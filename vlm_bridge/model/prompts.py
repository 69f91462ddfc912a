"""Make model inputs from items: chat template, left padding, all questions of an image together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import Tensor

from vlm_bridge.data import Item, check_one_cluster_per_image
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.model.vlm import VLM

#: What the tokens of a processor stand for that may not be typed in a question.
_STAND_INS = {
    "image_token": "an image",
    "boi_token": "an image",
    "video_token": "a video",
    "audio_token": "audio",
    "boa_token": "audio",
}


@dataclass(frozen=True)
class Batch:
    """The model inputs of some items; `places` are their indices in all items."""

    items: tuple[Item, ...]
    places: tuple[int, ...]
    inputs: dict[str, Tensor]

    @property
    def names(self) -> list[str]:
        """What each sequence is about, for messages: its image and question."""
        return [f"{item.image.name}: {item.question}" for item in self.items]


def batches(
    vlm: VLM, items: Sequence[Item], *, batch_size: int = 16, with_images: bool = True
) -> Iterator[Batch]:
    """Left-padded batches of at most `batch_size` items; an image's questions stay together.

    An image with more than `batch_size` questions makes one larger batch, since statistics by
    image need all of its questions in one batch. Without `with_images` prompts have no image.

    Raises:
        BridgeError: there are no items, or one picture is in two clusters.
    """
    for places in batch_places(items, batch_size):
        yield collate(vlm, items, places, with_images=with_images)


def batch_places(items: Sequence[Item], batch_size: int) -> list[list[int]]:
    """The indices of the items of each batch, as in `batches`."""
    if not items:
        raise BridgeError("there are no items to run on")
    check_one_cluster_per_image(items)
    by_image: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        by_image.setdefault(item.cluster, []).append(place)
    by_batch: list[list[int]] = [[]]
    for places in by_image.values():
        if by_batch[-1] and len(by_batch[-1]) + len(places) > batch_size:
            by_batch.append([])
        by_batch[-1] += places
    return by_batch


def collate(
    vlm: VLM, items: Sequence[Item], places: Sequence[int], *, with_images: bool = True
) -> Batch:
    """The model inputs of the items at `places`, on the device of the model."""
    chosen = [items[place] for place in places]
    processor = vlm.processor
    texts = [_prompt(processor, item, with_images) for item in chosen]
    options: dict[str, Any] = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
    if with_images:
        options["images"] = [[item.open()] for item in chosen]
    start = processor.tokenizer.bos_token
    if start and texts[0].startswith(start):  # the chat template has added it already
        options["add_special_tokens"] = False
    try:
        encoded: Any = processor(text=texts, **options)
    except ValueError as error:
        raise BridgeError(
            f"{type(processor).__name__} cannot make a prompt "
            f"{'with' if with_images else 'without'} an image: {error}"
        ) from error
    accepted = set(signature(vlm.model.forward).parameters) - {"labels"}
    inputs = {
        name: value.to(vlm.model.dtype) if value.is_floating_point() else value
        for name, value in encoded.to(vlm.device).items()
        if name in accepted and isinstance(value, Tensor)
    }
    return Batch(tuple(chosen), tuple(places), inputs)


def _prompt(processor: Any, item: Item, with_image: bool) -> str:
    for name, what in _STAND_INS.items():
        token = str(getattr(processor, name, None) or "")
        if token and token in item.question:
            raise BridgeError(
                f"the question {shown(item.question)} contains '{token}', which stands for {what} "
                f"in prompts of {type(processor).__name__}; leave it out"
            )
    if processor.chat_template is None:  # a base model, such as PaliGemma
        return f"{processor.image_token if with_image else ''}{item.question}"
    content = [{"type": "text", "text": item.question}]
    if with_image:
        content.insert(0, {"type": "image"})
    chat = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(chat, add_generation_prompt=True))
