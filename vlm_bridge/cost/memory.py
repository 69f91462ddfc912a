"""Memory: bytes of the key-value cache, and peak bytes of a forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import EncoderDecoderCache


def cache_bytes(cache: Any) -> int:
    """Bytes of all keys, values and states in a transformers cache, placeholders included.

    Those of an encoder-decoder are of the self-attentions and of the cross-attentions.
    """
    if isinstance(cache, EncoderDecoderCache):
        return cache_bytes(cache.self_attention_cache) + cache_bytes(cache.cross_attention_cache)
    names = ("keys", "values", "indexer_keys", "conv_states", "recurrent_states")
    held = [getattr(layer, name, None) for layer in cache.layers for name in names]
    return sum(states.nbytes for states in tree_leaves(held) if isinstance(states, Tensor))


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Peak bytes of the tensors that `run` creates; weights and inputs are not counted.

    On a CUDA device, the allocator's peak. Elsewhere, the storages of the results of all
    operations are tracked, without memory that an operation uses internally.

    Example:
        >>> def run():
        ...     a = torch.ones(1000)  # 4,000 bytes
        ...     b = a + 1
        ...     del a
        ...     return b * 2
        >>> peak_bytes(run, torch.device("cpu"))
        8000
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with _LiveBytes() as live:
        run()
    return int(live.peak)


class _LiveBytes(TorchDispatchMode):
    """Tracks every storage from the operation that creates it until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            self._track(leaf, created=False)
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            self._track(leaf, created=True)
        return result

    def _track(self, leaf: object, *, created: bool) -> None:
        if not isinstance(leaf, Tensor):
            return
        storage = leaf.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        # A view of a weight is a result, too, but its storage was an input before: 0 bytes.
        self._alive[key] = storage.nbytes() if created else 0
        self.now += self._alive[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._alive.pop(key)
