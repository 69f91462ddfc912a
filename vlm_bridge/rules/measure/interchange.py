"""The model with two adjacent layers in each other's place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from estimators.clustered import image_mean
from vlm_bridge.data import Item
from vlm_bridge.evaluate.first_token import first_token, full_first_token
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, divergence, tracked
from vlm_bridge.skip.patching import forward_of, patched
from vlm_bridge.skip.resume import starting_at


@torch.no_grad()
def interchange_kl(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(L - 1,) mean `KL(p_swapped || p_full)` over images, nats, of the pairs (l, l + 1)."""
    check_reads_prompt(vlm, "interchanges of layers")
    layers, rows, clusters = vlm.layout.layers, [], []
    for batch in tracked(vlm, items, batch_size, "layers interchanged"):
        full, states = full_first_token(vlm, batch)
        divergences = []
        for first in range(len(layers) - 1):
            one, other = layers[first], layers[first + 1]
            swapped = forward_of(other), forward_of(one)
            with (
                starting_at(vlm, first, states),
                patched(one, swapped[0]),
                patched(other, swapped[1]),
            ):
                found = first_token(vlm, batch)
            divergences.append(divergence(found, full))
        rows.append(torch.stack(divergences, dim=1).double().cpu().numpy())
        clusters += [item.cluster for item in batch.items]
    mean: Floats = image_mean(np.concatenate(rows), clusters)
    return mean


def interchange_cost(n_layers: int) -> float:
    """Forward-pass equivalents of `interchange_kl`: every pair runs from its first layer on.

    >>> interchange_cost(4)
    2.25
    """
    return sum(n_layers - first for first in range(n_layers - 1)) / n_layers
