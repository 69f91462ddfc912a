"""The model with two adjacent layers in each other's place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.evaluate.first_token import first_token, full_first_token
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, divergence, image_means
from vlm_bridge.skip.patching import forward_of, patched
from vlm_bridge.skip.resume import starting_at


def interchange_kl(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(L - 1,) mean `KL(p_swapped || p_full)` over images, nats, of the pairs (l, l + 1)."""
    check_reads_prompt(vlm, "interchanges of layers")
    layers = vlm.layout.layers

    def of_batch(batch: Batch) -> list[Tensor]:
        full, states = full_first_token(vlm, batch)
        divergences: list[Tensor] = []
        for first in range(len(layers) - 1):
            one, other = layers[first], layers[first + 1]
            swapped = forward_of(other), forward_of(one)
            with (
                starting_at(vlm, first, states),
                patched(one, swapped[0]),
                patched(other, swapped[1]),
            ):
                divergences.append(divergence(first_token(vlm, batch), full))
        return divergences

    return image_means(vlm, items, batch_size, "layers interchanged", of_batch)


def interchange_cost(n_layers: int) -> float:
    """Forward-pass equivalents of `interchange_kl`: every pair runs from its first layer on.

    >>> interchange_cost(4)
    2.25
    """
    return sum(n_layers - first for first in range(n_layers - 1)) / n_layers
