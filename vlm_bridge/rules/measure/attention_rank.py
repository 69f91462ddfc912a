"""Ranks of attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_attention
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, token_masks, tracked


@torch.no_grad()
def attention_ranks(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(n_items, n_layers) mean over heads of the rank of each prompt's attention map."""
    check_reads_prompt(vlm, "ranks of attention maps")
    ranks = np.zeros((len(items), vlm.layout.n_layers))
    for batch in tracked(vlm, items, batch_size, "rank of attention maps"):
        real, rows = token_masks(vlm, batch)[1], ranks[list(batch.places)]

        def store(layer: int, maps: Tensor, real: Tensor = real, rows: Floats = rows) -> None:
            rows[:, layer] = mean_rank(maps, real)

        with capturing_attention(vlm, store):
            first_logits(vlm, batch)
        ranks[list(batch.places)] = rows
    return ranks


def mean_rank(maps: Tensor, real: Tensor) -> Floats:
    """(batch,) mean over heads of the rank of each map in `maps` (batch, heads, length, length).

    `real` (batch, length) is False on padding.
    """
    means = []
    for of_prompt, tokens in zip(maps.float(), real.to(maps.device), strict=True):
        unpadded = of_prompt[:, tokens][:, :, tokens]
        means.append(float(torch.linalg.matrix_rank(unpadded).double().mean()))
    return np.array(means)
