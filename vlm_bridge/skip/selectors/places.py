"""Controls that choose by position alone."""

from __future__ import annotations

import torch
from torch import Tensor


def random_places(features: Tensor, text: Tensor, quota: int, seed: int) -> Tensor:
    """(quota,) places drawn without replacement, the same for the same seed and number of tokens.

    >>> random_places(torch.zeros(9, 1), torch.zeros(0, 1), 3, 0).tolist()
    [8, 0, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(features), generator=generator)[:quota].to(features.device)


def uniform_places(features: Tensor, text: Tensor, quota: int, seed: int) -> Tensor:
    """(quota,) places at even distances, `floor((i + 1/2) n / quota)`.

    >>> uniform_places(torch.zeros(9, 1), torch.zeros(0, 1), 3, 0).tolist()
    [1, 4, 7]
    """
    steps = torch.arange(quota, device=features.device)
    return (2 * steps + 1) * len(features) // (2 * quota)
