"""How much of every operator's update of modality tokens later attention of the text reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from estimators.clustered import image_mean
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_attention
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, token_masks, tracked
from vlm_bridge.rules.measure.sublayers import capturing_parts
from vlm_bridge.skip.pass_state import Rows


@dataclass(frozen=True, eq=False)
class ObservedUpdates:
    """`sum_v |u_l(v)| sum_{j > l} a_j(v) / |h_j(v)|` over modality tokens v, mean over images.

    u_l is an update by layer l, h_j the input of layer j, and a_j(v) the attention to v in layer j,
    mean over its heads and over the text tokens after the first modality token.

    Attributes:
        attention: (L,) of the update by attention.
        mlp: (L,) of the update by the MLP.
        both: (L,) of their sum, the whole update.
    """

    attention: Floats
    mlp: Floats
    both: Floats


@torch.no_grad()
def observed_updates(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> ObservedUpdates:
    """Measure the observed updates in one forward pass."""
    check_reads_prompt(vlm, "updates of modality tokens")
    observed = np.empty((len(items), 3, vlm.layout.n_layers))
    for batch in tracked(vlm, items, batch_size, "updates that text observes"):
        observed[list(batch.places)] = _of_batch(vlm, batch).double().cpu().numpy()
    return ObservedUpdates(*image_mean(observed, [item.cluster for item in items]))


def _of_batch(vlm: VLM, batch: Batch) -> Tensor:
    """(batch, 3, L) of attention, MLP and both, of every question."""
    vision, real = token_masks(vlm, batch)
    text = readers(vision, real)
    lengths: dict[int, Tensor] = {}  # layer -> (3, batch, t) lengths of the updates
    reads: dict[int, Tensor] = {}  # layer -> (batch, t) attention over length of the state
    attention: dict[int, Tensor] = {}

    def on_attention(layer: int, weights: Tensor) -> None:
        share = text.valid.to(weights)
        share = share / share.sum(1, keepdim=True).clamp(min=1)
        attention[layer] = torch.einsum("bqk,bq->bk", weights.mean(1), share)

    def on_parts(layer: int, before: Tensor, between: Tensor, after: Tensor) -> None:
        if layer not in attention:
            raise BridgeError(
                f"layer {layer} of {vlm.name} computes its attention without transformers' "
                "AttentionInterface, so it is not known which updates text reads; rank by another "
                "rule, such as skip-vision"
            )
        parts = (between - before, after - between, after - before)
        lengths[layer] = torch.stack([part.float().norm(dim=-1) for part in parts])
        tiny = torch.finfo(torch.float32).tiny
        reads[layer] = attention.pop(layer) / before.float().norm(dim=-1).clamp(min=tiny)

    with (
        capturing_attention(vlm, on_attention, text.index.to),
        capturing_parts(vlm, on_parts),
    ):
        first_logits(vlm, batch)
    later = torch.zeros_like(vision, dtype=torch.float32)
    columns: list[Tensor] = []
    for layer in reversed(range(vlm.layout.n_layers)):
        columns.append((lengths[layer].to(later) * later * vision).sum(-1))
        later = later + reads[layer].to(later)
    return torch.stack(columns[::-1], dim=-1).transpose(0, 1)


def readers(vision: Tensor, real: Tensor) -> Rows:
    """The text tokens after the first modality token, of every sequence; both (batch, t) bool."""
    started = vision.to(torch.uint8).cummax(1).values.bool()
    text = started & ~vision & real
    return Rows(text, text.sum(1).tolist())
