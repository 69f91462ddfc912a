"""A forward pass that begins at a layer, from states that an earlier pass computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor

from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.patching import patched


@contextlib.contextmanager
def starting_at(vlm: VLM, start: int, states: dict[int, Tensor]) -> Iterator[None]:
    """Layers before `start` compute nothing; the last of them returns what it once returned."""
    with contextlib.ExitStack() as stack:
        for index in range(start):
            last = states[index] if index == start - 1 else None
            stack.enter_context(patched(vlm.layout.layers[index], _Recall(last)))
        yield


class _Recall:
    def __init__(self, states: Tensor | None) -> None:
        self.states = states

    def __call__(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return hidden_states if self.states is None else self.states.to(hidden_states.device)
