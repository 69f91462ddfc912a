"""States at the last token of the prompt, for the rules that look there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators.clustered import image_mean
from vlm_bridge.model.prompts import batches
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.runtime.progress import track

Floats = NDArray[np.float64]


def last_token_states(evidence: Evidence) -> Floats:
    """(L + 1, n_items, width) state l is the input of layer l, state L the last layer's output.

    One forward pass, paid for as that. Prompts are padded on the left, so the last position is
    the last token.
    """
    return evidence.measured("last-token states", lambda: _measure(evidence))


@torch.no_grad()
def _measure(evidence: Evidence) -> Floats:
    vlm = evidence.vlm
    n_layers = vlm.layout.n_layers
    found: Floats = np.empty(0)
    with track("states at the last token", len(evidence.items)) as advance:
        for batch in batches(vlm, evidence.items, batch_size=evidence.batch_size):
            seen: list[Tensor | None] = [None] * (n_layers + 1)

            def keep(
                layer: int, before: Tensor, after: Tensor, seen: list[Tensor | None] = seen
            ) -> None:
                seen[layer], seen[layer + 1] = before[:, -1], after[:, -1]

            with capturing_states(vlm, keep):
                vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
            states = np.stack([one.double().cpu().numpy() for one in seen if one is not None])
            if not found.size:
                found = np.empty((n_layers + 1, len(evidence.items), states.shape[2]))
            found[:, list(batch.places)] = states
            advance(len(batch.items))
    return found


def cosine(a: Floats, b: Floats) -> Floats:
    """(n,) cosine of paired rows; 0 where one is zero."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(axis=-1) / np.where(lengths > 0, lengths, np.inf))


def by_image(values: Floats, clusters: list[str]) -> float:
    """Mean over images of the mean over an image's questions."""
    return float(image_mean(values, clusters))
