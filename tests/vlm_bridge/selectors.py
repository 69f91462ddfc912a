"""Selectors written without tensors' shortcuts, in loops."""

from __future__ import annotations

import torch
from torch import Tensor


def farthest_first(features: Tensor, count: int) -> list[int]:
    """DivPrune: each token added is the one whose nearest chosen token is farthest."""
    unit = features / features.norm(dim=1, keepdim=True)
    distance = (1 - unit @ unit.T).tolist()
    every = range(len(unit))
    alone = [min((distance[i][j] for j in every if j != i), default=0.0) for i in every]
    chosen = [max(every, key=lambda i: (alone[i], -i))]
    while len(chosen) < count:
        rest = [i for i in every if i not in chosen]
        chosen.append(max(rest, key=lambda i: (min(distance[i][j] for j in chosen), -i)))
    return chosen


def largest_determinant(kernel: Tensor, count: int) -> list[int]:
    """Greedily, the token with which the determinant of the chosen is largest."""
    chosen: list[int] = []
    while len(chosen) < count:
        rest = [i for i in range(len(kernel)) if i not in chosen]
        of = {i: float(torch.linalg.det(kernel[[*chosen, i]][:, [*chosen, i]])) for i in rest}
        chosen.append(max(rest, key=lambda i: (of[i], -i)))
    return chosen


def relevant_words(states: Tensor, vision: Tensor, there: Tensor | None = None) -> list[int]:
    """SparseVLM: places of the words that rate, of one prompt's states (t, width).

    `there` are the vision tokens that an earlier stage has left; by default all.
    """
    left = vision if there is None else there
    seen = [i for i, v in enumerate(left.tolist()) if v]
    first = vision.tolist().index(True)
    words = [i for i, v in enumerate(vision.tolist()) if not v and i > first]
    if not words:
        return [len(states) - 1]
    relevance = dict.fromkeys(words, 0.0)
    for i in seen:
        shares = torch.stack([(states[i] * states[w]).sum() for w in words]).softmax(0)
        for word, share in zip(words, shares.tolist(), strict=True):
            relevance[word] += share / len(seen)
    mean = sum(relevance.values()) / len(words)
    return [word for word in words if relevance[word] > mean] or words
