"""Attention that begins by looking for what is alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlm_bridge.layout import Layout

_LOOK, _CARRY = 1.0, 0.25
SCALE = 0.25  #: of every coordinate of what enters the decoder, at the start


@torch.no_grad()
def look_for_alike(layout: Layout, heads: int, seed: int) -> None:
    """Start every attention so that a token reads those that resemble it.

    In each head `W_q = W_k` are orthonormal rows, and the output projection
    carries the values, read by orthonormal rows, back to where they were read: the mimetic
    start of Trockman and Kolter (arXiv 2305.09828), which random attention takes tens of
    thousands of questions to find. Where vision tokens lie near the words for them, a
    question's word then finds its object in the image from the first step. Word
    embeddings start at a scale that one layer's update does not drown.
    """
    generator = torch.Generator().manual_seed(seed)
    table: Any = layout.decoder.embed_tokens
    table.weight.mul_(SCALE / table(torch.arange(len(table.weight))).std())
    for layer in layout.layers:
        attention: Any = layer.self_attn
        width = attention.q_proj.in_features
        size = attention.q_proj.out_features // heads
        groups = attention.k_proj.out_features // size
        looks = [_rows(size, width, generator) for _ in range(groups)]
        reads = [_rows(size, width, generator) for _ in range(groups)]
        shared = heads // groups
        attention.k_proj.weight.copy_(torch.cat(looks) * _LOOK)
        attention.q_proj.weight.copy_(torch.cat([w for w in looks for _ in range(shared)]) * _LOOK)
        attention.v_proj.weight.copy_(torch.cat(reads) * _CARRY)
        back = torch.cat([w for w in reads for _ in range(shared)])
        attention.o_proj.weight.copy_(back.T * _CARRY)


def _rows(count: int, width: int, generator: torch.Generator) -> Tensor:
    made: Tensor = torch.linalg.qr(torch.randn(width, count, generator=generator))[0]
    return made.T
