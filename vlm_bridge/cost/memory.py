"""Bytes: of the key-value cache, and at the peak of a pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def cache_bytes(cache: Any) -> int:
    """Bytes of all keys and values a transformers cache holds, placeholders included."""
    held = [
        states
        for layer in cache.layers
        for states in (getattr(layer, "keys", None), getattr(layer, "values", None))
        if isinstance(states, Tensor)
    ]
    return sum(states.nbytes for states in held)


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors alive at once that `run` made; weights and inputs are not counted.

    On a CUDA device the allocator's own peak; elsewhere the storages of all results of all
    operations are followed, which leaves out what an operation uses only inside itself.

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
    """Follows every storage from the operation that makes it until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for given in tree_leaves((args, kwargs)):
            self._follow(given, made=False)
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            self._follow(made, made=True)
        return result

    def _follow(self, leaf: object, *, made: bool) -> None:
        if not isinstance(leaf, Tensor):
            return
        storage = leaf.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        # A view of a weight comes out of an operation too, but its storage went in before.
        self._alive[key] = storage.nbytes() if made else 0
        self.now += self._alive[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._alive.pop(key)
