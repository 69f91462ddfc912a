"""ARank of gamma-MoD (Luo et al. 2024, arXiv 2410.13859): attention maps of low rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators.clustered import image_mean
from vlm_bridge.model.prompts import batches
from vlm_bridge.observe.hooks import capturing_attention
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase
from vlm_bridge.runtime.progress import track


@dataclass(frozen=True, kw_only=True)
class ARank(RuleBase):
    """`mean rank(A_h)` over heads and prompts of a layer's attention maps; low is redundant.

    A causal map has positive numbers on its diagonal and none above, so its exact rank is full;
    what differs from layer to layer is the rank in float32 (singular values above
    `n eps s_max`, as `torch.linalg.matrix_rank` has it).
    """

    name: str = "arank"
    modes: tuple[str, ...] = ("block",)
    source: str = "Luo et al. 2024, arXiv:2410.13859, rank of attention maps"
    condition: str = "none of the four"
    requires: str = "forward pass"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) mean rank, between 1 and the length of the prompts."""
        return evidence.measured("rank of attention maps", lambda: _measure(evidence))


@torch.no_grad()
def _measure(evidence: Evidence) -> NDArray[np.float64]:
    vlm = evidence.vlm
    ranks = np.zeros((len(evidence.items), evidence.n_layers))
    with track("rank of attention maps", len(evidence.items)) as advance:
        for batch in batches(vlm, evidence.items, batch_size=evidence.batch_size):
            ids = batch.inputs["input_ids"]
            mask = batch.inputs.get("attention_mask", torch.ones_like(ids))
            places = list(batch.places)

            def keep(
                layer: int, maps: Tensor, places: list[int] = places, mask: Tensor = mask
            ) -> None:
                ranks[places, layer] = mean_rank(maps, mask.bool())

            with capturing_attention(vlm, keep):
                vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
            advance(len(batch.items))
    return image_mean(ranks, evidence.clusters)


def mean_rank(maps: Tensor, real: Tensor) -> NDArray[np.float64]:
    """(batch,) mean over heads of the rank of each prompt's map, padding cut away.

    Args:
        maps: (batch, heads, length, length) attention probabilities.
        real: (batch, length) bool, no padding.
    """
    found = []
    for one, kept in zip(maps.float(), real.to(maps.device), strict=True):
        cut = one[:, kept][:, :, kept]
        found.append(float(torch.linalg.matrix_rank(cut).double().mean()))
    return np.array(found)
