"""States at the last token of the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.runtime.progress import track

Floats = NDArray[np.float64]


@torch.no_grad()
def last_token_states(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(L + 1, n_items, width): state l is the input of layer l, state L the last layer's output.

    One forward pass. Prompts are padded on the left, so the last position is the last token.
    """
    n_layers = vlm.layout.n_layers
    states: Floats = np.empty(0)
    with track("states at the last token", len(items)) as advance:
        for batch in batches(vlm, items, batch_size=batch_size):
            of_batch: dict[int, Tensor] = {}

            def store(
                layer: int, before: Tensor, after: Tensor, to: dict[int, Tensor] = of_batch
            ) -> None:
                to[layer], to[layer + 1] = before[:, -1], after[:, -1]

            with capturing_states(vlm, store):
                vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
            rows = np.stack([of_batch[i].double().cpu().numpy() for i in range(n_layers + 1)])
            if not states.size:
                states = np.empty((n_layers + 1, len(items), rows.shape[2]))
            states[:, list(batch.places)] = rows
            advance(len(batch.items))
    return states
