"""The offset between tokens and positions that M-RoPE models remember from pass to pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import RLock
from typing import Any

_NAME = "_skipit_rope_deltas"


class RotaryOffset:
    """`rope_deltas` of a model, remembered by every cache instead of by the model alone.

    A conversation goes on with its own offset whatever the model has seen in between: other
    prompts, another block of `skipping`. Passes of such a model run one after another.
    """

    def __init__(self, modules: tuple[Any, ...]) -> None:
        self._modules = [m for m in dict.fromkeys(modules) if hasattr(m, "rope_deltas")]
        self._lock = RLock()
        self._before = [module.rope_deltas for module in self._modules]

    def restore(self) -> None:
        """Give the model the offset back that it had before the block."""
        for module, value in zip(self._modules, self._before, strict=True):
            module.rope_deltas = value

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads out while the model remembers an offset."""
        with self._lock if self._modules else contextlib.nullcontext():
            yield

    def recall(self, cache: Any, *, fresh: bool) -> None:
        """Set the offset of a conversation that goes on with `cache`; a `fresh` one has none."""
        if not self._modules:
            return
        if cache is not None and cache.get_seq_length() > 0:
            for module, value in zip(
                self._modules, cache.__dict__.get(_NAME, self._before), strict=True
            ):
                module.rope_deltas = value
        elif fresh:
            for module in self._modules:
                module.rope_deltas = None

    def keep(self, cache: Any) -> None:
        """Let `cache`, if any, remember the offset of the pass that filled it."""
        if self._modules and cache is not None:
            cache.__dict__[_NAME] = [module.rope_deltas for module in self._modules]
