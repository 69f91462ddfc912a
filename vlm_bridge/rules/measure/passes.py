"""Full passes over the batches of some questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.progress import track


def tracked(vlm: VLM, items: Sequence[Item], batch_size: int, title: str) -> Iterator[Batch]:
    """The batches, with a progress bar."""
    with track(title, len(items)) as advance:
        for batch in batches(vlm, items, batch_size=batch_size):
            yield batch
            advance(len(batch.items))


def first_logits(vlm: VLM, batch: Batch) -> Tensor:
    """(batch, vocabulary) logits of the first answer token, by a full pass."""
    logits: Tensor = vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    return logits


def token_masks(vlm: VLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Which tokens are vision, and which are not padding: (batch, length) bool each."""
    vision = vlm.layout.vision_flags(batch.inputs["input_ids"])
    mask = batch.inputs.get("attention_mask")
    return vision, torch.ones_like(vision) if mask is None else mask.bool()
