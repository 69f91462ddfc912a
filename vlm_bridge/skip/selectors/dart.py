"""DART (Wen et al. 2025, arXiv 2502.11494): leave out tokens that duplicate a few pivots."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

#: Pivots among the modality tokens and among the text, as in the authors' code.
PIVOTS = 4


def dart_places(features: Tensor, text: Tensor, quota: int, seed: int) -> Tensor:
    """(quota,) places: pivots, and by turns the tokens least similar to each pivot.

    Pivots are the `PIVOTS` modality tokens and the `PIVOTS` tokens of text with the largest L1
    norm. The former stay; each of all pivots then adds an equal share of the rest, those of least
    cosine similarity to it.
    """
    pivots = features.abs().sum(-1).topk(min(PIVOTS, quota)).indices
    words = text.abs().sum(-1).topk(min(PIVOTS, len(text))).indices
    similar = normalize(torch.cat([features[pivots], text[words]]), dim=-1)
    similar = similar @ normalize(features, dim=-1).T
    taken = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    taken[pivots] = True
    left, chosen = quota - len(pivots), [pivots]
    for number, row in enumerate(similar):
        share = left // (len(similar) - number)
        least = row.masked_fill(taken, float("inf")).topk(share, largest=False).indices
        taken[least] = True
        chosen.append(least)
        left -= share
    return torch.cat(chosen)
