"""Start a forward pass at a layer, from hidden states of an earlier pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor

from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.patching import patched


@contextlib.contextmanager
def starting_at(vlm: VLM, start: int, states: dict[int, Tensor]) -> Iterator[None]:
    """Layers before `start` compute nothing; the last of them returns its output in `states`."""

    def identity(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return hidden_states

    def recall(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return states[start - 1].to(hidden_states.device)

    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(vlm.layout.layers[:start]):
            stack.enter_context(patched(layer, recall if index == start - 1 else identity))
        yield
