"""A cache whose rows keep different numbers of new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip.stamp import Stamp


def check_croppable(cache: Any) -> None:
    """Raise a `BridgeError` unless tokens can be taken back from every layer of a cache."""
    Stamp().check(cache)
    for index, layer in enumerate(getattr(cache, "layers", ())):
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise BridgeError(
                f"cache layer {index} is a {type(layer).__name__}, from which rejected tokens "
                "cannot be taken back; generation with a draft needs a DynamicCache"
            )
    if cache is not None and cache.offloading:
        raise BridgeError(
            "rejected tokens cannot be taken back from an offloaded cache; generation with a draft "
            "needs a DynamicCache without offloading"
        )


def rewind(cache: Any, count: int) -> None:
    """Remove the last `count` tokens from every layer; sliding ones keep all that they held before.

    `crop` cuts a sliding layer to its window, so that no earlier token could be removed later on.
    """
    for layer in cache.layers:
        if not layer.is_initialized:
            continue
        if layer.is_sliding:
            layer.keys, layer.values = layer.keys[..., :-count, :], layer.values[..., :-count, :]
            layer.cumulative_length -= count
        else:
            layer.crop(-count)


def keep_ends(cache: Any, ends: Sequence[int], length: int) -> None:
    """Cut row r of every layer behind its first `ends[r]` tokens, and move it to the right end.

    The cache then holds `length` tokens of every row, the last of each at the end. Keys were
    rotated before they were cached, so that they may move. Rows shorter than `length` begin with
    keys of no meaning, which the attention mask has to hide.
    """
    held = cache.get_seq_length()
    if all(end == length for end in ends):
        cache.crop(length - held)
        return
    for layer in cache.layers:
        if not layer.is_initialized:
            continue
        window = layer.sliding_window if layer.is_sliding else None
        width = length if window is None or length < window else window - 1
        first = layer.get_seq_length() - layer.keys.shape[2]
        last = torch.tensor(ends, device=layer.keys.device)[:, None] - first
        index = (last - width + torch.arange(width, device=last.device)).clamp(min=0)
        layer.keys, layer.values = _rows(layer.keys, index), _rows(layer.values, index)
        if window is not None:
            layer.cumulative_length = length


def _rows(states: Tensor, index: Tensor) -> Tensor:
    """(batch, heads, m, width): of every row the tokens at `index` (batch, m)."""
    at = index[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
    return states.gather(2, at)
