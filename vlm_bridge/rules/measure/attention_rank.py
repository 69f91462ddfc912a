"""Ranks of attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_attention
from vlm_bridge.runtime.progress import track

Floats = NDArray[np.float64]


@torch.no_grad()
def attention_ranks(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(n_items, n_layers) mean over heads of the rank of each prompt's attention map."""
    ranks = np.zeros((len(items), vlm.layout.n_layers))
    with track("rank of attention maps", len(items)) as advance:
        for batch in batches(vlm, items, batch_size=batch_size):
            ids = batch.inputs["input_ids"]
            mask = batch.inputs.get("attention_mask", torch.ones_like(ids)).bool()
            places = list(batch.places)

            def store(
                layer: int, maps: Tensor, places: list[int] = places, mask: Tensor = mask
            ) -> None:
                ranks[places, layer] = mean_rank(maps, mask)

            with capturing_attention(vlm, store):
                vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
            advance(len(batch.items))
    return ranks


def mean_rank(maps: Tensor, real: Tensor) -> Floats:
    """(batch,) mean over heads of the rank of each prompt's map, without padding.

    Args:
        maps: (batch, heads, length, length) attention probabilities.
        real: (batch, length) bool, False on padding.
    """
    means = []
    for of_prompt, tokens in zip(maps.float(), real.to(maps.device), strict=True):
        unpadded = of_prompt[:, tokens][:, :, tokens]
        means.append(float(torch.linalg.matrix_rank(unpadded).double().mean()))
    return np.array(means)
