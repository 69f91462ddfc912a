"""CDPruner (Zhang et al. 2025, arXiv 2506.10967): tokens that differ, given the question."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def cdpruner_places(features: Tensor, text: Tensor, quota: int, seed: int) -> Tensor:
    """(quota,) places that greedily maximise the determinant of `diag(r) S diag(r)`.

    S is the cosine similarity of the modality tokens, r their relevance: the cosine with the mean
    of the text, scaled to [0, 1] over the prompt. The greedy step adds the token that multiplies
    the determinant most (Chen et al. 2018, arXiv 1709.05135).

    >>> eye = torch.eye(3)
    >>> cdpruner_places(eye, torch.tensor([[1.0, 0.2, 0.1]]), 2, 0).tolist()
    [0, 1]
    """
    unit = normalize(features, dim=-1)
    relevance = torch.ones(len(unit), device=unit.device)
    if len(text):
        cosine = unit @ normalize(text.mean(0), dim=-1)
        low, high = cosine.min(), cosine.max()
        relevance = (cosine - low + _TINY) / (high - low + _TINY)
    kernel = relevance[:, None] * (unit @ unit.T) * relevance[None, :]
    gain = relevance.square()  # the diagonal of the kernel, without its rounding
    factors = gain.new_zeros(quota, len(gain))
    chosen: list[Tensor] = []
    for step in range(quota):
        best = gain.argmax()
        chosen.append(best)
        row = (kernel[best] - factors[:step, best] @ factors[:step]) / gain[best].clamp(
            min=_TINY
        ).sqrt()
        factors[step] = row
        gain = gain - row.square()
        gain[torch.stack(chosen)] = -float("inf")
    return torch.stack(chosen)


#: Keeps the least relevant token from being impossible, and a division from being by zero.
_TINY = 1e-6
