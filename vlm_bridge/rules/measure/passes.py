"""Full passes over the batches of some questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from estimators.clustered import image_mean
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules.measure import Floats
from vlm_bridge.runtime.progress import track


def tracked(vlm: VLM, items: Sequence[Item], batch_size: int, title: str) -> Iterator[Batch]:
    """The batches, with a progress bar."""
    with track(title, len(items)) as advance:
        for batch in batches(vlm, items, batch_size=batch_size):
            yield batch
            advance(len(batch.items))


@torch.no_grad()
def image_means(
    vlm: VLM,
    items: Sequence[Item],
    batch_size: int,
    title: str,
    of_batch: Callable[[Batch], Sequence[Tensor]],
) -> Floats:
    """Means over images of the numbers that `of_batch` gives for each question, (batch,) each."""
    rows, clusters = [], []
    for batch in tracked(vlm, items, batch_size, title):
        rows.append(torch.stack(list(of_batch(batch)), dim=1).double().cpu().numpy())
        clusters += [item.cluster for item in batch.items]
    mean: Floats = image_mean(np.concatenate(rows), clusters)
    return mean


def divergence(changed: Tensor, full: Tensor) -> Tensor:
    """(batch,) `KL(changed || full)` of log-probabilities (batch, vocabulary), nats."""
    return (changed.exp() * (changed - full)).sum(-1).clamp(min=0)


def check_reads_prompt(vlm: VLM, what: str) -> None:
    """Refuse an encoder-decoder, of whose `what` nothing is known."""
    if vlm.layout.encoder_decoder:
        raise BridgeError(
            f"{vlm.name} is an encoder-decoder; {what} are taken in models whose decoder reads the "
            "whole prompt"
        )


def token_masks(vlm: VLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Which are modality tokens, and which are not padding: (batch, length) bool each."""
    features = vlm.layout.modality_flags(batch.inputs["input_ids"])
    mask = batch.inputs.get("attention_mask")
    return features, torch.ones_like(features) if mask is None else mask.bool()
