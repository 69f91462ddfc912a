"""The model with two adjacent layers in each other's place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from estimators.clustered import image_mean
from vlm_bridge.data import Item
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import tracked
from vlm_bridge.skip.patching import forward_of, patched
from vlm_bridge.skip.resume import starting_at


@torch.no_grad()
def interchange_kl(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(L - 1,) mean `KL(p_swapped || p_full)` over images, nats, of the pairs (l, l + 1)."""
    layers, rows, clusters = vlm.layout.layers, [], []
    for batch in tracked(vlm, items, batch_size, "layers interchanged"):
        full, states = _with_states(vlm, batch)
        divergences = []
        for first in range(len(layers) - 1):
            one, other = layers[first], layers[first + 1]
            swapped = forward_of(other), forward_of(one)
            with (
                starting_at(vlm, first, states),
                patched(one, swapped[0]),
                patched(other, swapped[1]),
            ):
                found = _log_probs(vlm, batch)
            divergences.append((found.exp() * (found - full)).sum(-1).clamp(min=0))
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


def _with_states(vlm: VLM, batch: Batch) -> tuple[Tensor, dict[int, Tensor]]:
    """Log-probabilities of the first answer token, and the output of every layer."""
    states: dict[int, Tensor] = {}
    with capturing_states(vlm, lambda layer, _, output: states.__setitem__(layer, output)):
        return _log_probs(vlm, batch), states


def _log_probs(vlm: VLM, batch: Batch) -> Tensor:
    return torch.log_softmax(first_logits(vlm, batch).float(), dim=-1)
