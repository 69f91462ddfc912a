"""DivPrune (Alvar et al. 2025, arXiv 2503.02175): tokens as far from each other as possible."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def divprune_places(features: Tensor, text: Tensor, quota: int, seed: int) -> Tensor:
    """(quota,) places that greedily maximise the least cosine distance among the chosen.

    The first is the token whose nearest neighbour is farthest; each further one is farthest from
    its nearest chosen token. The earlier of equals.

    >>> angles = torch.tensor([0.0, 0.1, 0.2, 1.5])
    >>> divprune_places(torch.stack([angles.cos(), angles.sin()], 1), angles[:0], 2, 0).tolist()
    [3, 0]
    """
    unit = normalize(features, dim=-1)
    similar = unit @ unit.T
    distance = 1.0 - (similar + similar.T) / 2  # a product need not be symmetric to the last bit
    alone = distance.clone()
    alone.fill_diagonal_(float("inf"))
    chosen = [alone.min(dim=1).values.nan_to_num(posinf=0.0).argmax()]
    nearest = distance[chosen[0]].clone()
    for _ in range(quota - 1):
        nearest[chosen[-1]] = -float("inf")
        chosen.append(nearest.argmax())
        nearest = nearest.minimum(distance[chosen[-1]])
    return torch.stack(chosen)
